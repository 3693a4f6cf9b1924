// SPDX-License-Identifier: Apache-2.0
//
// Interface addresses: struct ifaddrmsg and IFA_* of include/uapi/linux/if_addr.h.
import { formatAddress, hostLength } from "../net/address.ts";
import { attributes, attrU32, Body, type Message, NLM_F_CREATE, NLM_F_EXCL, type Request } from "./message.ts";
import { addressFamily, SCOPE_LINK, SCOPE_UNIVERSE } from "./route.ts";

export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
/** Who made the address, as a route's protocol (Linux 5.18; older ones pass it over). */
const IFA_PROTO = 11;
/** No duplicate address detection: the address can be used at once. */
const IFA_F_NODAD = 0x02;
/** Duplicate address detection is under way, or found a duplicate: the address can't be used. */
const IFA_F_DADFAILED = 0x08;
const IFA_F_TENTATIVE = 0x40;

/**
 * `ip address add ADDRESS/LENGTH dev NAME nodad`; the length is that of a single host where it isn't given.
 * @param protocol the mark by which a restarted daemon knows it
 */
export function addAddress(
  index: number,
  name: string,
  address: Uint8Array,
  length: number = hostLength(address.length === 4 ? 4 : 6),
  protocol?: number,
): Request {
  const body = addressBody(index, address, length);
  if (address.length === 16) body.attrU32(IFA_FLAGS, IFA_F_NODAD);
  if (protocol !== undefined) body.attr(IFA_PROTO, new Uint8Array([protocol]));
  return {
    type: RTM_NEWADDR,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: body.done(),
    what: `add address ${formatAddress(address)}/${length} to ${name}`,
  };
}

/** `ip address del ADDRESS/LENGTH dev NAME`. EADDRNOTAVAIL when there is none. */
export function deleteAddress(index: number, name: string, address: Uint8Array, length: number): Request {
  return {
    type: RTM_DELADDR,
    flags: 0,
    body: addressBody(index, address, length).done(),
    what: `delete address ${formatAddress(address)}/${length} from ${name}`,
  };
}

function addressBody(index: number, address: Uint8Array, length: number): Body {
  const v4 = address.length === 4;
  const linkLocal = !v4 && address[0] === 0xfe && ((address[1] as number) & 0xc0) === 0x80;
  // struct ifaddrmsg: family, prefix length, flags, scope, index.
  return new Body()
    .u8(addressFamily(address))
    .u8(length)
    .u8(0)
    .u8(linkLocal ? SCOPE_LINK : SCOPE_UNIVERSE)
    .u32(index)
    .attr(IFA_LOCAL, address)
    .attr(IFA_ADDRESS, address);
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
  /** Who made it; undefined where nobody said, or the kernel doesn't keep it. */
  readonly protocol: number | undefined;
}

/** The link of an RTM_NEWADDR or RTM_DELADDR message, which has at least a struct ifaddrmsg. */
export function addressLink({ body }: Message): number | undefined {
  return body.length < 8 ? undefined : new DataView(body.buffer, body.byteOffset).getUint32(4, true);
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
    protocol: found.get(IFA_PROTO)?.[0],
    usable: (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) === 0,
  };
}
