// SPDX-License-Identifier: Apache-2.0
//
// Notifications that something of a link may have been taken away. They say where to look, and not what is there: whoever
// hears them reads the kernel anew. Pure.
import { RTM_DELADDR } from "./address.ts";
import { decodeLink, RTM_NEWLINK } from "./link.ts";
import { attributes, attrU32, decodeMessages } from "./message.ts";
import { RTM_DELNEIGH } from "./neighbour.ts";
import { RTM_DELROUTE } from "./route.ts";
import { RTM_DELRULE } from "./rule.ts";

/** The multicast groups of NETLINK_ROUTE that tell (RTNLGRP_* of include/uapi/linux/rtnetlink.h), by number. */
export const LOSS_GROUPS: readonly number[] = [
  1, // RTNLGRP_LINK
  3, // RTNLGRP_NEIGH
  5, // RTNLGRP_IPV4_IFADDR
  7, // RTNLGRP_IPV4_ROUTE
  8, // RTNLGRP_IPV4_RULE
  9, // RTNLGRP_IPV6_IFADDR
  11, // RTNLGRP_IPV6_ROUTE
  19, // RTNLGRP_IPV6_RULE
];

const RTA_OIF = 4;

/**
 * The links that a datagram says have lost an address, a route or a neighbour, or are down now, by their indexes; 0 is every
 * link of the namespace. What was made or brought up is nobody's loss and isn't in it.
 * @throws NetlinkError NETLINK_PROTOCOL for a malformed one
 */
export function lossesIn(datagram: Uint8Array): number[] {
  const losses: number[] = [];
  for (const message of decodeMessages(datagram)) {
    const { type, body } = message;
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    // struct ifaddrmsg and struct ndmsg have the index at 4.
    if ((type === RTM_DELADDR || type === RTM_DELNEIGH) && body.length >= 8) losses.push(view.getUint32(4, true));
    else if (type === RTM_DELROUTE && body.length >= 12) {
      const index = attrU32(attributes(body.subarray(12)).get(RTA_OIF));
      if (index !== undefined) losses.push(index);
    } else if (type === RTM_DELRULE) losses.push(0);
    else if (type === RTM_NEWLINK) {
      const link = decodeLink(message);
      if (link?.up === false) losses.push(link.index);
    }
  }
  return losses;
}
