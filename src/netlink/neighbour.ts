// SPDX-License-Identifier: Apache-2.0
//
// Neighbour entries: struct ndmsg and NDA_* of include/uapi/linux/neighbour.h.
import { formatAddress } from "../net/address.ts";
import { Body, NLM_F_CREATE, NLM_F_REPLACE, type Request } from "./message.ts";
import { addressFamily } from "./route.ts";

const RTM_NEWNEIGH = 28;
const NDA_DST = 1;
const NDA_LLADDR = 2;
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
