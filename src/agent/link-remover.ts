// SPDX-License-Identifier: Apache-2.0
import { DOOMED_LINK_GROUP, LINK_PREFIX } from "../net/names.ts";
import { BlockingNetlink, type Replies } from "../netlink/blocking.ts";
import { deleteLink, deleteLinkGroup, type Link, setNamedLinkGroup } from "../netlink/link.ts";
import type { NetlinkError, Request } from "../netlink/message.ts";
import { sys, writeAside } from "../sys/node.ts";

/** What may be asked of the kernel while the event loop goes on. */
export interface SlowNetlink {
  submit(requests: readonly Request[]): Promise<Replies>;
  close(): void;
}

/** A socket in the daemon's own network namespace. */
export function openSlowNetlink(): SlowNetlink {
  const socket = BlockingNetlink.open(sys);
  return {
    submit: (requests) => socket.submitAside(requests, writeAside),
    close: () => socket.close(),
  };
}

interface Waiting {
  readonly done: () => void;
  readonly failed: (error: unknown) => void;
}

/**
 * Deletes host ends for whoever asks. The end of a veth waits for a grace period of the kernel's RCU, 20 ms and more, in which no
 * other link can be made or deleted; those who ask meanwhile are next, together: their links get a group of their own, and one
 * request deletes all of it in about the time of one.
 */
export class LinkRemover {
  readonly #netlink: SlowNetlink;
  #waiting = new Map<string, Waiting[]>();
  #running: Promise<void> | undefined;

  private constructor(netlink: SlowNetlink) {
    this.#netlink = netlink;
  }

  /**
   * Finishes what a daemon before began and was killed in.
   * @param netlink closed with this
   * @param links that there are; only those with our mark and our kind of name are looked at
   * @throws NetlinkError
   */
  static async start(netlink: SlowNetlink, links: readonly Link[]): Promise<LinkRemover> {
    const remover = new LinkRemover(netlink);
    const begun = links.filter(({ group, name }) => group === DOOMED_LINK_GROUP && name.startsWith(LINK_PREFIX));
    try {
      const failures = await remover.#removeEach(begun.map(({ name }) => name));
      for (const failure of failures.values()) throw failure;
    } catch (error) {
      netlink.close();
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
    this.#netlink.close();
  }

  async #run(): Promise<void> {
    // Those who ask in the same turn of the event loop go together.
    await Promise.resolve();
    while (this.#waiting.size > 0) {
      const round = this.#waiting;
      this.#waiting = new Map();
      const failures = await this.#removeAll([...round.keys()]);
      for (const [name, all] of round) {
        const failure = failures.get(name);
        for (const { done, failed } of all) failure === undefined ? done() : failed(failure);
      }
    }
  }

  /** @returns why, for each that may still be there */
  async #removeAll(names: readonly string[]): Promise<Map<string, unknown>> {
    try {
      if (names.length > 1) {
        const doomed = await this.#netlink.submit(names.map((name) => setNamedLinkGroup(name, DOOMED_LINK_GROUP)));
        globalThis.faultPoint?.("daemon.links-doomed");
        const there = names.filter((_, i) => !isGone(doomed.errors[i]));
        const { errors } = await this.#netlink.submit([deleteLinkGroup(DOOMED_LINK_GROUP)]);
        if (errors[0] === undefined && doomed.errors.every((error) => error === undefined || isGone(error))) {
          return new Map();
        }
        return await this.#removeEach(there);
      }
      return await this.#removeEach(names);
    } catch (error) {
      return new Map(names.map((name) => [name, error]));
    }
  }

  /** One by one, where a group can't be deleted as a whole: somebody put in it what can't be deleted. */
  async #removeEach(names: readonly string[]): Promise<Map<string, unknown>> {
    if (names.length === 0) return new Map();
    const { errors } = await this.#netlink.submit(names.map(deleteLink));
    return new Map(
      names.flatMap((name, i) => (errors[i] === undefined || isGone(errors[i]) ? [] : [[name, errors[i]] as const])),
    );
  }
}

function isGone(error: NetlinkError | undefined): boolean {
  return error?.errnoName === "ENODEV";
}
