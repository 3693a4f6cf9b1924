// SPDX-License-Identifier: Apache-2.0
//
// What the kernel tells of by itself: rtnetlink's multicast groups (RTNLGRP_* of include/uapi/linux/rtnetlink.h), on a socket
// of their own, so that a flood of them costs no answer.
import { RawNetlinkSocket } from "netlink/dist/raw.js";
import { NETLINK_ROUTE } from "./event-loop.ts";
import { decodeMessages, type Message } from "./message.ts";

export const RTNLGRP_LINK = 1;
export const RTNLGRP_IPV4_IFADDR = 5;
export const RTNLGRP_IPV4_ROUTE = 7;
export const RTNLGRP_IPV4_RULE = 8;
export const RTNLGRP_IPV6_IFADDR = 9;
export const RTNLGRP_IPV6_ROUTE = 11;
export const RTNLGRP_IPV6_RULE = 19;

/** As much as any program may have without asking (net.core.rmem_max's default). */
const RECEIVE_BUFFER = 212_992;
/** A socket that fails at once again is not opened in a circle. */
const REOPEN_MS = 100;

export interface EventHandlers {
  /** `message.body` is of this call only. */
  readonly onMessage: (message: Message) => void;
  /** Messages may have been lost (ENOBUFS, one cut off, a socket that broke): whoever follows has to look for itself. */
  readonly onLost: (why: unknown) => void;
}

export class KernelEvents {
  readonly #groups: readonly number[];
  readonly #handlers: EventHandlers;
  #socket: RawNetlinkSocket | undefined;
  #reopening: NodeJS.Timeout | undefined;

  private constructor(groups: readonly number[], handlers: EventHandlers) {
    this.#groups = groups;
    this.#handlers = handlers;
  }

  /** @param groups RTNLGRP_* @throws when there is no such socket or group */
  static open(groups: readonly number[], handlers: EventHandlers): KernelEvents {
    const events = new KernelEvents(groups, handlers);
    events.#open();
    return events;
  }

  close(): void {
    clearTimeout(this.#reopening);
    this.#reopening = undefined;
    this.#drop();
  }

  #open(): void {
    const socket = new RawNetlinkSocket(NETLINK_ROUTE);
    this.#socket = socket;
    try {
      socket.setRecvBufferSize(RECEIVE_BUFFER);
      for (const group of this.#groups) socket.addMembership(group);
    } catch (error) {
      this.#drop();
      throw error;
    }
    socket.on("message", (datagram, { port }) => {
      // Only the kernel has port 0; anybody with CAP_NET_ADMIN may send to a group.
      if (port === 0 && socket === this.#socket) this.#receive(datagram);
    });
    socket.on("truncatedMessage", () => {
      if (socket === this.#socket) this.#handlers.onLost(new Error("a notification was cut off"));
    });
    // libuv may have stopped to poll the socket by now, so a new one takes its place.
    socket.on("error", (error) => {
      if (socket === this.#socket) this.#reopen(error);
    });
  }

  #receive(datagram: Uint8Array): void {
    let messages: Message[];
    try {
      messages = decodeMessages(datagram);
    } catch (error) {
      this.#handlers.onLost(error);
      return;
    }
    for (const message of messages) this.#handlers.onMessage(message);
  }

  #reopen(why: unknown): void {
    this.#drop();
    this.#reopening ??= setTimeout(() => {
      this.#reopening = undefined;
      try {
        this.#open();
      } catch (error) {
        this.#reopen(error);
        return;
      }
      // After it listens again, so that nothing is between the look and the first event.
      this.#handlers.onLost(why);
    }, REOPEN_MS);
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }
}
