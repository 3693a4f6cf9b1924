// SPDX-License-Identifier: Apache-2.0
//
// The instructions that rules are made of, as data. A rule runs them in order until one doesn't match; what they hand on
// to each other is in registers, sixteen words of 32 bits. Above each is how `nft --debug=netlink` writes it. Nothing here
// is newer than Linux 5.2, the first with NAT in tables of family inet.
import type { Attribute } from "./message.ts";

/** One instruction: its name in the kernel and its attributes. */
export interface Expression {
  readonly name: string;
  readonly attributes: readonly Attribute[];
}

const NFT_REG_VERDICT = 0;
const NFT_REG32_00 = 8;

/** The register that is the n-th word of 32 bits, 0 to 15. A longer value goes on in the words after it. */
function word(n: number): number {
  return NFT_REG32_00 + n;
}

/** Numbers that the kernel leaves in registers in host order, as bytes to compare with. */
export function hostU32(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

/** NFT_META_*. */
const META = { nfproto: 15, l4proto: 16, iifgroup: 21, oifgroup: 22 } as const;

/** `[ meta load KEY => reg 1 ]`, or into another word. */
export function meta(key: keyof typeof META, into = 0): Expression {
  return {
    name: "meta",
    attributes: [
      [1, word(into)],
      [2, META[key]],
    ],
  };
}

/** NFT_CMP_*. */
const COMPARISONS = { eq: 0, neq: 1, lte: 3, gte: 5 } as const;

/** `[ cmp eq reg 1 VALUE ]`, or another comparison, of bytes from the first on. */
export function compare(value: Uint8Array, operator: keyof typeof COMPARISONS = "eq"): Expression {
  return {
    name: "cmp",
    attributes: [
      [1, word(0)],
      [2, COMPARISONS[operator]],
      [3, [[1, value]]],
    ],
  };
}

const BASES = { network: 1, transport: 2 } as const;

/** `[ payload load 4b @ network header + 16 => reg 1 ]`. Doesn't match where the packet has no such bytes. */
export function payload(base: keyof typeof BASES, offset: number, length: number, into = 0): Expression {
  return {
    name: "payload",
    attributes: [
      [1, word(into)],
      [2, BASES[base]],
      [3, offset],
      [4, length],
    ],
  };
}

/** `[ lookup reg 1 set NAME ]`: matches when what is in the registers from the first on is in the set. */
export function lookup(set: string): Expression {
  return {
    name: "lookup",
    attributes: [
      [1, set],
      [2, word(0)],
    ],
  };
}

const NFT_LOOKUP_F_INV = 1;

/** `[ lookup reg 1 set NAME 0x1 ]`: matches when it isn't. */
export function lookupNot(set: string): Expression {
  return {
    name: "lookup",
    attributes: [
      [1, set],
      [2, word(0)],
      [5, NFT_LOOKUP_F_INV],
    ],
  };
}

/** `[ lookup reg 1 set NAME dreg 1 ]`: the same in a map, and what it maps to is in the registers after it. */
export function lookupMap(map: string): Expression {
  return {
    name: "lookup",
    attributes: [
      [1, map],
      [2, word(0)],
      [3, word(0)],
    ],
  };
}

/** `[ lookup reg 1 set NAME dreg 0 ]`: does what a map of verdicts says, and goes on where it says nothing. */
export function lookupVerdict(map: string): Expression {
  return {
    name: "lookup",
    attributes: [
      [1, map],
      [2, word(0)],
      [3, NFT_REG_VERDICT],
    ],
  };
}

const FIB_RESULT = { oif: 1, type: 3 } as const;
const FIB_FLAGS = { saddr: 1, daddr: 2, iif: 8, present: 32 } as const;

/** `[ fib saddr . iif oif present => reg 1 ]`: what the routing table says of the packet, in host order. */
export function fib(of: readonly (keyof typeof FIB_FLAGS)[], result: keyof typeof FIB_RESULT): Expression {
  return {
    name: "fib",
    attributes: [
      [1, word(0)],
      [2, FIB_RESULT[result]],
      [3, of.reduce((flags, flag) => flags | FIB_FLAGS[flag], 0)],
    ],
  };
}

const NFT_CT_STATE = 0;
const NFT_CT_STATUS = 2;

/** NF_CT_STATE_BIT of include/uapi/linux/netfilter/nf_conntrack_common.h: a packet has one of them. */
export const CT_STATE = { invalid: 1, established: 2, related: 4, new: 8 } as const;

/** `[ ct load state => reg 1 ]` and that one of these is in it. */
export function ctStateIs(states: readonly (keyof typeof CT_STATE)[]): Expression[] {
  const bits = states.reduce((all, state) => all | CT_STATE[state], 0);
  const load: Expression = {
    name: "ct",
    attributes: [
      [1, word(0)],
      [2, NFT_CT_STATE],
    ],
  };
  return [load, mask(hostU32(bits)), compare(hostU32(0), "neq")];
}

/** `[ ct load status => reg 1 ]`: IPS_* of include/uapi/linux/netfilter/nf_conntrack_common.h, in host order. */
export function ctStatus(): Expression {
  return {
    name: "ct",
    attributes: [
      [1, word(0)],
      [2, NFT_CT_STATUS],
    ],
  };
}

/** `[ bitwise reg 1 = ( reg 1 & MASK ) ^ 0 ]` */
export function mask(bits: Uint8Array): Expression {
  return {
    name: "bitwise",
    attributes: [
      [1, word(0)],
      [2, word(0)],
      [3, bits.length],
      [4, [[1, bits]]],
      [5, [[1, new Uint8Array(bits.length)]]],
    ],
  };
}

/** `[ counter pkts 0 bytes 0 ]` */
export const COUNTER: Expression = { name: "counter", attributes: [] };

/** NFT_LIMIT_PKTS, with the rate in packets a second. */
const NFT_LIMIT_PKTS = 0;

/** `[ limit rate N/second burst M type packets ]`: doesn't match once there were more. */
export function limit(perSecond: number, burst: number): Expression {
  return {
    name: "limit",
    attributes: [
      [1, u64be(perSecond)],
      [2, u64be(1)],
      [3, burst],
      [4, NFT_LIMIT_PKTS],
      [5, 0],
    ],
  };
}

/**
 * `[ log prefix TEXT group N snaplen BYTES ]`: a copy of the packet's first bytes for whoever listens to the group of NFLOG.
 * @param prefix 127 bytes at most
 */
export function logToGroup(group: number, prefix: string, snaplen: number): Expression {
  return {
    name: "log",
    attributes: [
      [1, Uint8Array.of(group >> 8, group & 0xff)],
      [2, prefix],
      [3, snaplen],
    ],
  };
}

function u64be(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}

const NF_DROP = 0;
const NF_ACCEPT = 1;
const NFT_JUMP = -3;
const NFT_GOTO = -4;
const NFT_RETURN = -5;

function verdict(attributes: readonly Attribute[]): Expression {
  return {
    name: "immediate",
    attributes: [
      [1, NFT_REG_VERDICT],
      [2, [[2, attributes]]],
    ],
  };
}

/** `[ immediate reg 0 drop ]` */
export const DROP: Expression = verdict([[1, NF_DROP]]);

/** `[ immediate reg 0 accept ]`: ends the hook's chains of this priority, and no others. */
export const ACCEPT: Expression = verdict([[1, NF_ACCEPT]]);

/** `[ immediate reg 0 return ]` */
export const RETURN: Expression = verdict([[1, NFT_RETURN >>> 0]]);

/** `[ immediate reg 0 jump -> CHAIN ]` */
export function jump(chain: string): Expression {
  return verdict(jumpTo(chain));
}

/** The attributes of a jump, as a verdict map has them too. */
export function jumpTo(chain: string): readonly Attribute[] {
  return [
    [1, NFT_JUMP >>> 0],
    [2, chain],
  ];
}

/** `[ immediate reg 0 goto -> CHAIN ]`: a jump that doesn't come back here. */
export function goTo(chain: string): Expression {
  return verdict([
    [1, NFT_GOTO >>> 0],
    [2, chain],
  ]);
}

const NFT_NAT_DNAT = 1;

/**
 * `[ nat dnat ip addr_min reg 1 proto_min reg 9 ]`: to the address in the first registers and the port after it, as a map
 * to `ipv4_addr . inet_service` leaves them. Passes over packets of the other family.
 */
export function dnat(family: 4 | 6): Expression {
  return {
    name: "nat",
    attributes: [
      [1, NFT_NAT_DNAT],
      [2, NFPROTO[family]],
      [3, word(0)],
      [5, word(family === 4 ? 1 : 4)],
    ],
  };
}

/** `[ masq ]`: from the address of the node that it would itself use for that destination. */
export const MASQUERADE: Expression = { name: "masq", attributes: [] };

/** NF_NAT_RANGE_PROTO_RANDOM_FULLY of include/uapi/linux/netfilter/nf_nat.h. */
const RANDOM_FULLY = 16;

/** `[ masq flags 0x10 ]`: the same from any free port: two connections that begin at once don't take the same one. */
export const MASQUERADE_FULLY_RANDOM: Expression = { name: "masq", attributes: [[1, RANDOM_FULLY]] };

/** NFPROTO_IPV4 and NFPROTO_IPV6 by number of the family. */
const NFPROTO = { 4: 2, 6: 10 } as const;

/** `meta nfproto ipv4`, which nft doesn't write where the rest of the rule says it. */
export function ofFamily(family: 4 | 6): Expression[] {
  return [meta("nfproto"), compare(Uint8Array.of(NFPROTO[family]))];
}

const OFFSETS = { 4: { saddr: 12, daddr: 16, bytes: 4 }, 6: { saddr: 8, daddr: 24, bytes: 16 } } as const;

/** `[ payload load ]` of `ip saddr`, `ip daddr`, `ip6 saddr` or `ip6 daddr`. Only behind `ofFamily`. */
export function address(family: 4 | 6, which: "saddr" | "daddr", into = 0): Expression {
  return payload("network", OFFSETS[family][which], OFFSETS[family].bytes, into);
}

/** `[ payload load 1b ]`, `cmp eq 0x7f`: `ip saddr 127.0.0.0/8` or daddr. Only behind `ofFamily(4)`. */
export function isLoopback4(which: "saddr" | "daddr"): Expression[] {
  return [payload("network", OFFSETS[4][which], 1), compare(Uint8Array.of(127))];
}

/** `th dport`: at one place in TCP, UDP and SCTP. */
export function destinationPort(into: number): Expression {
  return payload("transport", 2, 2, into);
}
