// SPDX-License-Identifier: Apache-2.0
import { randomInt } from "node:crypto";
import { DOOM_MAX, doomedLinkGroup, isLinkGroup, LINK_GROUP, LINK_PREFIX } from "../net/names.ts";
import { deleteLink, deleteLinkGroup, type Link, setNamedLinkGroup } from "../netlink/link.ts";
import { THREADS_WITH_THE_KERNEL } from "../sys/thread-pool.ts";
import { GONE, isGone, LinkDeleter } from "./link-deleter.ts";

/** Links of one deletion. Each answers to its marking, and those of some 250 fill a receive buffer. */
const TOGETHER_MAX = 128;

interface Waiting {
  readonly done: () => void;
  readonly failed: (error: unknown) => void;
}

/**
 * Deletes host ends for whoever asks. What ends of a veth makes the kernel busy for 10 ms and more; those who ask meanwhile go
 * together when there is no deleter left: their links get a group of their own, and one request deletes all of it in about the
 * time of one. Nobody else's link is in that group, unless somebody looks which it is and puts one there.
 */
export class LinkRemover {
  readonly #deleters: readonly LinkDeleter[];
  readonly #doom: () => number;
  #waiting = new Map<string, Waiting[]>();
  #running: Promise<void> | undefined;

  private constructor(deleters: readonly LinkDeleter[], doom: () => number) {
    this.#deleters = deleters;
    this.#doom = doom;
  }

  /**
   * In the calling thread's network namespace. Finishes what a daemon before began and was killed in.
   * @param links that there are; only those with our mark and our kind of name are looked at
   * @param doom numbers for `doomedLinkGroup`
   * @throws NetlinkError, SysError
   */
  static async start(links: readonly Link[], doom = () => randomInt(1, DOOM_MAX + 1)): Promise<LinkRemover> {
    const remover = new LinkRemover(
      Array.from({ length: THREADS_WITH_THE_KERNEL }, () => LinkDeleter.open()),
      doom,
    );
    const begun = links.filter(
      ({ group, name }) => isLinkGroup(group) && group !== LINK_GROUP && name.startsWith(LINK_PREFIX),
    );
    try {
      const failures = await remover.#removeEach(
        await remover.#idleDeleter(),
        begun.map(({ name }) => name),
      );
      for (const failure of failures.values()) throw failure;
    } catch (error) {
      await remover.close();
      throw error;
    }
    return remover;
  }

  /**
   * Returns once there is no such link. One that isn't there is success.
   * @throws NetlinkError
   */
  remove(name: string): Promise<void> {
    const removed = new Promise<void>((done, failed) => {
      const others = this.#waiting.get(name);
      if (others === undefined) this.#waiting.set(name, [{ done, failed }]);
      else others.push({ done, failed });
    });
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return removed;
  }

  /** Waits for what has been asked for. */
  async close(): Promise<void> {
    await this.#running;
    await Promise.all(this.#deleters.map((deleter) => deleter.close()));
  }

  async #run(): Promise<void> {
    // Those who ask in the same turn of the event loop go together.
    await Promise.resolve();
    while (this.#waiting.size > 0) {
      const deleter = await this.#idleDeleter();
      const round = [...this.#waiting].slice(0, TOGETHER_MAX);
      for (const [name] of round) this.#waiting.delete(name);
      const failures = await this.#removeAll(
        deleter,
        round.map(([name]) => name),
      );
      for (const [name, all] of round) {
        const failure = failures.get(name);
        for (const { done, failed } of all) failure === undefined ? done() : failed(failure);
      }
    }
  }

  async #idleDeleter(): Promise<LinkDeleter> {
    for (;;) {
      const idle = this.#deleters.find(({ busy }) => busy === undefined);
      if (idle !== undefined) return idle;
      await Promise.race(this.#deleters.map(({ busy }) => busy));
    }
  }

  /** @returns why, for each that may still be there */
  async #removeAll(deleter: LinkDeleter, names: readonly string[]): Promise<Map<string, unknown>> {
    try {
      if (names.length === 1) return await this.#removeEach(deleter, names);
      const group = doomedLinkGroup(this.#doom());
      const doomed = await deleter.submit(names.map((name) => setNamedLinkGroup(name, group)));
      globalThis.faultPoint?.("daemon.links-doomed");
      const there = names.filter((_, i) => !isGone(doomed.errors[i]));
      if (there.length === 0) return new Map();
      const outcome = await deleter.delete([deleteLinkGroup(group)], there);
      // Without a look it isn't known of each: somebody may have put one in another group meanwhile.
      return outcome === GONE ? new Map() : await this.#removeEach(deleter, there);
    } catch (error) {
      return new Map(names.map((name) => [name, error]));
    }
  }

  /** One by one, where a group can't be deleted as a whole, and for what it has left. */
  async #removeEach(deleter: LinkDeleter, names: readonly string[]): Promise<Map<string, unknown>> {
    if (names.length === 0) return new Map();
    const errors = await deleter.delete(names.map(deleteLink), names);
    if (errors === GONE) return new Map();
    return new Map(
      names.flatMap((name, i) => (errors[i] === undefined || isGone(errors[i]) ? [] : [[name, errors[i]] as const])),
    );
  }
}
