// SPDX-License-Identifier: Apache-2.0
//
// Keeps the kernel's node routes as the nodes want them. Level-triggered: a full pass looks at what is and what should be,
// never at what happened, so a daemon that was away for an hour needs nothing else. A change of a few nodes is applied by
// itself, because what was there before is known: nobody touched it, or an event would have asked for a full pass.

import { setImmediate as turn } from "node:timers/promises";
import type { Link } from "../netlink/link.ts";
import { NetlinkError } from "../netlink/message.ts";
import { addRoute, deleteRoute, lookUpEntry, lookUpRoute, type Route, replaceRoute } from "../netlink/route.ts";
import type { Refusal } from "./admission.ts";
import type { Wanted } from "./desired.ts";
import { diffRoutes, isNodeRoute, type RouteDelta, routeKey } from "./diff.ts";
import type { RouteKernel } from "./kernel.ts";
import { RoutePlan } from "./plan.ts";
import type { View } from "./relevance.ts";
import type { Node, Self } from "./source.ts";
import { DEFAULT_MTU, ELSEWHERE, limitsOf, smallestMtu } from "./uplinks.ts";
import { type Answer, askForSubnet, explainRefusal, judgeUse, WAY_STATES, type Way, type WayState } from "./ways.ts";

export interface ReconcilerOptions {
  readonly self: Self;
  /** Number of the routing table of the routes to peers; the main one where it isn't given. */
  readonly table?: number | undefined;
  /** MTU in bytes of pods; 0 when it follows the uplinks. */
  readonly podMtu: number;
}

/** What a pass did to the kernel. What failed stays wanted: it is in `ways`, and the next full pass tries again. */
export interface RouteReport {
  readonly set: readonly Route[];
  readonly removed: readonly Route[];
  /** Stale ones that the kernel doesn't let go, and why. */
  readonly stuck: readonly string[];
}

/** A subnet of a peer, or of this node, and what became of its route. */
export interface SubnetWay {
  readonly node: string;
  readonly prefix: Wanted["prefix"];
  readonly gateway: Uint8Array | undefined;
  readonly state: WayState;
  /** Name of the link packets go out of; undefined unless the way is installed and leads out of one. */
  readonly link: string | undefined;
  /** Why it is not installed, for people. */
  readonly why: string | undefined;
}

/** Of so many look-ups one turn is made. */
const SLICE = 1024;

type Failures = Map<string, NetlinkError>;

export class Reconciler {
  readonly #kernel: RouteKernel;
  readonly #plan: RoutePlan;
  readonly #podMtu: number;
  readonly #ways = new Map<string, Way>();
  #complete = false;
  #links: ReadonlyMap<number, Link> = new Map();
  #uplinks: ReadonlyMap<number, Link> = new Map();
  #mtu = 0;
  #view: View = { uplinks: new Map(), troubled: true, alone: true, touches: () => true };
  /** How often a full look was asked for, and how often that had been when the last one that succeeded began. */
  #asked = 1;
  #looked = 0;

  constructor(kernel: RouteKernel, { self, table, podMtu }: ReconcilerOptions) {
    this.#kernel = kernel;
    this.#podMtu = podMtu;
    this.#plan = new RoutePlan(self, table);
  }

  /** Asks that the next pass looks at everything. */
  lookAgain(): void {
    this.#asked++;
  }

  /** Whether the next pass looks at everything. */
  get stale(): boolean {
    return this.#asked !== this.#looked;
  }

  /** MTU in bytes that pods can have: the smallest of the uplinks; 0 before the first pass. */
  get mtu(): number {
    return this.#mtu;
  }

  /** What decides which events matter, as of the last pass. */
  get view(): View {
    return this.#view;
  }

  get refusals(): Refusal[] {
    return this.#plan.refusals;
  }

  /** What the nodes say of this one that isn't so. */
  get problem(): string | undefined {
    return this.#plan.problem;
  }

  /** Every subnet, whatever became of its route. */
  ways(): SubnetWay[] {
    return [...this.#plan.wanted.values().map((it) => this.#tell(it)), ...this.#plan.refusals.map(tellRefusal)];
  }

  /** Those of them that packets don't take. */
  broken(): SubnetWay[] {
    const broken: SubnetWay[] = [];
    for (const it of this.#plan.wanted.values()) {
      if (this.#ways.get(it.key)?.state !== "installed") broken.push(this.#tell(it));
    }
    return [...broken, ...this.#plan.refusals.map(tellRefusal)];
  }

  /** How many subnets are in each state. */
  counts(): Record<WayState, number> {
    const counts = Object.fromEntries(WAY_STATES.map((state) => [state, 0])) as Record<WayState, number>;
    for (const key of this.#plan.wanted.keys()) counts[this.#ways.get(key)?.state ?? "failed"]++;
    counts.refused = this.#plan.refusals.length;
    return counts;
  }

  /**
   * Whether packets take some way to a peer, or there is none to take. Behind a router there may be one: it is the router that
   * knows, as in a cloud.
   */
  get leadsSomewhere(): boolean {
    let peers = 0;
    for (const { key, route } of this.#plan.wanted.values()) {
      if (route.kind !== "unicast") continue;
      peers++;
      const state = this.#ways.get(key)?.state;
      if (state === "installed" || state === "behind-router") return true;
    }
    return peers === 0;
  }

  /**
   * Brings the routes up to the nodes. @param nodes undefined while they aren't known: then nothing is removed.
   * @param restored whether there may be more nodes than these: nothing is removed then either
   * @throws NetlinkError when the kernel can't be read; then the next pass is a full one.
   */
  async pass(nodes: readonly Node[] | undefined, restored = false): Promise<RouteReport> {
    const asked = this.#asked;
    let whole = this.stale;
    // Until it is over: a pass that throws leaves behind nobody knows what.
    this.#asked++;
    if (nodes !== undefined && !restored && !this.#complete) {
      // Only now is a route of ours that nobody wants a stale one.
      this.#complete = true;
      whole = true;
    }
    const before = nodes === undefined && this.#complete ? new Map() : this.#plan.update(nodes ?? []);
    whole ||= [...before].some(([key, was]) => was !== undefined && !this.#isThere(key));
    let report = whole ? await this.#lookAtAll() : await this.#follow(before);
    // In the place of a route that nobody knew of: it may be a foreign one, or ours after all.
    if (report === undefined) report = await this.#lookAtAll();
    this.#view = this.#takeView();
    // Whoever asked while the pass ran is not answered by it.
    if (this.#asked === asked + 1) this.#looked = this.#asked;
    return report;
  }

  #tell({ key, node, prefix, route }: Wanted): SubnetWay {
    const way = this.#ways.get(key) ?? { state: "failed", why: "it was not tried yet" };
    const link = way.oif === undefined ? undefined : this.#links.get(way.oif)?.name;
    return { node, prefix, gateway: route.gateway, state: way.state, link, why: way.why };
  }

  async #lookAtAll(): Promise<RouteReport> {
    this.#links = await this.#readLinks();
    const actual = (await this.#kernel.routes()).filter(isNodeRoute);
    const wanted = [...this.#plan.wanted.values()];
    const delta = diffRoutes(
      wanted.map(({ route }) => route),
      actual,
    );
    const { failures, ...report } = await this.#apply(this.#complete ? delta : { ...delta, remove: [] });
    this.#ways.clear();
    await this.#judge(wanted, failures);
    await this.#updateUplinks();
    return report;
  }

  /** @returns undefined when the kernel is not as it was left */
  async #follow(before: ReadonlyMap<string, Wanted | undefined>): Promise<RouteReport | undefined> {
    if (before.size === 0) return { set: [], removed: [], stuck: [] };
    const changed = [...before.keys()].map((key) => this.#plan.wanted.get(key)).filter((it) => it !== undefined);
    const gone = [...before.values()].filter((it) => it !== undefined);
    const delta = diffRoutes(
      changed.map(({ route }) => route),
      gone.map(({ route }) => route),
    );
    const { failures, ...report } = await this.#apply(delta);
    for (const { errnoName } of failures.values()) if (errnoName === "EEXIST") return undefined;
    for (const key of before.keys()) this.#ways.delete(key);
    await this.#judge(changed, failures);
    await this.#updateUplinks();
    return report;
  }

  /** Adds, then replaces, then removes, so that nothing is without a route in between. */
  async #apply(delta: RouteDelta): Promise<RouteReport & { failures: Failures }> {
    const failures: Failures = new Map();
    const set: Route[] = [];
    const added = await this.#kernel.change(delta.add, addRoute);
    collect(delta.add, added, set, failures);
    const replace = await this.#withoutForeign(delta.replace, failures);
    collect(replace, await this.#kernel.change(replace, replaceRoute), set, failures);
    const removed: Route[] = [];
    const kept: Failures = new Map();
    const errors = await this.#kernel.change(delta.remove, deleteRoute);
    // Somebody else took it away first, and that is what was wanted.
    collect(
      delta.remove,
      errors.map((error) => (error?.errnoName === "ESRCH" ? undefined : error)),
      removed,
      kept,
    );
    return { set, removed, stuck: [...kept.values()].map(({ message }) => message), failures };
  }

  /**
   * The kernel replaces the first route with a key. IPv4 may have a foreign one there before ours, and that isn't ours to
   * replace. The others are returned.
   */
  async #withoutForeign(routes: readonly Route[], failures: Failures): Promise<Route[]> {
    const answers = await this.#kernel.lookUp(routes, (route) => lookUpEntry(route.destination));
    return routes.filter((route, i) => {
      const answer = answers[i];
      if (answer === undefined || answer instanceof NetlinkError) return true;
      if (answer.protocol === route.protocol || routeKey(answer) !== routeKey(route)) return true;
      failures.set(routeKey(route), new NetlinkError("NETLINK_REFUSED", replaceRoute(route).what, EEXIST));
      return false;
    });
  }

  /** Asks the kernel what it would really do, and sets the limits that the uplink asks for. */
  async #judge(wanted: readonly Wanted[], failures: Failures): Promise<void> {
    const tried = wanted.filter(({ key }) => failures.has(key));
    const there = wanted.filter(({ key }) => !failures.has(key));
    const peers: Wanted[] = [];
    for (const it of there) {
      if (it.route.kind === "unicast") peers.push(it);
      else this.#ways.set(it.key, { state: "installed" });
    }
    const answers = await this.#kernel.lookUp(peers, ({ prefix }) => askForSubnet(prefix));
    for (const [i, { key, route }] of peers.entries()) {
      if (i % SLICE === SLICE - 1) await turn();
      this.#ways.set(key, judgeUse(route, answers[i]));
    }
    await this.#limit(peers, answers);
    const hops = await this.#kernel.lookUp(tried, ({ route }) => lookUpRoute(route.gateway ?? route.destination));
    const entries = await this.#kernel.lookUp(tried, ({ prefix }) => askForSubnet(prefix));
    for (const [i, { key, route }] of tried.entries()) {
      this.#ways.set(key, explainRefusal(route, failures.get(key) as NetlinkError, hops[i], entries[i]));
    }
  }

  async #limit(peers: readonly Wanted[], answers: readonly Answer[]): Promise<void> {
    const limited: Route[] = [];
    for (const [i, { key, route }] of peers.entries()) {
      const { state, oif } = this.#ways.get(key) as Way;
      if (state !== "installed" || oif === undefined) continue;
      if (!this.#links.has(oif)) this.#links = await this.#readLinks();
      const limits = limitsOf(route, this.#links.get(oif), this.#podMtu);
      const { mtu, advmss } = answers[i] as Route;
      if (mtu !== limits.mtu || advmss !== limits.advmss) limited.push({ ...route, ...limits });
    }
    const errors = await this.#kernel.change(limited, replaceRoute);
    for (const [i, error] of errors.entries()) {
      const route = limited[i] as Route;
      if (error !== undefined) this.#ways.set(routeKey(route), { state: "failed", why: error.message });
    }
  }

  async #updateUplinks(): Promise<void> {
    const out = new Set<number>();
    let peers = 0;
    for (const { key, route } of this.#plan.wanted.values()) {
      if (route.kind !== "unicast") continue;
      peers++;
      const oif = this.#ways.get(key)?.oif;
      if (oif !== undefined) out.add(oif);
    }
    // While every way is broken, the last MTU is a better guess than any other link's.
    if (peers > 0 && out.size === 0 && this.#mtu !== 0) return;
    if (out.size === 0) {
      // A family without a way out refuses its look-up; that is an answer too.
      const answers = await this.#kernel.lookUp(ELSEWHERE, (address) => lookUpRoute(address));
      for (const answer of answers) {
        if (answer !== undefined && !(answer instanceof NetlinkError) && answer.oif !== undefined) out.add(answer.oif);
      }
    }
    this.#uplinks = new Map([...out].flatMap((index) => toEntry(index, this.#links.get(index))));
    this.#mtu = smallestMtu(out, this.#links.values()) ?? DEFAULT_MTU;
  }

  async #readLinks(): Promise<ReadonlyMap<number, Link>> {
    return new Map((await this.#kernel.links()).map((link) => [link.index, link]));
  }

  /** Whether the kernel has our route with this key, as far as is known. */
  #isThere(key: string): boolean {
    const state = this.#ways.get(key)?.state;
    return state === "installed" || state === "diverted";
  }

  #takeView(): View {
    const plan = this.#plan;
    const alone = !plan.wanted.values().some(({ route }) => route.kind === "unicast");
    return { uplinks: this.#uplinks, troubled: this.#isTroubled(), alone, touches: (prefix) => plan.touches(prefix) };
  }

  #isTroubled(): boolean {
    if (this.#ways.size < this.#plan.wanted.size) return true;
    for (const { state } of this.#ways.values()) if (state !== "installed") return true;
    return false;
  }
}

const EEXIST = 17;

function tellRefusal({ node, prefix, why }: Refusal): SubnetWay {
  return { node, prefix, gateway: undefined, state: "refused", link: undefined, why };
}

function toEntry(index: number, link: Link | undefined): [number, Link][] {
  return link === undefined ? [] : [[index, link]];
}

/** Sorts routes into those that went well and the errors of the others, by key. */
function collect(
  routes: readonly Route[],
  errors: readonly (NetlinkError | undefined)[],
  good: Route[],
  failures: Failures,
): void {
  for (const [i, route] of routes.entries()) {
    const error = errors[i];
    if (error === undefined) good.push(route);
    else failures.set(routeKey(route), error);
  }
}
