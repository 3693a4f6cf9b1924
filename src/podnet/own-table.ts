// SPDX-License-Identifier: Apache-2.0
//
// A pod's further interface. The main table has one default route, and it is the first interface's; what comes from the
// further one's address must not leave by it, because no end takes packets from an address that isn't its own. So a further
// interface has a routing table of its own, and a rule that sends there what comes from its address. Pure.
import { type Family, familyOf } from "../net/address.ts";
import { OWN_TABLE_PRIORITY, ownTable, ROUTE_PROTOCOL } from "../net/names.ts";
import type { Request } from "../netlink/message.ts";
import { addRoute, TABLE_MAIN } from "../netlink/route.ts";
import { addSourceRule, deleteRule, type SourceRule } from "../netlink/rule.ts";
import { isShared, type PodNetworkPlan, type PodRoute } from "./plan.ts";

/** The plan with these families' shared routes in the interface's own table. */
export function withOwnTable(plan: PodNetworkPlan, families: ReadonlySet<Family>): PodNetworkPlan {
  if (families.size === 0) return plan;
  const table = ownTable(plan.host.name);
  const routes = plan.routes.flatMap((route) => {
    if (!isShared(route) || !families.has(route.family)) return [route];
    // The route to the next hop itself is the first interface's; here "on-link" says the same.
    return route.gateway === undefined ? [] : [{ ...route, table, onlink: true }];
  });
  const rules = plan.addresses
    .filter((address) => families.has(familyOf(address)))
    .map((source) => ({ ...ruleKey(table), source }));
  return { ...plan, routes, rules };
}

/**
 * Makes what `withOwnTable` planned, in the pod's namespace. Routes that somebody wished for go to the main table too,
 * where their destination is free: they are for programs that haven't chosen an address yet.
 */
export function ownTableRequests(plan: PodNetworkPlan, index: number): Request[] {
  const requests: Request[] = [];
  for (const { source, table } of plan.rules) {
    const family = familyOf(source);
    const own = plan.routes.filter((route) => route.family === family && route.table === table);
    const toAdd = (route: PodRoute) => addRoute({ ...route, kind: "unicast", oif: index, protocol: ROUTE_PROTOCOL });
    // One that was left by an ADD that was killed.
    requests.push({ ...deleteRule({ ...ruleKey(table), family }), tolerates: "ENOENT" }, ...own.map(toAdd));
    for (const route of own) {
      if (route.length > 0) requests.push({ ...toAdd({ ...route, table: TABLE_MAIN }), tolerates: "EEXIST" });
    }
    requests.push(addSourceRule({ ...ruleKey(table), source }));
  }
  return requests;
}

/** Deletes an interface's rules, whether it has any or not: ENOENT. Its routes end with the link. */
export function deleteRuleRequests(hostLinkName: string): Request[] {
  const key = ruleKey(ownTable(hostLinkName));
  return [deleteRule({ ...key, family: 4 }), deleteRule({ ...key, family: 6 })];
}

function ruleKey(table: number): Omit<SourceRule, "source"> {
  return { table, priority: OWN_TABLE_PRIORITY, protocol: ROUTE_PROTOCOL };
}
