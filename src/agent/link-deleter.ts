// SPDX-License-Identifier: Apache-2.0
//
// Deletions of links, and when they have come about. The kernel answers one late: what is left of a link's memory waits for
// a grace period of RCU, 10 to 30 ms, and the send with it (netdev_run_todo of net/core/dev.c). By then the link has long been gone. Its
// name, addresses, routes and neighbours, and those of a veth's other end, end in the first millisecond, under the rtnl lock, and no packet is
// on its way through it any more (unregister_netdevice_many_notify). Whoever asks for it under the same lock and hears that there is no such
// link knows all of that.
import { setTimeout as sleep } from "node:timers/promises";
import { BlockingNetlink, type Replies } from "../netlink/blocking.ts";
import { getLink } from "../netlink/link.ts";
import type { NetlinkError, Request } from "../netlink/message.ts";
import { sys, writeAside } from "../sys/node.ts";

/** What may be asked of the kernel while the event loop goes on. */
export interface SlowNetlink {
  submit(requests: readonly Request[]): Promise<Replies>;
  close(): void;
}

/** A socket in the calling thread's network namespace. */
export function openSlowNetlink(): SlowNetlink {
  const socket = BlockingNetlink.open(sys);
  return {
    submit: (requests) => socket.submitAside(requests, writeAside),
    close: () => socket.close(),
  };
}

/** Before a second look, in milliseconds, which then doubles up to the most. */
const LOOK_MS = 1;
const LOOK_MS_MAX = 8;
/** Looks in one send. Links that are still there have long answers, and those about 64 fill a receive buffer. */
const LOOKS_AT_ONCE = 32;

export type Outcome = typeof GONE | readonly (NetlinkError | undefined)[];

/** What a look has found of all links that a deletion was to delete. */
export const GONE = "gone";

/** One deletion after the other. */
export class LinkDeleter {
  readonly #deleting: SlowNetlink;
  readonly #looking: SlowNetlink;
  #busy: Promise<void> | undefined;

  /** Both sockets are the deleter's from now on; `close` closes them. */
  constructor(deleting: SlowNetlink, looking: SlowNetlink) {
    this.#deleting = deleting;
    this.#looking = looking;
  }

  /** In the calling thread's network namespace. @throws SysError */
  static open(): LinkDeleter {
    const deleting = openSlowNetlink();
    try {
      return new LinkDeleter(deleting, openSlowNetlink());
    } catch (error) {
      deleting.close();
      throw error;
    }
  }

  /** Resolves when the kernel is done with the last deletion; undefined when it is. */
  get busy(): Promise<void> | undefined {
    return this.#busy;
  }

  /** Requests that aren't deletions. @throws NetlinkError when the kernel can't be asked */
  async submit(requests: readonly Request[]): Promise<Replies> {
    await this.#busy;
    return this.#deleting.submit(requests);
  }

  /**
   * Returns once none of the links is there, or the kernel has said why not; it may be `busy` with them for longer.
   * @param requests that delete the links
   * @returns the refusal of each request, by its place, where the kernel was first
   * @throws NetlinkError when the kernel can't be asked
   */
  async delete(requests: readonly Request[], names: readonly string[]): Promise<Outcome> {
    await this.#busy;
    const ended: Promise<Outcome> = this.#deleting.submit(requests).then(({ errors }) => errors);
    const seen = this.#seeGone(names, ended);
    this.#busy = Promise.allSettled([ended, seen]).then(() => {
      this.#busy = undefined;
    });
    return Promise.race([ended, seen.then((gone) => (gone ? GONE : ended))]);
  }

  async close(): Promise<void> {
    await this.#busy;
    this.#deleting.close();
    this.#looking.close();
  }

  /** @returns false when the deletion has ended, or nothing could be seen: then its end says what became of it */
  async #seeGone(names: readonly string[], ended: Promise<unknown>): Promise<boolean> {
    let over = false;
    const end = () => {
      over = true;
    };
    ended.then(end, end);
    // The first look's thread is behind the deletion's, and waits for the lock that this one has: it is nearly always the last.
    for (let ms = LOOK_MS; !over; ms = Math.min(2 * ms, LOOK_MS_MAX)) {
      try {
        if (await this.#areGone(names)) return true;
      } catch {
        return false;
      }
      await sleep(ms);
    }
    return false;
  }

  async #areGone(names: readonly string[]): Promise<boolean> {
    for (let at = 0; at < names.length; at += LOOKS_AT_ONCE) {
      const { errors } = await this.#looking.submit(names.slice(at, at + LOOKS_AT_ONCE).map(getLink));
      if (!errors.every(isGone)) return false;
    }
    return true;
  }
}

/** Whether there is no such link. */
export function isGone(error: NetlinkError | undefined): boolean {
  return error?.errnoName === "ENODEV";
}
