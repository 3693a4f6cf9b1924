// SPDX-License-Identifier: Apache-2.0
import { ROUTE_PROTOCOL } from "../net/names.ts";
import { type Prefix, prefixBytes } from "../net/prefix.ts";
import { type Route, TABLE_MAIN } from "../netlink/route.ts";
import { routeKey } from "./diff.ts";
import type { Node, Self } from "./source.ts";

/** IPv6 routes have a metric always; this is the kernel's own default (IP6_RT_PRIO_USER), written down so that the key is whole. */
const IPV6_PRIORITY = 1024;

/**
 * Behind whatever else leads to the subnet: a bridge whose pods have addresses of flatnet-ipam has a route of its own to
 * it, of metric 0 in IPv4 and 256 in IPv6.
 */
const UNREACHABLE_PRIORITY = 1024;

/** A route that should be, and for whom. */
export interface Wanted {
  /** routeKey of the route. */
  readonly key: string;
  readonly route: Route;
  /** Name of the node that has the subnet. */
  readonly node: string;
  readonly prefix: Prefix;
}

/** One route for each subnet of a peer that is not refused, through the peer's address of the same family. Pure. */
export function routesToPeer(node: Node, isRefused: (prefix: Prefix) => boolean, table = TABLE_MAIN): Wanted[] {
  return node.podCIDRs.flatMap((prefix) => {
    const gateway = node.addresses.find((address) => address.length === (prefix.family === 4 ? 4 : 16));
    if (gateway === undefined || isRefused(prefix)) return [];
    return [wanted(node.name, prefix, { ...common(prefix, table), kind: "unicast", gateway })];
  });
}

/**
 * `unreachable` for the node's own subnets, so that an address no pod has ends here and doesn't wander off through the
 * default route. Always in the main table, where the pods' own routes are: in a table that is looked up before it they would
 * never be found. Pure.
 */
export function ownRoutes(self: Self, isRefused: (prefix: Prefix) => boolean): Wanted[] {
  return self.podCIDRs
    .filter((prefix) => !isRefused(prefix))
    .map((prefix) => {
      const route = { ...common(prefix, TABLE_MAIN), kind: "unreachable", priority: UNREACHABLE_PRIORITY } as const;
      return wanted(self.name, prefix, route);
    });
}

function wanted(node: string, prefix: Prefix, route: Route): Wanted {
  return { key: routeKey(route), route, node, prefix };
}

function common(prefix: Prefix, table: number): Omit<Route, "kind"> {
  return {
    family: prefix.family,
    destination: prefixBytes(prefix),
    length: prefix.length,
    protocol: ROUTE_PROTOCOL,
    ...(table === TABLE_MAIN ? {} : { table }),
    ...(prefix.family === 6 ? { priority: IPV6_PRIORITY } : {}),
  };
}
