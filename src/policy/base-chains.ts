// SPDX-License-Identifier: Apache-2.0
//
// The part of the table that is the same whatever the policies are, and costs packets of pods without policies the most: a
// connection's packets but its first end at the first rule, a first packet has two look-ups before its verdict maps. Pure.
//
//   chain forward {
//     type filter hook forward priority filter; policy accept;
//     ct state established,related accept
//     ct state new tcp flags & (fin|syn|rst|ack) != syn ip saddr @closed_ingress4 counter drop
//     ct state new tcp flags & (fin|syn|rst|ack) != syn ip daddr @closed_egress4 counter drop
//     ip saddr . ip daddr @self4 accept
//     ip saddr vmap @egress4
//     ip daddr vmap @ingress4
//     … and so for IPv6
//   }
//
// The forward hook is behind the translation of services' addresses and before masquerading, so both ends are the pods' own.
// What the node itself sends to its pods, and gets of them, isn't forwarded.
//
// A TCP segment in the middle of a connection that conntrack doesn't know (its entry was deleted because a policy changed) tells
// nothing of who began it. Let through from a pod that is closed to its peer, it would be the first packet of a
// connection in which the peer's packets are replies. So it only passes in a direction that policies judge.
import type { Family } from "../net/address.ts";
import {
  addressType,
  type ChainName,
  type Direction,
  type KeyType,
  type Match,
  type PolicyChain,
  type PolicyRule,
} from "./ruleset.ts";

const FAMILIES: readonly Family[] = [4, 6];

/** Local pods by address, to the chains of their policies. */
export function podMap(direction: Direction, family: Family): string {
  return `${direction}${family}`;
}

/** The keys of a map: the kernel doesn't look into a map as if it were a set. */
export function closedSet(direction: Direction, family: Family): string {
  return `closed_${direction}${family}`;
}

/** Pairs of the same address, twice: "a pod cannot block access to itself", which it has through a service. */
export function selfSet(family: Family): string {
  return `self${family}`;
}

/** Sets and maps that are always there. */
export function fixedSets(): { kind: "set" | "map"; name: string; key: KeyType[] }[] {
  return FAMILIES.flatMap((family) => [
    ...(["egress", "ingress"] as const).flatMap((direction) => [
      { kind: "map" as const, name: podMap(direction, family), key: [addressType(family)] },
      { kind: "set" as const, name: closedSet(direction, family), key: [addressType(family)] },
    ]),
    { kind: "set", name: selfSet(family), key: [addressType(family), addressType(family)] },
  ]);
}

/** @param judgeNode whether what the node itself sends to its pods is judged as well */
export function baseChains(judgeNode: boolean): PolicyChain[] {
  const forward: PolicyRule[] = [
    rule([KNOWN], { kind: "accept" }),
    ...FAMILIES.flatMap((family) => [
      rule(
        [NEW, MIDSTREAM, of(family), lookup("saddr", closedSet("ingress", family))],
        { kind: "drop" },
        { counted: true },
      ),
      rule(
        [NEW, MIDSTREAM, of(family), lookup("daddr", closedSet("egress", family))],
        { kind: "drop" },
        { counted: true },
      ),
      rule([of(family), { kind: "lookup", fields: ["saddr", "daddr"], set: selfSet(family) }], { kind: "accept" }),
      rule([of(family)], { kind: "vmap", field: "saddr", map: podMap("egress", family) }),
      rule([of(family)], { kind: "vmap", field: "daddr", map: podMap("ingress", family) }),
    ]),
  ];
  const output: PolicyRule[] = [
    rule([KNOWN], { kind: "accept" }),
    rule([{ kind: "neighbourDiscovery" }], { kind: "accept" }),
    ...FAMILIES.map((family) => rule([of(family)], { kind: "vmap", field: "daddr", map: podMap("ingress", family) })),
  ];
  return [base("forward", undefined, forward), ...(judgeNode ? [base("output", "ingress", output)] : [])];
}

const KNOWN: Match = { kind: "ctState", states: ["established", "related"] };
const NEW: Match = { kind: "ctState", states: ["new"] };
const MIDSTREAM: Match = { kind: "midstream" };

function of(family: Family): Match {
  return { kind: "family", family };
}

function lookup(field: "saddr" | "daddr", set: string): Match {
  return { kind: "lookup", fields: [field], set };
}

function rule(
  matches: readonly Match[],
  verdict: PolicyRule["verdict"],
  { counted = false }: { counted?: boolean } = {},
): PolicyRule {
  return { matches, verdict, origins: [], counted };
}

function base(hook: "forward" | "output", direction: Direction | undefined, rules: PolicyRule[]): PolicyChain {
  const name: ChainName = hook;
  return { name, hook, family: undefined, direction, policies: [], rules };
}
