// SPDX-License-Identifier: Apache-2.0
//
// What ADD tells of a pod network that it has made. Pure.
import { familyOf, formatAddress, hostLength } from "../net/address.ts";
import { formatMac } from "../net/mac.ts";
import { GATEWAY, isShared, type PodNetworkPlan } from "../podnet/plan.ts";
import { type Dns, type Result, toResultRoute } from "./result.ts";
import { atLeast, type CniVersion } from "./version.ts";

/**
 * What ADD tells of the plan. Before 1.1.0 a route had no table, so those of other tables are left out: they would be taken
 * for the main table's. `sandbox` is CNI_NETNS as the runtime gave it.
 */
export function planResult(plan: PodNetworkPlan, sandbox: string, dns: Dns, cniVersion: CniVersion): Result {
  const { addresses, mtu } = plan;
  const routes = atLeast(cniVersion, "1.1.0") ? plan.routes : plan.routes.filter(isShared);
  return {
    interfaces: [
      { name: plan.host.name, mac: formatMac(plan.host.mac), mtu },
      { name: plan.pod.name, mac: formatMac(plan.pod.mac), sandbox, mtu },
    ],
    ips: addresses.map((address) => ({
      address: `${formatAddress(address)}/${hostLength(familyOf(address))}`,
      gateway: formatAddress(GATEWAY[familyOf(address)]),
      interface: 1,
    })),
    // The route to the next hop itself is how, not where: runtimes and plugins behind us have no use for it.
    routes: routes.filter(({ gateway }) => gateway !== undefined).map(toResultRoute),
    dns,
  };
}

/**
 * Ours behind that of the plugins before us: a plugin passes on what it was given (CNI spec, section 3). Addresses point
 * to interfaces by position, so ours move up.
 */
export function appendResult(previous: Result, own: Result): Result {
  const offset = previous.interfaces.length;
  return {
    interfaces: [...previous.interfaces, ...own.interfaces],
    ips: [...previous.ips, ...own.ips.map((ip) => ({ ...ip, interface: (ip.interface ?? 0) + offset }))],
    routes: [...previous.routes, ...own.routes],
    dns: Object.keys(own.dns).length > 0 ? own.dns : previous.dns,
  };
}
