// SPDX-License-Identifier: Apache-2.0
//
// Which way BIRD sends packets to the subnets of the nodes that are known, and to those that only its peers know. Pure.
import { formatAddress } from "../net/address.ts";
import { formatPrefix, type Prefix } from "../net/prefix.ts";
import type { Route } from "../netlink/route.ts";

interface HasSubnets {
  readonly name: string;
  readonly podCIDRs: readonly Prefix[];
}

/** A subnet, and the way there. */
export interface BirdWay {
  /** "" for a subnet that no node is known to have: a router has announced it. */
  readonly node: string;
  readonly subnet: string;
  /** Undefined where BIRD has no route to it. */
  readonly route: Route | undefined;
}

/**
 * Every subnet of every other node, and what else BIRD has learned.
 * @param routes BIRD's in the kernel
 * @param except subnets that are told of elsewhere: those with a static route
 */
export function birdWays(
  nodes: readonly HasSubnets[],
  self: string,
  routes: readonly Route[],
  except: ReadonlySet<string>,
): BirdWay[] {
  const left = new Map(routes.map((route) => [`${formatAddress(route.destination)}/${route.length}`, route]));
  const ways = nodes
    .filter(({ name }) => name !== self)
    .flatMap(({ name: node, podCIDRs }) => podCIDRs.map((prefix) => ({ node, subnet: formatPrefix(prefix) })))
    .filter(({ subnet }) => !except.has(subnet))
    .map((way) => ({ ...way, route: left.get(way.subnet) }));
  for (const { subnet } of ways) left.delete(subnet);
  return [...ways, ...[...left].map(([subnet, route]) => ({ node: "", subnet, route }))];
}
