// SPDX-License-Identifier: Apache-2.0
//
// Tracked connections: IPCTNL_MSG_CT_* and CTA_* of include/uapi/linux/netfilter/nfnetlink_conntrack.h, as far as finding
// and deleting them goes.
import type { Family } from "../net/address.ts";
import { attributes, Body, type Message, type Request } from "./message.ts";

const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_NEW = 0;
const IPCTNL_MSG_CT_GET = 1;
const IPCTNL_MSG_CT_DELETE = 2;
const AF_UNSPEC = 0;
const AF = { 4: 2, 6: 10 } as const;
/** In a deletion, says that the family is meant. */
const NFNETLINK_V1 = 1;

const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_ID = 12;
const CTA_ZONE = 18;
const CTA_FILTER = 25;
const CTA_FILTER_ORIG_FLAGS = 1;
const CTA_FILTER_REPLY_FLAGS = 2;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_SRC = 3;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const NLA_F_NESTED = 0x8000;

/** Which fields of a tuple in a filter are looked at; numbers of the kernel's own (net/netfilter/nf_internals.h). */
const FILTER = { source: 1, destination: 2, protocol: 8, sourcePort: 16, destinationPort: 32 } as const;

/** Packets of one direction. Addresses are bytes; ports are 0 where the protocol has none. */
export interface Tuple {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** IPPROTO_* number. */
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** A connection: its first packet, and what an answer to that looks like before it is translated back. */
export interface Flow {
  readonly original: Tuple;
  readonly reply: Tuple;
  /** What names it to the kernel: CTA_TUPLE_ORIG, CTA_ZONE and CTA_ID as they came. */
  readonly identity: readonly (readonly [type: number, value: Uint8Array])[];
  readonly family: Family;
}

/** Fields that have to be as given, at least one. Ports go with a protocol. */
export interface FlowFilter {
  readonly family: Family;
  readonly original?: Partial<Tuple>;
  readonly reply?: Partial<Tuple>;
}

/** To be dumped: all connections of both families. */
export const LIST_ALL_FLOWS: Request = {
  type: type(IPCTNL_MSG_CT_GET),
  flags: 0,
  body: nfgen(AF_UNSPEC, 0).done(),
  what: "list tracked connections",
};

/**
 * To be dumped. The kernel leaves out what doesn't match since Linux 5.8; one that doesn't know filters gives all, so the
 * answers have to be looked at.
 */
export function listFlows(filter: FlowFilter): Request {
  const body = filtered(filter).done();
  return { type: type(IPCTNL_MSG_CT_GET), flags: 0, body, what: "list some tracked connections" };
}

/**
 * Deletes all that match, which costs the kernel a tenth of listing them. Linux 6.8 and later; before that it is a
 * malformed tuple of one connection and refused (EINVAL), without any effect.
 */
export function deleteFlows(filter: FlowFilter): Request {
  const body = filtered(filter).done();
  return { type: type(IPCTNL_MSG_CT_DELETE), flags: 0, body, what: "delete some tracked connections" };
}

function filtered({ family, original = {}, reply = {} }: FlowFilter): Body {
  const flags = [filterFlags(original), filterFlags(reply)] as const;
  // A deletion without a tuple would be one of everything.
  if (flags[0] === 0 && flags[1] === 0) throw new RangeError("a filter of tracked connections that filters nothing");
  const body = nfgen(AF[family], NFNETLINK_V1);
  if (flags[0] !== 0) body.nest(CTA_TUPLE_ORIG, (tuple) => writeTuple(tuple, family, original), true);
  if (flags[1] !== 0) body.nest(CTA_TUPLE_REPLY, (tuple) => writeTuple(tuple, family, reply), true);
  // In host order, unlike nearly everything in nfnetlink.
  return body.nest(
    CTA_FILTER,
    (filter) => filter.attrU32(CTA_FILTER_ORIG_FLAGS, flags[0]).attrU32(CTA_FILTER_REPLY_FLAGS, flags[1]),
    true,
  );
}

/** Deletes exactly this connection, and none that has taken its place. ENOENT: it is gone. */
export function deleteFlow({ family, identity }: Flow): Request {
  const body = nfgen(AF[family], NFNETLINK_V1);
  for (const [attribute, value] of identity) {
    body.attr(attribute === CTA_TUPLE_ORIG ? attribute | NLA_F_NESTED : attribute, value);
  }
  return { type: type(IPCTNL_MSG_CT_DELETE), flags: 0, body: body.done(), what: "delete a tracked connection" };
}

/** A connection in a dump; undefined for what isn't one of IPv4 or IPv6 with both directions. */
export function decodeFlow(message: Message): Flow | undefined {
  if (message.type !== type(IPCTNL_MSG_CT_NEW)) return undefined;
  const family = ([4, 6] as const).find((one) => AF[one] === message.body[0]);
  if (family === undefined) return undefined;
  const found = attributes(message.body.subarray(4));
  const original = decodeTuple(found.get(CTA_TUPLE_ORIG), family);
  const reply = decodeTuple(found.get(CTA_TUPLE_REPLY), family);
  if (original === undefined || reply === undefined) return undefined;
  const identity = [CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID].flatMap((attribute) => {
    const value = found.get(attribute);
    return value === undefined ? [] : [[attribute, value] as const];
  });
  return { family, original, reply, identity };
}

function type(message: number): number {
  return (NFNL_SUBSYS_CTNETLINK << 8) | message;
}

/** struct nfgenmsg. */
function nfgen(family: number, version: number): Body {
  return new Body().u8(family).u8(version).u16(0);
}

function filterFlags(tuple: Partial<Tuple>): number {
  return Object.entries(FILTER).reduce(
    (flags, [field, flag]) => (tuple[field as keyof Tuple] === undefined ? flags : flags | flag),
    0,
  );
}

function writeTuple(body: Body, family: Family, tuple: Partial<Tuple>): void {
  const { source, destination, protocol, sourcePort, destinationPort } = tuple;
  if (source !== undefined || destination !== undefined) {
    body.nest(
      CTA_TUPLE_IP,
      (ip) => {
        if (source !== undefined) ip.attr(family === 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, source);
        if (destination !== undefined) ip.attr(family === 4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, destination);
      },
      true,
    );
  }
  if (protocol !== undefined) {
    body.nest(
      CTA_TUPLE_PROTO,
      (proto) => {
        proto.attrU8(CTA_PROTO_NUM, protocol);
        if (sourcePort !== undefined) proto.attr(CTA_PROTO_SRC_PORT, networkU16(sourcePort));
        if (destinationPort !== undefined) proto.attr(CTA_PROTO_DST_PORT, networkU16(destinationPort));
      },
      true,
    );
  }
}

function decodeTuple(bytes: Uint8Array | undefined, family: Family): Tuple | undefined {
  if (bytes === undefined) return undefined;
  const parts = attributes(bytes);
  const ip = attributes(parts.get(CTA_TUPLE_IP) ?? new Uint8Array());
  const proto = attributes(parts.get(CTA_TUPLE_PROTO) ?? new Uint8Array());
  const source = ip.get(family === 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC);
  const destination = ip.get(family === 4 ? CTA_IP_V4_DST : CTA_IP_V6_DST);
  const protocol = proto.get(CTA_PROTO_NUM)?.[0];
  if (source === undefined || destination === undefined || protocol === undefined) return undefined;
  return {
    source,
    destination,
    protocol,
    sourcePort: readU16(proto.get(CTA_PROTO_SRC_PORT)),
    destinationPort: readU16(proto.get(CTA_PROTO_DST_PORT)),
  };
}

function networkU16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff);
}

function readU16(bytes: Uint8Array | undefined): number {
  return bytes === undefined || bytes.length < 2 ? 0 : ((bytes[0] as number) << 8) | (bytes[1] as number);
}
