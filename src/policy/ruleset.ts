// SPDX-License-Identifier: Apache-2.0
//
// What policies become: sets, maps of verdicts and chains as data, in nftables' terms but without its encoding. Pure.
//
//   table inet flatnet_policy {
//     map egress4  { type ipv4_addr : verdict; elements = { 10.244.1.2 : jump e4_… } }     local pods by their addresses
//     map ingress4 { type ipv4_addr : verdict; elements = { 10.244.1.2 : jump i4_… } }
//     set self4    { type ipv4_addr . ipv4_addr; elements = { 10.244.1.2 . 10.244.1.2 } }
//     set closed_egress4, closed_ingress4 { type ipv4_addr; … }                            the keys of the maps
//     set pods4_…  { type ipv4_addr; … }                                  peers that are pods: named after their selectors
//     set reach4_… { type ipv4_addr . inet_proto . inet_service; … }      pods with the ports that each of them has
//     set blocks4_… { type ipv4_addr; flags interval; … }                 peers that are blocks: named after what they hold
//     set blockports4_… { type ipv4_addr . inet_proto . inet_service; flags interval; … }
//     set ports_…  { type inet_proto . inet_service; … }
//     chain forward { type filter hook forward priority filter; … the fixed part, base-chains.ts … }
//     chain i4_…    { … what a set of policies allows; what it doesn't is dropped at the end … }
//   }
//
// A name with a hash stands for what it names: such a chain never changes, nor do sets of blocks and ports. Only the elements of the
// maps, of `self`, `closed`, `pods` and `reach` come and go with pods.
import type { Family } from "../net/address.ts";

/** The table's name. */
export const POLICY_TABLE = "flatnet_policy";

export type Direction = "ingress" | "egress";

/** Where a rule comes from. */
export interface Origin {
  readonly policy: PolicyRef;
  readonly direction: Direction;
  /** Its place in the policy's `ingress` or `egress`, from 0. */
  readonly rule: number;
}

/** Names a policy for people: `namespace` is undefined for those of the whole cluster. */
export interface PolicyRef {
  readonly kind: "NetworkPolicy" | "ClusterNetworkPolicy";
  readonly namespace: string | undefined;
  readonly name: string;
}

/** One type, or several that make a concatenation in this order. */
export type KeyType = "ipv4_addr" | "ipv6_addr" | "inet_proto" | "inet_service";

/**
 * Text of an element's key as nft writes it: fields joined by " . ", each a value or a range "first-last", ranges only in sets with
 * `interval`. Addresses are canonical (`formatAddress`), protocols "tcp", "udp", "sctp", ports decimal. Equal elements have
 * equal text; no two elements of a set overlap.
 */
export type ElementKey = string;

/** A set of addresses, ports or both. */
export interface PolicySet {
  readonly kind: "set";
  readonly name: string;
  readonly key: readonly KeyType[];
  /** Elements may have ranges. One of a single field is an interval set, of several a concatenation with ranges. */
  readonly interval: boolean;
  readonly elements: ReadonlySet<ElementKey>;
}

/** A map of addresses to chains that are jumped to. */
export interface VerdictMap {
  readonly kind: "map";
  readonly name: string;
  readonly key: readonly KeyType[];
  readonly elements: ReadonlyMap<ElementKey, ChainName>;
}

export type NamedSet = PolicySet | VerdictMap;
export type ChainName = string;

/** TCP, UDP and SCTP by the names that nft has for them. */
export type L4 = "tcp" | "udp" | "sctp";

/** What of a packet is looked up. */
export type PacketField = "saddr" | "daddr" | "l4proto" | "dport";

/** A condition. All of a rule's must be met. */
export type Match =
  /** Of base chains only: the others are of one family by who jumps to them. */
  | { readonly kind: "family"; readonly family: Family }
  /** `ip saddr . meta l4proto . th dport @set`, of the chain's family, or the one a `family` before it says. */
  | { readonly kind: "lookup"; readonly fields: readonly PacketField[]; readonly set: string }
  | { readonly kind: "l4proto"; readonly protocol: L4 }
  /** Both ends included; behind an l4proto. */
  | { readonly kind: "dport"; readonly first: number; readonly last: number }
  | { readonly kind: "ctState"; readonly states: readonly ("established" | "related" | "new")[] }
  /** A TCP segment that is no connection's first: of SYN, ACK, FIN and RST not just SYN. */
  | { readonly kind: "midstream" }
  /** ICMPv6 of types 133 to 137, RFC 4861. */
  | { readonly kind: "neighbourDiscovery" };

/** `return` is how chains of policies allow: the other direction is judged behind them. `goto` doesn't come back. */
export type Verdict =
  | { readonly kind: "accept" }
  | { readonly kind: "return" }
  | { readonly kind: "drop" }
  | { readonly kind: "goto"; readonly chain: ChainName }
  /** `ip saddr vmap @map`: goes on behind it when the map doesn't have it. */
  | { readonly kind: "vmap"; readonly field: "saddr" | "daddr"; readonly map: string };

export interface PolicyRule {
  readonly matches: readonly Match[];
  readonly verdict: Verdict;
  /**
   * Which rules of policies it stands for; several where they were merged. None in the fixed part, and none where a chain
   * drops at its end what nothing in it allowed: that is due to all of the chain's `policies`.
   */
  readonly origins: readonly Origin[];
  /** Whether packets are counted, and, where they are dropped, sampled to nflog. */
  readonly counted: boolean;
}

export interface PolicyChain {
  readonly name: ChainName;
  /** A base chain, all of type filter with priority filter and policy accept. */
  readonly hook?: "forward" | "output";
  /** undefined where a chain is of both. */
  readonly family: Family | undefined;
  readonly direction: Direction | undefined;
  /** Whose rules it has, for people who want to know who dropped a packet. */
  readonly policies: readonly PolicyRef[];
  readonly rules: readonly PolicyRule[];
}

/** All of the table. What is named in it is in it. */
export interface Ruleset {
  readonly sets: ReadonlyMap<string, NamedSet>;
  readonly chains: ReadonlyMap<ChainName, PolicyChain>;
}

export const NO_RULESET: Ruleset = { sets: new Map(), chains: new Map() };

/**
 * What makes one ruleset of another, as one transaction in this order: new sets with their elements and new chains, then
 * chains that are emptied and filled anew, then elements (of a set first those that go), then chains and sets that nobody names
 * any more. Maps are new without elements, which come with the others when their chains are there.
 */
export interface RulesetChange {
  readonly newSets: readonly NamedSet[];
  readonly newChains: readonly PolicyChain[];
  readonly replacedChains: readonly PolicyChain[];
  readonly elements: readonly ElementChange[];
  readonly goneChains: readonly ChainName[];
  readonly goneSets: readonly string[];
}

export interface ElementChange {
  readonly set: string;
  readonly remove: readonly ElementKey[];
  readonly add: readonly NewElement[];
}

/** @param chain where the set is a map */
export interface NewElement {
  readonly key: ElementKey;
  readonly chain?: ChainName;
}

export function isEmpty(change: RulesetChange): boolean {
  return (
    change.newSets.length === 0 &&
    change.newChains.length === 0 &&
    change.replacedChains.length === 0 &&
    change.elements.length === 0 &&
    change.goneChains.length === 0 &&
    change.goneSets.length === 0
  );
}

/** Joins the fields of a concatenation. */
export function elementKey(...fields: readonly string[]): ElementKey {
  return fields.join(" . ");
}

/** A range, or the one value that it has. */
export function rangeText(first: string, last: string): string {
  return first === last ? first : `${first}-${last}`;
}

export function addressType(family: Family): "ipv4_addr" | "ipv6_addr" {
  return family === 4 ? "ipv4_addr" : "ipv6_addr";
}
