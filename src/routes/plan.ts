// SPDX-License-Identifier: Apache-2.0
//
// Which routes the nodes make necessary, kept from one set of nodes to the next: what it costs to find out what changed grows
// with what changed, beside one look at each node.
import type { Prefix } from "../net/prefix.ts";
import { Admission, ownEntryProblem, type Refusal, tellReasons } from "./admission.ts";
import { ownRoutes, routesToPeer, type Wanted } from "./desired.ts";
import { leadsTheSameWay } from "./diff.ts";
import type { Node, Self } from "./source.ts";

type Reasons = ReadonlyMap<Prefix, readonly string[]>;

/** What was made of a node. */
interface Part {
  readonly node: Node;
  readonly refused: Reasons | undefined;
  readonly wanted: readonly Wanted[];
}

export class RoutePlan {
  readonly #self: Self;
  readonly #table: number | undefined;
  readonly #admission: Admission;
  #parts = new Map<string, Part>();
  readonly #wanted = new Map<string, Wanted>();
  #problem: string | undefined;

  /** @param table of the routes to peers; the main one where it isn't given */
  constructor(self: Self, table?: number) {
    this.#self = self;
    this.#table = table;
    this.#admission = new Admission(self);
  }

  /** Every route that should be, by key. */
  get wanted(): ReadonlyMap<string, Wanted> {
    return this.#wanted;
  }

  /** The subnets that get no route, and why. */
  get refusals(): Refusal[] {
    const refusals: Refusal[] = [];
    for (const { node, refused } of this.#parts.values()) {
      for (const [prefix, reasons] of refused ?? []) {
        refusals.push({ node: node.name, prefix, why: tellReasons(reasons) });
      }
    }
    return refusals;
  }

  /** What the nodes say of this one that isn't so. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Whether a route to this prefix could touch traffic to a node or a subnet. */
  touches(prefix: Prefix): boolean {
    return this.#admission.touches(prefix);
  }

  /**
   * Follows the nodes. @returns each key whose route is another one now, with the one that was wanted before; a subnet
   * that went from one node to another is one key, and so one step for the kernel.
   */
  update(nodes: readonly Node[]): Map<string, Wanted | undefined> {
    const refusals = this.#admission.refuse(nodes);
    this.#problem = ownEntryProblem(nodes, this.#self);
    const own = this.#admission.own;
    const parts = new Map<string, Part>();
    const before = new Map<string, Wanted | undefined>();
    const fresh: Part[] = [];
    for (const node of nodes) this.#keep(node.name === own.name ? own : node, refusals, parts, fresh);
    if (!parts.has(own.name)) this.#keep(own, refusals, parts, fresh);
    for (const [name, part] of this.#parts) {
      if (parts.get(name) === part) continue;
      for (const it of part.wanted) {
        before.set(it.key, it);
        this.#wanted.delete(it.key);
      }
    }
    for (const { wanted } of fresh) {
      for (const it of wanted) {
        if (!before.has(it.key)) before.set(it.key, undefined);
        this.#wanted.set(it.key, it);
      }
    }
    for (const [key, was] of before) {
      const is = this.#wanted.get(key);
      if (was !== undefined && is !== undefined && leadsTheSameWay(was.route, is.route)) before.delete(key);
    }
    this.#parts = parts;
    return before;
  }

  #keep(node: Node, refusals: ReadonlyMap<Node, Reasons>, parts: Map<string, Part>, fresh: Part[]): void {
    const refused = refusals.get(node);
    const before = this.#parts.get(node.name);
    if (before?.node === node && isSame(before.refused, refused)) {
      parts.set(node.name, before);
      return;
    }
    const isRefused = (prefix: Prefix) => refused?.has(prefix) === true;
    const isOwn = node === this.#admission.own;
    const wanted = isOwn ? ownRoutes(this.#self, isRefused) : routesToPeer(node, isRefused, this.#table);
    const part = { node, refused, wanted };
    parts.set(node.name, part);
    fresh.push(part);
  }
}

function isSame(a: Reasons | undefined, b: Reasons | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.size !== b.size) return false;
  for (const [prefix, reasons] of a) {
    const others = b.get(prefix);
    if (others?.length !== reasons.length || !reasons.every((reason, i) => reason === others[i])) return false;
  }
  return true;
}
