// SPDX-License-Identifier: Apache-2.0
//
// Which subnets can be where they are said to be. Two nodes that claim the same addresses both lose them: whoever of them is
// wrong, traffic for one never ends at the other, and every node decides the same, in whatever order it heard of them. What is
// sound stays. Pure, but for a memory that makes the next look at nearly the same nodes cheap.
import { addressNumber, formatPrefix, type Prefix, parsePrefix, prefixSize } from "../net/prefix.ts";
import type { Node, Self } from "./source.ts";

/** A subnet that gets no route. */
export interface Refusal {
  readonly node: string;
  readonly prefix: Prefix;
  /** For people; names both sides of a clash. */
  readonly why: string;
}

/** Ranges no pod can have: this host, loopback, link-local, multicast and reserved (RFC 6890; RFC 4291). */
const FOREIGN: readonly (Prefix & { readonly last: bigint })[] = [
  ...["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"],
  ...["::/127", "fe80::/10", "ff00::/8"],
].map((text) => {
  const prefix = parsePrefix(text);
  return { ...prefix, last: prefix.base + prefixSize(prefix) - 1n };
});

/** Of the reasons against one subnet so many are told, and how many more there are. */
const REASONS_TOLD = 3;

/** A subnet, or where there is none an address, of a node. */
interface Item {
  readonly node: Node;
  readonly prefix: Prefix | undefined;
  readonly family: 4 | 6;
  readonly first: bigint;
  readonly last: bigint;
}

/** Reasons by subnet, of the nodes that have any. */
export type Refusals = ReadonlyMap<Node, ReadonlyMap<Prefix, readonly string[]>>;

export class Admission {
  readonly #self: Self;
  /** This node with the addresses of its own entry; the same object while those are the same. */
  #own: Node;
  /** Everything that was looked at last, in order: nearly sorted is sorted at once. */
  #order: Item[] = [];
  #known: ReadonlySet<Node> = new Set();
  /** What is wrong with those of them with whom something is, whatever the others have. */
  readonly #unsound = new Map<Node, readonly (readonly [Prefix, string])[]>();

  constructor(self: Self) {
    this.#self = self;
    this.#own = { ...self, addresses: [] };
  }

  /** This node, as it is a key of what `refuse` returns. */
  get own(): Node {
    return this.#own;
  }

  /** @param nodes all there are; an entry of this node's own says its addresses, and its subnets are those of `self` */
  refuse(nodes: readonly Node[]): Refusals {
    const entry = nodes.find((node) => node.name === this.#self.name);
    const addresses = entry?.addresses ?? [];
    if (this.#own.addresses !== addresses) this.#own = { ...this.#self, addresses };
    const all = new Set(nodes);
    if (entry !== undefined) all.delete(entry);
    all.add(this.#own);
    this.#follow(all);
    const refused = new Map<Node, Map<Prefix, string[]>>();
    const refuse = (node: Node, prefix: Prefix | undefined, why: string) => {
      if (prefix === undefined) return;
      const of = refused.get(node) ?? new Map<Prefix, string[]>();
      refused.set(node, of);
      const reasons = of.get(prefix);
      if (reasons === undefined) of.set(prefix, [why]);
      else reasons.push(why);
    };
    for (const [node, problems] of this.#unsound) for (const [prefix, why] of problems) refuse(node, prefix, why);
    this.#findClashes((wide, narrow) => {
      const why = describeClash(wide, narrow);
      const [a, b] = [wide.node === this.#own, narrow.node === this.#own];
      // Of a peer's claim on our own addresses only the peer hears no: they are ours to give out.
      if (!a || b || narrow.prefix === undefined) refuse(wide.node, wide.prefix, why);
      if (!b || a) refuse(narrow.node, narrow.prefix, why);
    });
    return refused;
  }

  /** Whether a route to this prefix could touch traffic to a subnet or an address of the nodes looked at last. */
  touches(prefix: Prefix): boolean {
    const last = prefix.base + prefixSize(prefix) - 1n;
    let [low, high] = [0, this.#order.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const item = this.#order[middle] as Item;
      if (item.family < prefix.family || (item.family === prefix.family && item.first < prefix.base)) low = middle + 1;
      else high = middle;
    }
    const next = this.#order[low];
    if (next !== undefined && next.family === prefix.family && next.first <= last) return true;
    const before = this.#order[low - 1];
    return before !== undefined && before.family === prefix.family && before.last >= prefix.base;
  }

  /** Takes out what is gone and puts in what is new. */
  #follow(all: ReadonlySet<Node>): void {
    for (const node of this.#unsound.keys()) if (!all.has(node)) this.#unsound.delete(node);
    const gone = new Set<Node>();
    for (const node of this.#known) if (!all.has(node)) gone.add(node);
    const order = gone.size === 0 ? this.#order : this.#order.filter((item) => !gone.has(item.node));
    const fresh: Item[] = [];
    for (const node of all) {
      if (this.#known.has(node)) continue;
      // What this node itself gives out is not asked how it is reached.
      const problems = unsound(node, node !== this.#own);
      if (problems.length > 0) this.#unsound.set(node, problems);
      // What is refused anyhow takes nobody along: 0.0.0.0/0 would take everybody.
      fresh.push(...itemsOf(node, new Set(problems.map(([prefix]) => prefix))));
    }
    this.#order = fresh.length === 0 ? order : merge(order, fresh.sort(compare));
    this.#known = all;
  }

  /** Blocks are either apart or one in the other, so those around an item are the ones that have not ended yet. */
  #findClashes(found: (wide: Item, narrow: Item) => void): void {
    const around: Item[] = [];
    for (const item of this.#order) {
      for (let top = around.at(-1); top !== undefined && isOver(top, item); top = around.at(-1)) around.pop();
      for (const wide of around) found(wide, item);
      if (item.prefix !== undefined) around.push(item);
    }
  }
}

/** Two sorted lists as one. */
function merge(a: readonly Item[], b: readonly Item[]): Item[] {
  const merged: Item[] = [];
  let at = 0;
  for (const item of a) {
    for (let next = b[at]; next !== undefined && compare(next, item) < 0; next = b[at]) {
      merged.push(next);
      at++;
    }
    merged.push(item);
  }
  for (; at < b.length; at++) merged.push(b[at] as Item);
  return merged;
}

function isOver(open: Item, next: Item): boolean {
  return open.family !== next.family || open.last < next.first;
}

function itemsOf(node: Node, without: ReadonlySet<Prefix>): Item[] {
  const subnets = node.podCIDRs
    .filter((prefix) => !without.has(prefix))
    .map((prefix): Item => {
      const { family, base } = prefix;
      return { node, prefix, family, first: base, last: base + prefixSize(prefix) - 1n };
    });
  const addresses = node.addresses.map((address): Item => {
    const at = addressNumber(address);
    return { node, prefix: undefined, family: address.length === 4 ? 4 : 6, first: at, last: at };
  });
  return [...subnets, ...addresses];
}

/** By where they begin; of those that begin together the wider first, a subnet before an address, and then by the node. */
function compare(a: Item, b: Item): number {
  if (a.family !== b.family) return a.family - b.family;
  if (a.first !== b.first) return a.first < b.first ? -1 : 1;
  if (a.last !== b.last) return a.last > b.last ? -1 : 1;
  if (a.prefix === undefined || b.prefix === undefined) {
    const order = (a.prefix === undefined ? 1 : 0) - (b.prefix === undefined ? 1 : 0);
    if (order !== 0) return order;
  }
  return a.node.name < b.node.name ? -1 : a.node.name > b.node.name ? 1 : 0;
}

/** What is wrong with a node's subnets whatever the others have. */
function unsound(node: Node, withHops: boolean): [Prefix, string][] {
  const problems: [Prefix, string][] = [];
  for (const prefix of node.podCIDRs) {
    const last = prefix.base + prefixSize(prefix) - 1n;
    const foreign = FOREIGN.find((range) => {
      return range.family === prefix.family && range.base <= last && prefix.base <= range.last;
    });
    if (foreign !== undefined) {
      const what = `${formatPrefix(prefix)} is foreign to a pod network, it touches ${formatPrefix(foreign)}`;
      problems.push([prefix, `node ${node.name}: ${what}`]);
    }
    if (!withHops) continue;
    const size = prefix.family === 4 ? 4 : 16;
    const hops = node.addresses.filter((address) => address.length === size).length;
    const family = `IPv${prefix.family}`;
    if (hops > 1) problems.push([prefix, `node ${node.name} has ${hops} ${family} addresses, one is the next hop`]);
    if (hops === 0) {
      const what = `has ${formatPrefix(prefix)} but no ${family} address to reach it by`;
      problems.push([prefix, `node ${node.name} ${what}`]);
    }
  }
  return problems;
}

function describeClash(wide: Item, narrow: Item): string {
  const subnet = `${formatPrefix(wide.prefix as Prefix)} of ${wide.node.name}`;
  if (narrow.prefix === undefined) return `${subnet} contains the address of node ${narrow.node.name}`;
  return `${subnet} overlaps ${formatPrefix(narrow.prefix)} of ${narrow.node.name}`;
}

/** The reasons as one text of bounded length. */
export function tellReasons(reasons: readonly string[]): string {
  const told = reasons.slice(0, REASONS_TOLD).join("; ");
  const more = reasons.length - REASONS_TOLD;
  return more > 0 ? `${told}; and ${more} more` : told;
}

/** What an own entry says that isn't so; undefined when there is none, or it is right. */
export function ownEntryProblem(nodes: readonly Node[], self: Self): string | undefined {
  const own = nodes.find((node) => node.name === self.name);
  if (own === undefined) return undefined;
  const [said, told] = [own.podCIDRs, self.podCIDRs].map((list) => list.map(formatPrefix).sort().join(", "));
  if (said === told) return undefined;
  return `node ${self.name} is this one and has ${told}, but the nodes' source says ${said === "" ? "none" : said}`;
}
