// SPDX-License-Identifier: Apache-2.0
//
// One pass of the node routes: read, compare, apply. Level-triggered: it looks at what is and what should be, never at
// what happened, so a daemon that was away for an hour needs nothing else.

import { ROUTE_PROTOCOL } from "../net/names.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import type { Request } from "../netlink/message.ts";
import {
  addRoute,
  decodeRoute,
  deleteRoute,
  describeRoute,
  dumpRoutes,
  type Route,
  replaceRoute,
} from "../netlink/route.ts";
import { diffRoutes, isNodeRoute, type RouteDelta } from "./diff.ts";

/** What a pass did. Routes that failed stay wanted: the next pass tries them again. */
export interface RouteReport {
  /** As people read them: "10.244.2.0/24 via 172.18.0.3". */
  readonly set: readonly string[];
  readonly removed: readonly string[];
  readonly failed: readonly { readonly route: string; readonly error: string }[];
}

/** @throws NetlinkError when the routes can't be read; what can't be written is in the report. */
export async function reconcileRoutes(netlink: Netlink, desired: readonly Route[]): Promise<RouteReport> {
  const actual = (await listOurRoutes(netlink)).filter(isNodeRoute);
  return applyRouteDelta(netlink, diffRoutes(desired, actual));
}

/** Every route that carries our number: node routes and the host routes to pods. */
export async function listOurRoutes(netlink: Netlink): Promise<Route[]> {
  const routes: Route[] = [];
  for (const family of [4, 6] as const) {
    for (const message of await netlink.dump(dumpRoutes(family, ROUTE_PROTOCOL))) {
      const route = decodeRoute(message);
      // The kernel filters only for sockets that ask it to be strict, which this one can't.
      if (route?.protocol === ROUTE_PROTOCOL) routes.push(route);
    }
  }
  return routes;
}

async function applyRouteDelta(netlink: Netlink, delta: RouteDelta): Promise<RouteReport> {
  const failed: { route: string; error: string }[] = [];
  const submit = async (routes: readonly Route[], toRequest: (route: Route) => Request, harmless?: string) => {
    const replies = await netlink.submit(routes.map(toRequest));
    return routes.map(describeRoute).filter((route, i) => {
      const error = replies[i]?.error;
      if (error === undefined || (harmless !== undefined && error.errnoName === harmless)) return true;
      const foreign = error.errnoName === "EEXIST" ? "; there is one that isn't flatnet's" : "";
      failed.push({ route, error: `${error.message}${foreign}` });
      return false;
    });
  };
  const added = await submit(delta.add, addRoute);
  const replaced = await submit(delta.replace, replaceRoute);
  // ESRCH: somebody else took it away first, and that is what was wanted.
  const removed = await submit(delta.remove, deleteRoute, "ESRCH");
  return { set: [...added, ...replaced], removed, failed };
}
