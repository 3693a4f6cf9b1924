// SPDX-License-Identifier: Apache-2.0
import { formatAddress } from "../net/address.ts";
import { formatPrefix } from "../net/prefix.ts";
import { NETLINK_ROUTE } from "../netlink/event-loop.ts";
import { listen } from "../netlink/notifications.ts";
import { describeRoute, type Route } from "../netlink/route.ts";
import { NetlinkRoutes } from "../routes/kernel.ts";
import { Reconciler, type ReconcilerOptions, type SubnetWay } from "../routes/reconciler.ts";
import { GROUPS, isRelevant } from "../routes/relevance.ts";
import type { Node, NodeSource } from "../routes/source.ts";
import type { WayState } from "../routes/ways.ts";
import { ListeningSocket, sys } from "../sys/node.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";

/** Between looks at everything that nothing asked for. */
const PASS_INTERVAL_MS = 30_000;
/** After a pass that failed. */
const PASS_RETRY_MS = 500;
/** Files and routing tables change in several steps; this long after the last one they are read. */
const SETTLE_MS = 50;
/** Room for events between two reads, in bytes: thousands of them. */
const EVENTS_BUFFER = 1 << 20;
/** So many routes or problems are named in one line of the log; of the others only how many they are. */
const NAMED_AT_ONCE = 20;

export interface RouteKeeperOptions extends ReconcilerOptions {
  readonly source: NodeSource;
  readonly log: Log;
}

/**
 * Keeps the node's routes as the source of nodes says: at once when it or the kernel says that something changed, and at
 * intervals. A source that has become unreadable changes nothing: the nodes that were last known stand.
 */
export class RouteKeeper {
  readonly #source: NodeSource;
  readonly #log: Log;
  readonly #kernel: NetlinkRoutes;
  readonly #reconciler: Reconciler;
  readonly #closers: (() => unknown)[] = [];
  #nodes: readonly Node[] = [];
  #next: ((nodes: readonly Node[]) => unknown) | undefined;
  #synced = false;
  #closed = false;
  #mtu = 0;
  #lost = 0;
  /** What was last complained about, so that a standing problem is one line and not one a pass. */
  #complaints = "";

  private constructor({ source, log, ...options }: RouteKeeperOptions) {
    this.#source = source;
    this.#log = log;
    this.#kernel = new NetlinkRoutes(sys);
    this.#reconciler = new Reconciler(this.#kernel, options);
  }

  /**
   * Returns once there has been a pass over all routes.
   * @throws NetlinkError when the kernel can't be read
   */
  static async start(options: RouteKeeperOptions): Promise<RouteKeeper> {
    const keeper = new RouteKeeper(options);
    try {
      await keeper.#start();
    } catch (error) {
      await keeper.close();
      throw error;
    }
    return keeper;
  }

  /** Returns once no pass runs any more. May be called again. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) await close();
    this.#kernel.close();
  }

  /** The nodes that are known, as of the last pass; none before they are. */
  get nodes(): readonly Node[] {
    return this.#nodes;
  }

  /** Has something else done after each pass from now on, with the nodes as they are then. */
  afterwards(next: (nodes: readonly Node[]) => unknown): void {
    this.#next = next;
  }

  /** MTU in bytes that pods can have, as of the last pass. */
  get mtu(): number {
    return this.#reconciler.mtu;
  }

  /**
   * Whether a pass has been complete: the nodes were known, every route was tried, and not all ways to peers were broken. A
   * single way that is broken doesn't count: one wrong node must not make every node refuse pods.
   */
  get synced(): boolean {
    return this.#synced;
  }

  /** Every subnet of every node, and what became of its route. */
  ways(): SubnetWay[] {
    return [...this.#reconciler.ways()];
  }

  /** How many subnets are in each state, this node's own included; and how often events of the kernel were lost. */
  counts(): { readonly states: Readonly<Record<WayState, number>>; readonly eventsLost: number } {
    return { states: this.#reconciler.counts(), eventsLost: this.#lost };
  }

  async #start(): Promise<void> {
    const loop = new Loop(() => this.#pass(), {
      name: "routes",
      settleMs: SETTLE_MS,
      intervalMs: PASS_INTERVAL_MS,
      retryMs: PASS_RETRY_MS,
      onError: (err) => {
        this.#reconciler.lookAgain();
        this.#log.error({ err }, "the routes could not be brought up to date");
      },
    });
    // One pass at a time: until the first is over, whatever comes is left to the one after it.
    let begun = false;
    const request = () => {
      if (begun) loop.request();
    };
    const look = () => {
      this.#reconciler.lookAgain();
      request();
    };
    // Before the first look, so that nothing is missed between it and the first event.
    const socket = ListeningSocket.open(NETLINK_ROUTE, GROUPS, EVENTS_BUFFER, "here");
    const deafen = listen(socket, {
      onMessage: (message) => {
        if (isRelevant(message, this.#reconciler.view, this.#kernel.port)) look();
      },
      onLost: (err) => {
        this.#lost++;
        this.#log.debug({ err }, "events of the kernel were lost; looking at all routes");
        look();
      },
    });
    this.#closers.push(deafen);
    const watching = this.#source.watch(request);
    this.#closers.push(() => watching.close());
    await this.#pass();
    begun = true;
    loop.request();
    this.#closers.push(() => loop.stop());
    // A timer of its own: the loop's interval begins anew with each pass, and changes of nodes could put it off for ever.
    const backstop = setInterval(look, PASS_INTERVAL_MS);
    this.#closers.push(() => clearInterval(backstop));
  }

  async #pass(): Promise<void> {
    const { nodes, restored, problem } = await this.#source.read();
    const { set, removed, stuck } = await this.#reconciler.pass(nodes, restored);
    this.#nodes = nodes ?? [];
    if (set.length > 0) this.#log.info(named(set), "routes set");
    if (removed.length > 0) this.#log.info(named(removed), "routes removed");
    if (this.#reconciler.mtu !== this.#mtu) this.#log.info({ mtu: this.#reconciler.mtu }, "MTU of new pods");
    this.#mtu = this.#reconciler.mtu;
    // A source that can't be asked now has said before who there is, and the node has to take pods without it.
    this.#synced ||= nodes !== undefined && this.#reconciler.leadsSomewhere;
    const others = [problem, this.#reconciler.problem, ...stuck].filter((text) => text !== undefined);
    this.#complain([...others, ...this.#reconciler.broken().map(describeWay)]);
    await this.#next?.(this.#nodes);
  }

  #complain(complaints: readonly string[]): void {
    const text = complaints.join("\n");
    if (text === this.#complaints) return;
    this.#complaints = text;
    if (text === "") this.#log.info("all nodes and routes are in order again");
    else {
      const problems = complaints.slice(0, NAMED_AT_ONCE);
      this.#log.error({ problems, count: complaints.length }, "not every node can be reached");
    }
  }
}

function describeWay({ prefix, gateway, why = "", state }: SubnetWay): string {
  if (state === "refused") return why;
  const subnet = formatPrefix(prefix);
  return `${gateway === undefined ? subnet : `${subnet} via ${formatAddress(gateway)}`}: ${why}`;
}

function named(routes: readonly Route[]): { routes: string[]; count: number } {
  return { routes: routes.slice(0, NAMED_AT_ONCE).map(describeRoute), count: routes.length };
}
