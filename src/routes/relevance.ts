// SPDX-License-Identifier: Apache-2.0
//
// Which of the kernel's notifications are a reason to look at the node routes again. A pod that comes or goes makes dozens that
// are none. Pure.
import { isLinkGroup, ROUTE_PROTOCOL } from "../net/names.ts";
import { addressNumber, type Prefix } from "../net/prefix.ts";
import { addressLink, RTM_DELADDR, RTM_NEWADDR } from "../netlink/address.ts";
import { decodeLink, type Link, RTM_DELLINK, RTM_NEWLINK } from "../netlink/link.ts";
import type { Message } from "../netlink/message.ts";
import {
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_IPV6_RULE,
  RTNLGRP_LINK,
} from "../netlink/notifications.ts";
import { decodeRoute, decodeRouteHead, RTM_DELROUTE, RTM_NEWROUTE, TABLE_LOCAL } from "../netlink/route.ts";
import { RTM_DELRULE, RTM_NEWRULE } from "../netlink/rule.ts";
import { isNodeRoute } from "./diff.ts";

/** The groups whose notifications are judged here. */
export const GROUPS: readonly number[] = [
  RTNLGRP_LINK,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_IPV6_RULE,
];

/** What the last look at the kernel saw. */
export interface View {
  /** The links that routes to peers, or the way out, lead through. */
  readonly uplinks: ReadonlyMap<number, Link>;
  /** Something that should be isn't: anything may be what it waits for. */
  readonly troubled: boolean;
  /** There are no peers, so the MTU is that of the default route. */
  readonly alone: boolean;
  /** Whether a route to this prefix could touch traffic to a node or a pod. */
  touches(prefix: Prefix): boolean;
}

/** @param ownPort of the socket that changes routes, whose notifications are no news */
export function isRelevant(message: Message, view: View, ownPort: number): boolean {
  if (ownPort !== 0 && message.port === ownPort) return false;
  switch (message.type) {
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return isRelevantRoute(message, view);
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return isRelevantLink(message, view);
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return view.troubled || view.uplinks.has(addressLink(message) ?? 0);
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return true;
    default:
      return false;
  }
}

function isRelevantRoute(message: Message, view: View): boolean {
  const head = decodeRouteHead(message);
  if (head === undefined || head.table === TABLE_LOCAL) return false;
  if (head.protocol === ROUTE_PROTOCOL) {
    // Of ours only the host routes to pods are none of the node routes.
    const route = decodeRoute(message);
    return route === undefined || isNodeRoute(route);
  }
  if (head.length === 0) return view.alone || view.troubled;
  const { family, length, destination } = head;
  return view.touches({ family, length, base: addressNumber(destination) });
}

function isRelevantLink(message: Message, view: View): boolean {
  const link = decodeLink(message);
  if (link === undefined || isLinkGroup(link.group)) return false;
  const known = view.uplinks.get(link.index);
  if (known === undefined) return view.troubled;
  return message.type === RTM_DELLINK || link.up !== known.up || link.mtu !== known.mtu;
}
