// SPDX-License-Identifier: Apache-2.0
import { ROUTE_PROTOCOL } from "../net/names.ts";
import { type Route, TABLE_MAIN } from "../netlink/route.ts";

/** What turns the actual node routes into the desired ones. Removals come last, so that nothing is without a route. */
export interface RouteDelta {
  /** Nothing of ours has the key. If something foreign has, the kernel refuses: it isn't ours to replace. */
  readonly add: readonly Route[];
  /** Ours, but leading elsewhere. */
  readonly replace: readonly Route[];
  readonly remove: readonly Route[];
}

/**
 * Whether a route is a node route of ours. The host routes to pods carry our number too; they lead to a link without a
 * gateway and are the plugin's. A route that was given several next hops shows neither (RTA_MULTIPATH): it was ours once.
 */
export function isNodeRoute(route: Route): boolean {
  const toLink = route.kind === "unicast" && route.gateway === undefined && route.oif !== undefined;
  return route.protocol === ROUTE_PROTOCOL && !toLink;
}

/**
 * The kernel's own key of a route, less what is the same for all of ours: two routes with one key can't both be. Not for
 * people: the bytes of an address as they are, because there are ten thousand of them to compare.
 */
export function routeKey(route: Route): string {
  const priority = route.priority ?? 0;
  return `${route.table ?? TABLE_MAIN} ${priority} ${route.length} ${bytesKey(route.destination)}`;
}

function bytesKey(bytes: Uint8Array): string {
  return String.fromCharCode.apply(undefined, bytes as unknown as number[]);
}

/**
 * @param actual node routes of ours only, as `isNodeRoute` picks them, in the kernel's order. IPv4 can have several of one
 *   key when somebody appended to ours; the first of them is the one that counts and that is replaced.
 */
export function diffRoutes(desired: readonly Route[], actual: readonly Route[]): RouteDelta {
  const present = Map.groupBy(actual, routeKey);
  const add: Route[] = [];
  const replace: Route[] = [];
  const remove: Route[] = [];
  for (const route of desired) {
    const key = routeKey(route);
    const existing = present.get(key);
    present.delete(key);
    if (existing === undefined) {
      add.push(route);
      continue;
    }
    const right = existing.find((other) => leadsTheSameWay(other, route));
    if (right === undefined) replace.push(route);
    remove.push(...existing.filter((other) => other !== (right ?? existing[0])));
  }
  for (const left of present.values()) remove.push(...left);
  return { add, replace, remove };
}

/** Whether both end here, or both lead to the same next hop. What limits a route (its MTU) is no part of the way. */
export function leadsTheSameWay(a: Route, b: Route): boolean {
  return a.kind === b.kind && isSameAddress(a.gateway, b.gateway);
}

function isSameAddress(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
