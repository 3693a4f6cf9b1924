// SPDX-License-Identifier: Apache-2.0
//
// The two effects of the node routes: reading what is there, and changing it. The socket is a blocking one, because the kernel
// answers in the send itself; between batches the rest of the daemon has its turn.
import { setImmediate as turn } from "node:timers/promises";
import { ROUTE_PROTOCOL } from "../net/names.ts";
import { BlockingNetlink } from "../netlink/blocking.ts";
import { decodeLink, dumpLinks, type Link } from "../netlink/link.ts";
import { NetlinkError, type Request } from "../netlink/message.ts";
import { decodeRoute, dumpRoutes, type Route } from "../netlink/route.ts";
import type { Sys } from "../sys/sys.ts";
import type { Answer } from "./ways.ts";

export interface RouteKernel {
  /** Every route that carries our number, in any table: node routes and the host routes to pods. @throws NetlinkError */
  routes(): Promise<Route[]>;
  /** @throws NetlinkError */
  links(): Promise<Link[]>;
  /**
   * What became of each change; one that is refused holds up none. Requests are made when it is their turn, so that ten
   * thousand of them are never there at once. @throws NetlinkError when the socket fails.
   */
  change<T>(items: readonly T[], toRequest: (item: T) => Request): Promise<(NetlinkError | undefined)[]>;
  /** What the kernel says to each look-up. @throws NetlinkError when the socket fails. */
  lookUp<T>(items: readonly T[], toRequest: (item: T) => Request): Promise<Answer[]>;
}

/** So many requests are one send, and one turn of the event loop. */
const BATCH = 128;
/** Room for the answers to a batch of look-ups, at 5 KiB each. The kernel doubles it. */
const RECEIVE_BUFFER = 1024 * 1024;
/** How many messages of a dump are read in one turn. */
const SLICE = 1024;

export class NetlinkRoutes implements RouteKernel {
  readonly #sys: Sys;
  #socket: BlockingNetlink | undefined;

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** By which notifications of our own changes can be told; 0 before there were any. */
  get port(): number {
    return this.#socket?.port ?? 0;
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  async routes(): Promise<Route[]> {
    const routes: Route[] = [];
    for (const family of [4, 6] as const) {
      const messages = this.#use((socket) => socket.dump(dumpRoutes(family, ROUTE_PROTOCOL)));
      for (const [i, message] of messages.entries()) {
        if (i % SLICE === SLICE - 1) await turn();
        const route = decodeRoute(message);
        // A kernel that can't filter (before 4.20) lists them all.
        if (route?.protocol === ROUTE_PROTOCOL) routes.push(route);
      }
    }
    return routes;
  }

  async links(): Promise<Link[]> {
    return this.#use((socket) => socket.dump(dumpLinks())).flatMap((message) => decodeLink(message) ?? []);
  }

  async change<T>(items: readonly T[], toRequest: (item: T) => Request): Promise<(NetlinkError | undefined)[]> {
    return this.#inBatches(items, toRequest, (socket, batch) => socket.change(batch));
  }

  async lookUp<T>(items: readonly T[], toRequest: (item: T) => Request): Promise<Answer[]> {
    return this.#inBatches(items, toRequest, (socket, batch) =>
      socket.ask(batch).map((reply) => (reply instanceof NetlinkError ? reply : decodeRoute(reply))),
    );
  }

  async #inBatches<T, R>(
    items: readonly T[],
    toRequest: (item: T) => Request,
    perform: (socket: BlockingNetlink, batch: readonly Request[]) => R[],
  ): Promise<R[]> {
    const results: R[] = [];
    for (let at = 0; at < items.length; at += BATCH) {
      if (at > 0) await turn();
      const batch = items.slice(at, at + BATCH).map(toRequest);
      results.push(...this.#use((socket) => perform(socket, batch)));
    }
    return results;
  }

  /** A socket that failed may have answers of the past in it: the next one to ask gets a new one. */
  #use<T>(work: (socket: BlockingNetlink) => T): T {
    this.#socket ??= BlockingNetlink.open(this.#sys, { strict: true, receiveBuffer: RECEIVE_BUFFER });
    try {
      return work(this.#socket);
    } catch (error) {
      this.close();
      throw error;
    }
  }
}
