// SPDX-License-Identifier: Apache-2.0
import { ROUTE_PROTOCOL } from "../net/names.ts";
import { type Prefix, prefixBytes } from "../net/prefix.ts";
import type { Route } from "../netlink/route.ts";
import type { Node, Self } from "./peers.ts";

/** IPv6 routes have a metric always; this is the kernel's own default (IP6_RT_PRIO_USER), written down so that the key is whole. */
const IPV6_PRIORITY = 1024;

/**
 * Behind whatever else leads to the subnet: a bridge whose pods have addresses of flatnet-ipam has a route of its own to
 * it, of metric 0 in IPv4 and 256 in IPv6.
 */
const UNREACHABLE_PRIORITY = 1024;

/**
 * The node routes a node should have: one for each subnet of each peer through that peer's address of the same family,
 * and `unreachable` for its own subnets, so that an address no pod has ends here and doesn't wander off through the
 * default route. Pure.
 */
export function desiredRoutes(nodes: readonly Node[], self: Self): Route[] {
  const routes = self.podCIDRs.map(
    (prefix): Route => ({
      ...common(prefix),
      kind: "unreachable",
      priority: UNREACHABLE_PRIORITY,
    }),
  );
  for (const node of nodes) {
    if (node.name === self.name) continue;
    for (const prefix of node.podCIDRs) {
      const gateway = node.addresses.find((address) => address.length === (prefix.family === 4 ? 4 : 16));
      if (gateway !== undefined) routes.push({ ...common(prefix), kind: "unicast", gateway });
    }
  }
  return routes;
}

function common(prefix: Prefix): Omit<Route, "kind"> {
  return {
    family: prefix.family,
    destination: prefixBytes(prefix),
    length: prefix.length,
    protocol: ROUTE_PROTOCOL,
    ...(prefix.family === 6 ? { priority: IPV6_PRIORITY } : {}),
  };
}
