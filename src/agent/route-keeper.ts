// SPDX-License-Identifier: Apache-2.0
import type { Netlink } from "../netlink/event-loop.ts";
import { describeRoute, type Route } from "../netlink/route.ts";
import { desiredRoutes } from "../routes/desired.ts";
import { PeersError } from "../routes/errors.ts";
import type { Node, Self } from "../routes/peers.ts";
import { listOurRoutes, reconcileRoutes } from "../routes/reconcile.ts";
import { readPodMtu } from "../routes/uplinks.ts";
import type { Log } from "./log.ts";

/**
 * Keeps the node's routes as the peers file says, pass by pass. A file that has become unreadable or wrong changes
 * nothing: the nodes that were last known stand until it is right again.
 */
export class RouteKeeper {
  readonly #netlink: Netlink;
  readonly #self: Self;
  readonly #readNodes: () => Promise<Node[]>;
  readonly #log: Log;
  #nodes: readonly Node[];
  #mtu = 0;
  #synced = false;
  /** What was last complained about, so that a standing problem is one line and not one a pass. */
  #complaints = "";

  constructor(netlink: Netlink, self: Self, readNodes: () => Promise<Node[]>, nodes: readonly Node[], log: Log) {
    this.#netlink = netlink;
    this.#self = self;
    this.#readNodes = readNodes;
    this.#nodes = nodes;
    this.#log = log;
  }

  /** MTU in bytes that pods should have, as of the last pass. */
  get mtu(): number {
    return this.#mtu;
  }

  /** The nodes that are known, as of the last pass. */
  get nodes(): readonly Node[] {
    return this.#nodes;
  }

  /**
   * Whether a pass has been complete: the peers file was in order, every route was tried, and not all ways to peers were
   * refused. A single route that can't be set is in the log and doesn't count: one wrong line in the peers file must not
   * make every node refuse pods.
   */
  get synced(): boolean {
    return this.#synced;
  }

  /** @throws NetlinkError when the kernel can't be read. What can't be written is logged and tried again next time. */
  async pass(): Promise<void> {
    const complaints: string[] = [];
    try {
      this.#nodes = await this.#readNodes();
    } catch (error) {
      if (!(error instanceof PeersError)) throw error;
      complaints.push(error.message);
    }
    const readable = complaints.length === 0;
    const desired = desiredRoutes(this.#nodes, this.#self);
    const report = await reconcileRoutes(this.#netlink, desired);
    if (report.set.length > 0) this.#log.info({ routes: report.set }, "routes set");
    if (report.removed.length > 0) this.#log.info({ routes: report.removed }, "routes removed");
    complaints.push(...report.failed.map(({ route, error }) => `${route}: ${error}`));
    await this.#updateMtu();
    this.#synced ||= readable && leadSomewhere(desired, new Set(report.failed.map(({ route }) => route)));
    this.#complain(complaints);
  }

  async #updateMtu(): Promise<void> {
    const mtu = await readPodMtu(this.#netlink, await listOurRoutes(this.#netlink));
    if (mtu !== this.#mtu) this.#log.info({ mtu }, "MTU of new pods");
    this.#mtu = mtu;
  }

  #complain(complaints: readonly string[]): void {
    const text = complaints.join("\n");
    if (text === this.#complaints) return;
    this.#complaints = text;
    if (text === "") this.#log.info("the peers file and all routes are in order again");
    else this.#log.error({ problems: complaints }, "not every node can be reached");
  }
}

/** Whether some way to a peer is in place, or none is wanted. */
function leadSomewhere(desired: readonly Route[], failed: ReadonlySet<string>): boolean {
  const toPeers = desired.filter(({ kind }) => kind === "unicast");
  return toPeers.length === 0 || toPeers.some((route) => !failed.has(describeRoute(route)));
}
