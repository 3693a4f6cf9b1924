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

/** So many sets of ports with pods of their own get rules of their own. */
const MOST_PORT_GROUPS = 4;
/**
 * So many terms of one group that mean pods of many namespaces are looked up one by one. Each may be most of the cluster and asked for by
 * everybody: it is one set then. Pods of the policy's own namespace are few, and nobody else's business.
 */
const MOST_WIDE_TERMS = 4;

/** Peers that were found with the same ports. */
interface Group {
  readonly ports: Ports;
  readonly peers: PeerOrigins[];
}

interface PeerOrigins {
  readonly term: PodTerm;
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
  const groups = groupByPorts(numbered);
  // Those of every protocol can't be told by port; they are one group in any case.
  const own = groups.filter(({ ports }, i) => ports === "all" || i < MOST_PORT_GROUPS);
  for (const group of own) merger.pods(group);
  merger.reach(
    groups.filter((group) => !own.includes(group)),
    allowances.filter(({ names }) => names.length > 0),
  );
  merger.blocks(numbered);
  return merger;
}

/** Each term with all of its ports, then all terms that have the same. Those with most terms come first. */
function groupByPorts(allowances: readonly Allowance[]): Group[] {
  const byTerm = new Map<string, PeerOrigins & { ports: PortRange[] | "all" }>();
  for (const { peer, ports, origin } of allowances) {
    if (peer.kind !== "pods") continue;
    const found = byTerm.get(peer.term.key) ?? { term: peer.term, ports: [], origins: new Set<Origin>() };
    if (ports === "all" || found.ports === "all") found.ports = "all";
    else found.ports.push(...ports);
    found.origins.add(origin);
    byTerm.set(peer.term.key, found);
  }
  const byPorts = new Map<string, Group>();
  for (const { ports: some, ...peer } of byTerm.values()) {
    const ports = some === "all" ? some : mergePorts(some);
    const group = byPorts.get(portsText(ports)) ?? { ports, peers: [] };
    group.peers.push(peer);
    byPorts.set(portsText(ports), group);
  }
  return [...byPorts]
    .sort(([a, x], [b, y]) => y.peers.length - x.peers.length || (a < b ? -1 : 1))
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

  pods({ ports, peers }: Group): void {
    const wide = peers.filter(({ term }) => term.scope.kind !== "namespace");
    const narrow = peers.filter(({ term }) => term.scope.kind === "namespace");
    const sets = wide.length > MOST_WIDE_TERMS ? [wide, narrow] : [...wide.map((peer) => [peer]), narrow];
    for (const some of sets.filter(({ length }) => length > 0)) {
      const set = podsSet(
        some.map(({ term }) => term),
        this.#family,
      );
      this.sets.push(set);
      this.#rule([...this.#ports(ports), this.#lookup(set.name)], allOrigins(some));
    }
  }

  /** Pods with ports of their own: by name, or because there are too many kinds of them. */
  reach(groups: readonly Group[], named: readonly Allowance[]): void {
    const entries: ReachEntry[] = groups.flatMap(({ ports, peers }) =>
      peers.map(({ term }) => ({ term, within: undefined, ports: ports === "all" ? [] : ports, names: [] })),
    );
    for (const { peer, names } of named) {
      const within = peer.kind === "block" ? peer.block : undefined;
      entries.push({ term: peer.kind === "pods" ? peer.term : ANY_POD, within, ports: [], names });
    }
    if (entries.length === 0) return;
    const set = reachSet(entries, this.#family);
    this.sets.push(set);
    const origins = new Set([...groups.flatMap(({ peers }) => allOrigins(peers)), ...originsOf(named)]);
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

function allOrigins(peers: readonly PeerOrigins[]): Origin[] {
  return [...new Set(peers.flatMap(({ origins }) => [...origins]))];
}

function originsOf(all: readonly { readonly origin: Origin }[]): Origin[] {
  return [...new Set(all.map(({ origin }) => origin))];
}
