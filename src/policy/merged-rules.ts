// SPDX-License-Identifier: Apache-2.0
//
// Any number of allowances with one verdict, as few rules: what has the same ports is one look-up of peers, and what is left over is
// looked up with its port in one set. How many rules a packet passes doesn't grow with how many were written. Pure.
import type { Family } from "../net/address.ts";
import type { Allowance } from "./allowance.ts";
import { type Block, type BlockPorts, blockSet, layers } from "./blocks.ts";
import { ANY_POD, type PodTerm } from "./pod-term.ts";
import { matchPorts, mergePorts, type PortRange, type Ports, portsText, unitePorts } from "./ports.ts";
import type { Direction, Match, Origin, PolicyRule, PolicySet, Verdict } from "./ruleset.ts";
import { podsSet, type ReachEntry, reachSet, type SetDefinition } from "./set-definition.ts";

export interface MergedRules {
  readonly rules: readonly PolicyRule[];
  readonly sets: readonly SetDefinition[];
}

/** So many sets of ports with pods of their own get a rule each. */
const MOST_POD_RULES = 6;

/** Peers of one kind that were found with the same ports. */
interface Group<T> {
  readonly ports: Ports;
  readonly peers: Map<string, T>;
  readonly origins: Set<Origin>;
}

export function mergeRules(
  allowances: readonly Allowance[],
  direction: Direction,
  family: Family,
  verdict: Verdict,
): MergedRules {
  const merger = new Merger(direction, family, verdict);
  const numbered = allowances.filter(({ ports }) => ports === "all" || ports.length > 0);
  merger.anybody(numbered);
  if (merger.isOpen) return merger;
  const pods = numbered.flatMap((allowance) =>
    allowance.peer.kind === "pods" ? [{ ...allowance, key: allowance.peer.term.key, peer: allowance.peer.term }] : [],
  );
  const groups = groupByPorts(pods);
  // Those of every protocol can't be told by port; they are one group in any case.
  const own = groups.filter(({ ports }, i) => ports === "all" || i < MOST_POD_RULES);
  for (const group of own) merger.pods(group);
  merger.reach(
    groups.filter((group) => !own.includes(group)),
    allowances.filter(({ names }) => names.length > 0),
  );
  merger.blocks(numbered);
  return merger;
}

/** Each peer with all of its ports, then all peers that have the same. Those with most peers come first. */
function groupByPorts<T>(
  all: readonly { readonly key: string; readonly peer: T; readonly ports: Ports; readonly origin: Origin }[],
): Group<T>[] {
  const byPeer = new Map<string, { peer: T; ports: PortRange[] | "all"; origins: Set<Origin> }>();
  for (const { key, peer, ports, origin } of all) {
    const found = byPeer.get(key) ?? { peer, ports: [], origins: new Set() };
    if (ports === "all" || found.ports === "all") found.ports = "all";
    else found.ports.push(...ports);
    found.origins.add(origin);
    byPeer.set(key, found);
  }
  const byPorts = new Map<string, Group<T>>();
  for (const [key, { peer, ports: some, origins }] of byPeer) {
    const ports = some === "all" ? some : mergePorts(some);
    const text = portsText(ports);
    const group = byPorts.get(text) ?? { ports, peers: new Map(), origins: new Set() };
    group.peers.set(key, peer);
    for (const origin of origins) group.origins.add(origin);
    byPorts.set(text, group);
  }
  return [...byPorts]
    .sort(([a, x], [b, y]) => y.peers.size - x.peers.size || (a < b ? -1 : 1))
    .map(([, group]) => group);
}

class Merger implements MergedRules {
  readonly rules: PolicyRule[] = [];
  readonly sets: SetDefinition[] = [];
  /** Whether a rule matches everything, so that no other would be reached. */
  isOpen = false;
  readonly #family: Family;
  readonly #verdict: Verdict;
  /** The peer's side of a packet. */
  readonly #address: "saddr" | "daddr";

  constructor(direction: Direction, family: Family, verdict: Verdict) {
    this.#family = family;
    this.#verdict = verdict;
    this.#address = direction === "ingress" ? "saddr" : "daddr";
  }

  anybody(allowances: readonly Allowance[]): void {
    const all = allowances.filter(({ peer }) => peer.kind === "anybody");
    const open = all.filter(({ ports }) => ports === "all");
    this.isOpen = open.length > 0;
    const used = this.isOpen ? open : all;
    if (used.length === 0) return;
    const ports = used.reduce<Ports>((sum, allowance) => unitePorts(sum, allowance.ports), []);
    this.#rule(this.#ports(ports), originsOf(used));
  }

  pods({ ports, peers, origins }: Group<PodTerm>): void {
    const set = podsSet([...peers.values()], this.#family);
    this.sets.push(set);
    this.#rule([...this.#ports(ports), this.#lookup(set.name)], [...origins]);
  }

  /** Pods with ports of their own: by name, or because there are too many kinds of them. */
  reach(groups: readonly Group<PodTerm>[], named: readonly Allowance[]): void {
    const entries: ReachEntry[] = groups.flatMap(({ ports, peers }) =>
      [...peers.values()].map((term) => ({ term, within: undefined, ports: ports === "all" ? [] : ports, names: [] })),
    );
    for (const { peer, names } of named) {
      const within = peer.kind === "block" ? peer.block : undefined;
      entries.push({ term: peer.kind === "pods" ? peer.term : ANY_POD, within, ports: [], names });
    }
    if (entries.length === 0) return;
    const set = reachSet(entries, this.#family);
    this.sets.push(set);
    const origins = new Set([...groups.flatMap((group) => [...group.origins]), ...originsOf(named)]);
    this.#rule([this.#withPort(set.name)], [...origins]);
  }

  blocks(allowances: readonly Allowance[]): void {
    const all = allowances.flatMap(({ peer, ports, origin }) =>
      peer.kind === "block" ? [{ block: peer.block, ports, origin }] : [],
    );
    const whole = all.filter(({ ports }) => ports === "all");
    this.#blockRule(
      whole.map(({ block }) => block),
      "all",
      whole,
    );
    const some = all.filter(
      (one): one is BlockPorts & { origin: Origin; ports: readonly PortRange[] } => one.ports !== "all",
    );
    const [first] = some;
    if (first === undefined) return;
    if (some.every(({ ports }) => portsText(ports) === portsText(first.ports))) {
      this.#blockRule(
        some.map(({ block }) => block),
        first.ports,
        some,
      );
      return;
    }
    const { sets, rest } = layers(some, this.#family);
    for (const set of sets) this.#rule([this.#withPort(this.#fixed(set))], originsOf(some));
    for (const one of rest) this.#blockRule([one.block], one.ports, some);
  }

  #blockRule(blocks: readonly Block[], ports: Ports, of: readonly { readonly origin: Origin }[]): void {
    const set = blockSet(blocks, this.#family);
    if (set === undefined) return;
    this.#rule([...this.#ports(ports), this.#lookup(this.#fixed(set))], originsOf(of));
  }

  #rule(matches: readonly Match[], origins: readonly Origin[]): void {
    this.rules.push({ matches, verdict: this.#verdict, origins, counted: true });
  }

  #ports(ports: Ports): readonly Match[] {
    const { matches, set } = matchPorts(ports);
    if (set !== undefined) this.#fixed(set);
    return matches;
  }

  #fixed(set: PolicySet): string {
    this.sets.push({ kind: "fixed", name: set.name, set });
    return set.name;
  }

  #lookup(set: string): Match {
    return { kind: "lookup", fields: [this.#address], set };
  }

  #withPort(set: string): Match {
    return { kind: "lookup", fields: [this.#address, "l4proto", "dport"], set };
  }
}

function originsOf(all: readonly { readonly origin: Origin }[]): Origin[] {
  return [...new Set(all.map(({ origin }) => origin))];
}
