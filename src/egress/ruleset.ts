// SPDX-License-Identifier: Apache-2.0
//
// What leaves the cluster from this node's pods, as an nftables table of its own: where the world outside can't route to
// pods, their connections get the node's address on the way out. Whatever stays inside is never touched: packets to any
// node's pods, to any node, and to the exceptions. Pure.
//
//   table inet flatnet_egress {
//     set pods4 { type ipv4_addr; flags interval; elements = { 10.244.1.0/24 } }
//     set inside4 { type ipv4_addr; flags interval; elements = { 10.244.0.0/16, 172.18.0.0/24 } }
//     …
//     chain egress {
//       type nat hook postrouting priority srcnat; policy accept;
//       ip saddr @pods4 ip daddr != @inside4 counter masquerade fully-random
//       ip6 saddr @pods6 ip6 daddr != @inside6 counter masquerade fully-random
//     }
//   }
import type { Family } from "../net/address.ts";
import { type Interval, lastAddress, union } from "../net/intervals.ts";
import { type Prefix, prefixBytes } from "../net/prefix.ts";
import { address, COUNTER, lookup, lookupNot, MASQUERADE_FULLY_RANDOM, ofFamily } from "../nft/expressions.ts";
import { type Chain, type Element, PRIORITY, type Table } from "../nft/table.ts";

/** The table's name: its own, so that neither this nor the node's other rules are ever made anew because of each other. */
export const EGRESS_TABLE = "flatnet_egress";

export interface EgressRules {
  /** This node's own subnets. */
  readonly pods: readonly Prefix[];
  /** Every subnet and node of the cluster, and the exceptions. */
  readonly inside: readonly Prefix[];
}

export const SET_NAMES = ["pods4", "pods6", "inside4", "inside6"] as const;
export type SetName = (typeof SET_NAMES)[number];

const FAMILIES: readonly Family[] = [4, 6];

/** What each set holds. */
export function intervalsOf({ pods, inside }: EgressRules): Record<SetName, Interval[]> {
  return {
    pods4: union(pods, 4),
    pods6: union(pods, 6),
    inside4: union(inside, 4),
    inside6: union(inside, 6),
  };
}

export function egressTable(intervals: Record<SetName, readonly Interval[]>): Table {
  return {
    name: EGRESS_TABLE,
    sets: SET_NAMES.map((name) => ({
      name,
      key: [familyOfSet(name) === 4 ? "ipv4_addr" : "ipv6_addr"],
      interval: true,
      elements: intervals[name].flatMap((interval) => elementsOf(interval, familyOfSet(name))),
    })),
    chains: [EGRESS_CHAIN],
  };
}

/** The rule of each family. */
export const EGRESS_CHAIN: Chain = {
  name: "egress",
  hook: { type: "nat", at: "postrouting", priority: PRIORITY.srcnat },
  rules: FAMILIES.map((family) => [
    ...ofFamily(family),
    address(family, "saddr"),
    lookup(`pods${family}`),
    address(family, "daddr"),
    lookupNot(`inside${family}`),
    COUNTER,
    MASQUERADE_FULLY_RANDOM,
  ]),
};

export function familyOfSet(name: SetName): Family {
  return name.endsWith("4") ? 4 : 6;
}

/** An interval's two ends; one that goes on to the last address there is has no end. */
export function elementsOf({ first, last }: Interval, family: Family): Element[] {
  const key = (base: bigint) => prefixBytes({ family, base, length: 0 });
  const start: Element = { key: key(first) };
  return last === lastAddress(family) ? [start] : [start, { key: key(last + 1n), intervalEnd: true }];
}
