// SPDX-License-Identifier: Apache-2.0
//
// What differs between a pod network as ADD planned it and as the kernel has it, a sentence each. Pure. Plugins that come
// behind us may change what is theirs to change (CNI spec, section 2, "CHECK"): an MTU, a MAC, further addresses and
// routes are no differences as long as packets still find their way.
import { type Family, familyOf, formatAddress, hostLength } from "../net/address.ts";
import { formatMac } from "../net/mac.ts";
import { LINK_GROUP, ownTable } from "../net/names.ts";
import type { Neighbour } from "../netlink/neighbour.ts";
import { describeRoute, type Route, TABLE_MAIN } from "../netlink/route.ts";
import { bandwidthProblems } from "./bandwidth.ts";
import type { Observation, ObservedEnd } from "./observe.ts";
import { withOwnTable } from "./own-table.ts";
import { GATEWAY, type PodNetworkPlan, type PodRoute } from "./plan.ts";

export function differences(planned: PodNetworkPlan, seen: Observation): string[] {
  const { host, pod } = seen;
  const plan = withOwnTable(planned, familiesWithOwnTable(planned, pod));
  if (host === undefined || pod === undefined) {
    const missing = [
      host === undefined && `${plan.host.name} on the node`,
      pod === undefined && `${plan.pod.name} in the pod`,
    ];
    return missing.filter((end) => end !== false).map((end) => `there is no ${end}`);
  }
  return [
    ...pairDifferences(plan, host, pod),
    ...podDifferences(plan, host, pod),
    ...hostDifferences(plan, host, pod, seen.hostRoutes),
    ...sysctlDifferences(plan, seen.sysctls),
    ...bandwidthDifferences(plan, host, pod),
  ];
}

/** ADD found another interface's default route there, if anything is left of what it does then. */
function familiesWithOwnTable({ host }: PodNetworkPlan, pod: Observation["pod"]): Set<Family> {
  const own = ownTable(host.name);
  const routes = (pod?.routes ?? []).filter(({ table }) => table === own).map(({ family }) => family);
  const rules = (pod?.rules ?? []).filter(({ table }) => table === own).map(({ source }) => familyOf(source));
  return new Set([...routes, ...rules]);
}

function pairDifferences(plan: PodNetworkPlan, host: ObservedEnd, pod: ObservedEnd): string[] {
  const found: string[] = [];
  if (host.link.peerIndex !== pod.link.index) found.push(`${plan.host.name} is not the other end of ${plan.pod.name}`);
  if (!host.link.up) found.push(`${plan.host.name} is down`);
  if (!pod.link.up) found.push(`${plan.pod.name} is down`);
  if (host.link.group !== LINK_GROUP) {
    found.push(`${plan.host.name} is in group ${host.link.group}, not ${LINK_GROUP}: no rule applies to it`);
  }
  return found;
}

function podDifferences(plan: PodNetworkPlan, host: ObservedEnd, pod: NonNullable<Observation["pod"]>): string[] {
  const found: string[] = [];
  for (const address of plan.addresses) {
    const text = formatAddress(address);
    const present = pod.addresses.find((other) => formatAddress(other.address) === text);
    if (present === undefined) found.push(`${plan.pod.name} has no address ${text}`);
    else if (!present.usable) found.push(`address ${text} of ${plan.pod.name} is tentative or a duplicate`);
    found.push(...neighbourDifferences(plan.pod.name, pod.neighbours, GATEWAY[familyOf(address)], host));
  }
  const asked = new Set(plan.routes.map(({ table }) => table));
  for (const route of plan.routes) {
    if (!pod.routes.some((other) => isRoute(route, other, asked))) {
      found.push(`the pod has no route ${describeRoute({ ...route, kind: "unicast", protocol: 0 })}`);
    }
  }
  for (const { source, table } of plan.rules) {
    const text = formatAddress(source);
    if (!pod.rules.some((other) => other.table === table && formatAddress(other.source) === text)) {
      found.push(`the pod has no rule from ${text} lookup ${table}`);
    }
  }
  return found;
}

/**
 * Destination and next hop have to be the same; the rest may be tuned. A route whose table nobody asked for may have been
 * moved to one of another plugin's, as sbr does; not to one of the tables that were asked for, which have routes of their own.
 */
function isRoute(planned: PodRoute, seen: Route, asked: ReadonlySet<number | undefined>): boolean {
  const table = seen.table ?? TABLE_MAIN;
  const inTable = planned.table === undefined ? table === TABLE_MAIN || !asked.has(table) : planned.table === table;
  const gateway = (route: { gateway?: Uint8Array }) =>
    route.gateway === undefined ? "" : formatAddress(route.gateway);
  return (
    inTable &&
    seen.kind === "unicast" &&
    seen.length === planned.length &&
    formatAddress(seen.destination) === formatAddress(planned.destination) &&
    gateway(seen) === gateway(planned)
  );
}

function hostDifferences(
  plan: PodNetworkPlan,
  host: ObservedEnd,
  pod: ObservedEnd,
  routes: readonly (Route | undefined)[],
): string[] {
  const found: string[] = [];
  for (const [i, address] of plan.addresses.entries()) {
    const route = routes[i];
    if (route?.oif !== host.link.index || route.length !== hostLength(familyOf(address))) {
      const now = route === undefined ? "there is none" : `it is ${describeRoute(route)}`;
      found.push(`the node's route to ${formatAddress(address)} does not lead to ${plan.host.name}: ${now}`);
    }
    found.push(...neighbourDifferences(plan.host.name, host.neighbours, address, pod));
  }
  return found;
}

/** A neighbour entry has to name the MAC that the other end has now. */
function neighbourDifferences(
  name: string,
  entries: readonly Neighbour[],
  address: Uint8Array,
  other: ObservedEnd,
): string[] {
  const text = formatAddress(address);
  const entry = entries.find((candidate) => formatAddress(candidate.address) === text && candidate.permanent);
  const mac = other.link.mac === undefined ? "" : formatMac(other.link.mac);
  if (entry === undefined) return [`${name} has no permanent neighbour entry for ${text}`];
  const said = entry.mac === undefined ? "" : formatMac(entry.mac);
  return said === mac ? [] : [`${name} has ${said} for neighbour ${text}, but the other end is ${mac}`];
}

function sysctlDifferences(plan: PodNetworkPlan, values: readonly (string | undefined)[]): string[] {
  const found: string[] = [];
  for (const [i, [path, wanted]] of plan.sysctls.entries()) {
    const value = values[i];
    // The kernel separates several numbers by tabs, whatever they were written with.
    if (value === undefined || words(value) !== words(wanted)) {
      found.push(`sysctl net.${path.replaceAll("/", ".")} is ${value ?? "not there"}, not ${wanted}`);
    }
  }
  return found;
}

function words(text: string): string {
  return text.trim().split(/\s+/).join(" ");
}

function bandwidthDifferences(plan: PodNetworkPlan, host: ObservedEnd, pod: ObservedEnd): string[] {
  if (plan.bandwidth === undefined) return [];
  const link = {
    hostIndex: host.link.index,
    hostName: plan.host.name,
    podIndex: pod.link.index,
    podName: plan.pod.name,
    // A result of before 1.1.0 does not tell it.
    mtu: plan.mtu === 0 ? host.link.mtu : plan.mtu,
  };
  return bandwidthProblems(plan.bandwidth, link, host.qdiscs, pod.qdiscs);
}
