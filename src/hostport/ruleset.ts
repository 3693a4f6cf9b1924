// SPDX-License-Identifier: Apache-2.0
//
// flatnet's nftables table with hostPorts in it. Chains and rules never change; a pod is a few elements of maps.
//
// The translation happens to the first packet of a connection, so maps are looked up once each. A mapping for one address
// of the node goes before one for all of them. Only what is sent to an address of the node is looked at, so that nothing a
// pod or a client sends to elsewhere can be taken for a hostPort.
//
// The pod sees the client's own address. Replies come back through the node, because a pod's only way out leads there, in
// all cases but two, and only those are masqueraded: the pod that reaches itself by its hostPort (its own kernel would
// drop a packet from its own address), and the node's 127.0.0.1 (which must not be on any wire). The second needs the
// host end's route_localnet, which lets a pod send to the node's 127.0.0.0/8 as well: the chain hostport_localnet forbids
// that. IPv6 has nothing like route_localnet, so [::1] is left alone; and so are link-local addresses, whose packets the
// kernel doesn't forward.
//
// A node without hostPorts has none of this: a NAT chain makes the kernel track every connection of the node.
import { NFT_TABLE } from "../net/names.ts";
import { ANTISPOOF } from "../nft/antispoof.ts";
import {
  address,
  COUNTER,
  compare,
  ctStatus,
  DROP,
  destinationPort,
  dnat,
  type Expression,
  fib,
  hostU32,
  isLoopback4,
  jump,
  lookup,
  lookupMap,
  MASQUERADE,
  mask,
  meta,
  ofFamily,
  RETURN,
} from "../nft/expressions.ts";
import { byHostEnd } from "../nft/host-ends.ts";
import { type Chain, type NftSet, PRIORITY, ruleMark, type Table } from "../nft/table.ts";
import type { Entry, SetName } from "./entries.ts";

/** The types of each set; `data` where it is a map. */
const SETS = {
  hostport4: { key: ["inet_proto", "inet_service"], data: ["ipv4_addr", "inet_service"] },
  hostport4_on: { key: ["ipv4_addr", "inet_proto", "inet_service"], data: ["ipv4_addr", "inet_service"] },
  hostport6: { key: ["inet_proto", "inet_service"], data: ["ipv6_addr", "inet_service"] },
  hostport6_on: { key: ["ipv6_addr", "inet_proto", "inet_service"], data: ["ipv6_addr", "inet_service"] },
  hairpin4: { key: ["ipv4_addr", "ipv4_addr"] },
  hairpin6: { key: ["ipv6_addr", "ipv6_addr"] },
} as const satisfies Record<SetName, Pick<NftSet, "key" | "data">>;

/** RTN_LOCAL of include/uapi/linux/rtnetlink.h. */
const RTN_LOCAL = 2;
/** IPS_DST_NAT of include/uapi/linux/netfilter/nf_conntrack_common.h. */
const IPS_DST_NAT = 0x20;
const LOOPBACK6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const LINK_LOCAL6 = { prefix: leading(0xfe, 0x80), mask: leading(0xff, 0xc0) };

/** The bytes, then zeros up to the length of an IPv6 address. */
function leading(...bytes: number[]): Uint8Array {
  const address = new Uint8Array(16);
  address.set(bytes);
  return address;
}

/** ct status dnat */
const TRANSLATED: readonly Expression[] = [ctStatus(), mask(hostU32(IPS_DST_NAT)), compare(hostU32(0), "neq")];

/** fib daddr type local jump hostport */
const TO_THE_NODE: readonly Expression[] = [fib(["daddr"], "type"), compare(hostU32(RTN_LOCAL)), jump("hostport")];

const CHAINS: readonly Chain[] = [
  {
    name: "hostport",
    rules: [
      // dnat ip to ip daddr . meta l4proto . th dport map @hostport4_on
      [...ofFamily(4), address(4, "daddr"), meta("l4proto", 1), destinationPort(2), lookupMap("hostport4_on"), dnat(4)],
      // dnat ip to meta l4proto . th dport map @hostport4
      [meta("l4proto"), destinationPort(1), lookupMap("hostport4"), dnat(4)],
      // ip6 daddr ::1 return
      [...ofFamily(6), address(6, "daddr"), compare(LOOPBACK6), RETURN],
      // ip6 daddr fe80::/10 return
      [...ofFamily(6), address(6, "daddr"), mask(LINK_LOCAL6.mask), compare(LINK_LOCAL6.prefix), RETURN],
      // dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostport6_on
      [...ofFamily(6), address(6, "daddr"), meta("l4proto", 4), destinationPort(5), lookupMap("hostport6_on"), dnat(6)],
      // dnat ip6 to meta l4proto . th dport map @hostport6
      [meta("l4proto"), destinationPort(1), lookupMap("hostport6"), dnat(6)],
    ],
  },
  // From other machines and from pods.
  {
    name: "hostport_prerouting",
    hook: { type: "nat", at: "prerouting", priority: PRIORITY.dstnat },
    rules: [TO_THE_NODE],
  },
  // From the node itself.
  {
    name: "hostport_output",
    hook: { type: "nat", at: "output", priority: PRIORITY.dstnat },
    rules: [TO_THE_NODE],
  },
  {
    name: "hostport_postrouting",
    hook: { type: "nat", at: "postrouting", priority: PRIORITY.srcnat },
    rules: [
      // oifgroup & 65535 == 26220 ip saddr 127.0.0.0/8 ct status dnat masquerade
      [...byHostEnd("oifgroup"), ...ofFamily(4), ...isLoopback4("saddr"), ...TRANSLATED, MASQUERADE],
      // ip saddr . ip daddr @hairpin4 ct status dnat masquerade
      [...ofFamily(4), address(4, "saddr"), address(4, "daddr", 1), lookup("hairpin4"), ...TRANSLATED, MASQUERADE],
      // ip6 saddr . ip6 daddr @hairpin6 ct status dnat masquerade
      [...ofFamily(6), address(6, "saddr"), address(6, "daddr", 4), lookup("hairpin6"), ...TRANSLATED, MASQUERADE],
    ],
  },
  {
    name: "hostport_localnet",
    hook: { type: "filter", at: "prerouting", priority: PRIORITY.raw },
    rules: [
      // iifgroup & 65535 == 26220 ip daddr 127.0.0.0/8 counter drop
      [...byHostEnd("iifgroup"), ...ofFamily(4), ...isLoopback4("daddr"), COUNTER, DROP],
    ],
  },
];

/** The chains that every hostPort needs, and what their rules are known by, in order. */
export const NEEDED_CHAINS: readonly { readonly name: string; readonly marks: readonly Uint8Array[] }[] = CHAINS.map(
  ({ name, rules }) => ({ name, marks: rules.map((_, n) => ruleMark(name, n)) }),
);

/**
 * The whole table.
 * @param entries undefined on a node that has no hostPorts
 * @returns undefined when nothing is to be in it
 */
export function desiredTable(antiSpoof: boolean, entries: Iterable<Entry> | undefined): Table | undefined {
  if (!antiSpoof && entries === undefined) return undefined;
  const chains = [...(antiSpoof ? [ANTISPOOF] : []), ...(entries === undefined ? [] : CHAINS)];
  return { name: NFT_TABLE, sets: entries === undefined ? [] : setsOf([...entries]), chains };
}

function setsOf(entries: readonly Entry[]): NftSet[] {
  return Object.entries(SETS).map(([name, types]) => ({
    name,
    ...types,
    elements: entries.filter(({ set }) => set === name),
  }));
}
