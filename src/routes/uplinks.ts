// SPDX-License-Identifier: Apache-2.0
//
// The links that node routes lead out of, and the MTU that follows from them.
import { parseAddress } from "../net/address.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import { decodeLink, dumpLinks, type Link } from "../netlink/link.ts";
import { decodeRoute, lookUpRoute, type Route } from "../netlink/route.ts";
import { isNodeRoute } from "./diff.ts";

/** Ethernet's, for a node that has no uplink at all. */
const DEFAULT_MTU = 1500;
const LOOPBACK = "lo";

/** Addresses nobody has (RFC 5737, RFC 3849): the way to them is the default route. */
const ELSEWHERE = ["192.0.2.1", "2001:db8::1"].map(parseAddress);

/**
 * The smallest MTU of the links that the given routes lead out of, never lo's: the largest packet that reaches every
 * peer. Pure. @returns undefined when no route leads out of any link
 */
export function smallestMtu(routes: readonly Route[], links: readonly Link[]): number | undefined {
  const out = new Set(routes.map((route) => route.oif));
  const mtus = links.filter((link) => out.has(link.index) && link.name !== LOOPBACK).map((link) => link.mtu);
  return mtus.length === 0 ? undefined : Math.min(...mtus);
}

/**
 * The MTU pods should have now, in bytes: that of the uplinks to the peers, or on a node without peers that of the way
 * out. @param ours every route with our protocol number
 */
export async function readPodMtu(netlink: Netlink, ours: readonly Route[]): Promise<number> {
  const links = (await netlink.dump(dumpLinks())).map(decodeLink).filter((link) => link !== undefined);
  const toPeers = ours.filter((route) => isNodeRoute(route) && route.kind === "unicast");
  const mtu = smallestMtu(toPeers, links);
  if (mtu !== undefined) return mtu;
  // A family without a way out refuses its look-up; that is an answer too.
  const replies = await netlink.submit(ELSEWHERE.map((address) => lookUpRoute(address)));
  const out = replies.flatMap(({ answers }) => answers.map(decodeRoute)).filter((route) => route !== undefined);
  return smallestMtu(out, links) ?? DEFAULT_MTU;
}
