// SPDX-License-Identifier: Apache-2.0
//
// The links that node routes lead out of, and the MTU that follows from them. Pure.
import { parseAddress } from "../net/address.ts";
import type { Link } from "../netlink/link.ts";
import type { Route } from "../netlink/route.ts";

/** Ethernet's, for a node that has no uplink at all. */
export const DEFAULT_MTU = 1500;
const LOOPBACK = "lo";

/** Addresses nobody has (RFC 5737, RFC 3849): the way to them is the default route. */
export const ELSEWHERE: readonly Uint8Array[] = ["192.0.2.1", "2001:db8::1"].map(parseAddress);

/** Bytes of the headers that a TCP segment is sent in, without options: those of IP and 20 of its own. */
const HEADERS = { 4: 40, 6: 60 } as const;

/** The smallest MTU of these links, never lo's. @returns undefined when none of them is there */
export function smallestMtu(uplinks: ReadonlySet<number>, links: Iterable<Link>): number | undefined {
  let smallest: number | undefined;
  for (const { index, name, mtu } of links) {
    if (uplinks.has(index) && name !== LOOPBACK) smallest = Math.min(smallest ?? mtu, mtu);
  }
  return smallest;
}

/** What a route is limited to: `mtu` in bytes of a packet, `advmss` of a TCP segment's content. */
export type Limits = Pick<Route, "mtu" | "advmss">;

/**
 * The limits of a route out of the link. There are none unless pods send larger packets than it takes: then their senders are
 * told so by this node, and its own connections begin with what fits.
 * @param podMtu MTU of pods in bytes; 0 when it follows the uplinks, so that none is smaller
 */
export function limitsOf(route: Route, link: Link | undefined, podMtu: number): Limits {
  if (link === undefined || link.mtu >= podMtu) return {};
  return { mtu: link.mtu, advmss: link.mtu - HEADERS[route.family] };
}
