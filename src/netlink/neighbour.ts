// SPDX-License-Identifier: Apache-2.0
//
// Neighbour entries: struct ndmsg and NDA_* of include/uapi/linux/neighbour.h.
import { formatAddress } from "../net/address.ts";
import { attributes, Body, type Message, NLM_F_CREATE, NLM_F_REPLACE, type Request } from "./message.ts";
import { addressFamily } from "./route.ts";

const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NDA_IFINDEX = 8;
const NUD_PERMANENT = 0x80;

/** `ip neigh replace ADDRESS lladdr MAC dev NAME nud permanent`: nobody ever has to ask for this address by ARP or ND. */
export function addNeighbour(index: number, name: string, address: Uint8Array, mac: Uint8Array): Request {
  // struct ndmsg: family, pad, pad, index, state, flags, type.
  const body = new Body()
    .u8(addressFamily(address))
    .u8(0)
    .u16(0)
    .u32(index)
    .u16(NUD_PERMANENT)
    .u8(0)
    .u8(0)
    .attr(NDA_DST, address)
    .attr(NDA_LLADDR, mac);
  return {
    type: RTM_NEWNEIGH,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: body.done(),
    what: `add neighbour ${formatAddress(address)} on ${name}`,
  };
}

/** All neighbour entries of a link. */
export function dumpNeighbours(index: number): Request {
  const body = new Body().u8(0).u8(0).u16(0).u32(0).u16(0).u8(0).u8(0).attrU32(NDA_IFINDEX, index);
  return { type: RTM_GETNEIGH, flags: 0, body: body.done(), what: "list neighbours" };
}

/** What an RTM_NEWNEIGH message says. */
export interface Neighbour {
  /** Index of the link. */
  readonly index: number;
  readonly address: Uint8Array;
  readonly mac: Uint8Array | undefined;
  readonly permanent: boolean;
}

/** Reads an RTM_NEWNEIGH message; undefined when it is none or has no address. */
export function decodeNeighbour(message: Message): Neighbour | undefined {
  const { body, type } = message;
  if (type !== RTM_NEWNEIGH || body.length < 12) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const found = attributes(body.subarray(12));
  const address = found.get(NDA_DST);
  if (address === undefined) return undefined;
  return {
    index: view.getUint32(4, true),
    address: address.slice(),
    mac: found.get(NDA_LLADDR)?.slice(),
    permanent: (view.getUint16(8, true) & NUD_PERMANENT) !== 0,
  };
}
