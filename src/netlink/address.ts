// SPDX-License-Identifier: Apache-2.0
//
// Interface addresses: struct ifaddrmsg and IFA_* of include/uapi/linux/if_addr.h.
import { formatAddress, hostLength } from "../net/address.ts";
import { Body, NLM_F_CREATE, NLM_F_EXCL, type Request } from "./message.ts";
import { addressFamily, SCOPE_LINK, SCOPE_UNIVERSE } from "./route.ts";

const RTM_NEWADDR = 20;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
/** No duplicate address detection: the address can be used at once. */
const IFA_F_NODAD = 0x02;

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
