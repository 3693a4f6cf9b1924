// SPDX-License-Identifier: Apache-2.0
//
// Interface addresses: struct ifaddrmsg and IFA_* of include/uapi/linux/if_addr.h.
import { formatAddress, hostLength } from "../net/address.ts";
import { attributes, attrU32, Body, type Message, NLM_F_CREATE, NLM_F_EXCL, type Request } from "./message.ts";
import { addressFamily, SCOPE_LINK, SCOPE_UNIVERSE } from "./route.ts";

const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
/** No duplicate address detection: the address can be used at once. */
const IFA_F_NODAD = 0x02;
/** Duplicate address detection is under way, or found a duplicate: the address can't be used. */
const IFA_F_DADFAILED = 0x08;
const IFA_F_TENTATIVE = 0x40;

/** `ip address add ADDRESS/LENGTH dev NAME nodad`; the length is that of a single host where it isn't given. */
export function addAddress(index: number, name: string, address: Uint8Array, length?: number): Request {
  const v4 = address.length === 4;
  const bits = length ?? hostLength(v4 ? 4 : 6);
  const linkLocal = !v4 && address[0] === 0xfe && ((address[1] as number) & 0xc0) === 0x80;
  // struct ifaddrmsg: family, prefix length, flags, scope, index.
  const body = new Body()
    .u8(addressFamily(address))
    .u8(bits)
    .u8(0)
    .u8(linkLocal ? SCOPE_LINK : SCOPE_UNIVERSE)
    .u32(index)
    .attr(IFA_LOCAL, address)
    .attr(IFA_ADDRESS, address);
  if (!v4) body.attrU32(IFA_FLAGS, IFA_F_NODAD);
  return {
    type: RTM_NEWADDR,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: body.done(),
    what: `add address ${formatAddress(address)}/${bits} to ${name}`,
  };
}

/** All addresses of the namespace. */
export function dumpAddresses(): Request {
  return {
    type: RTM_GETADDR,
    flags: 0,
    body: new Body().u8(0).u8(0).u8(0).u8(0).u32(0).done(),
    what: "list addresses",
  };
}

/** What an RTM_NEWADDR message says. */
export interface InterfaceAddress {
  /** Index of the link. */
  readonly index: number;
  readonly address: Uint8Array;
  readonly length: number;
  /** Not tentative, and no duplicate was found. */
  readonly usable: boolean;
}

/** Reads an RTM_NEWADDR message; undefined when it is none or has no address. */
export function decodeAddress(message: Message): InterfaceAddress | undefined {
  const { body, type } = message;
  if (type !== RTM_NEWADDR || body.length < 8) return undefined;
  const found = attributes(body.subarray(8));
  const address = found.get(IFA_LOCAL) ?? found.get(IFA_ADDRESS);
  if (address === undefined || (address.length !== 4 && address.length !== 16)) return undefined;
  const flags = attrU32(found.get(IFA_FLAGS)) ?? (body[2] as number);
  return {
    index: new DataView(body.buffer, body.byteOffset).getUint32(4, true),
    address: address.slice(),
    length: body[1] as number,
    usable: (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) === 0,
  };
}
