// SPDX-License-Identifier: Apache-2.0
//
// What differs between a pod network as ADD planned it and as the kernel has it, a sentence each. Pure. Plugins that come
// behind us may change what is theirs to change (CNI spec, section 2, "CHECK"): an MTU, a MAC, further addresses and
// routes are no differences as long as packets still find their way. Most differences come with what ends them; a daemon
// that repairs sends that, and CHECK only tells.
import { type Family, familyOf, formatAddress, hostLength } from "../net/address.ts";
import { formatMac, linkLocal } from "../net/mac.ts";
import { LINK_GROUP, ownTable, ROUTE_PROTOCOL } from "../net/names.ts";
import { addAddress } from "../netlink/address.ts";
import { setLinkGroup, setLinkUp } from "../netlink/link.ts";
import type { Request } from "../netlink/message.ts";
import { addNeighbour, type Neighbour } from "../netlink/neighbour.ts";
import { addRoute, describeRoute, type Route, replaceRoute, TABLE_MAIN } from "../netlink/route.ts";
import { addSourceRule } from "../netlink/rule.ts";
import { bandwidthProblems } from "./bandwidth.ts";
import type { Observation, ObservedEnd } from "./observe.ts";
import { withOwnTable } from "./own-table.ts";
import { GATEWAY, type PodNetworkPlan, type PodRoute } from "./plan.ts";

export interface Difference {
  /** A sentence for people, without a full stop. */
  readonly text: string;
  /** The end whose namespace the repair is for. */
  readonly end: "host" | "pod";
  /** Ends the difference, and changes nothing of what is as it should be; empty where that can't be said. */
  readonly repair: readonly Request[];
}

/** The differences, as CHECK tells them. */
export function differences(planned: PodNetworkPlan, seen: Observation): string[] {
  return compare(planned, seen).map(({ text }) => text);
}

/** What differs, in an order in which it can be repaired. */
export function compare(planned: PodNetworkPlan, seen: Observation): Difference[] {
  const { host, pod } = seen;
  const plan = withOwnTable(planned, familiesWithOwnTable(planned, pod));
  if (host === undefined || pod === undefined) {
    const missing = [
      host === undefined && `${plan.host.name} on the node`,
      pod === undefined && `${plan.pod.name} in the pod`,
    ];
    return missing.filter((end) => end !== false).map((end) => unrepaired(`there is no ${end}`));
  }
  const found = [
    ...hostLinkDifferences(plan, host),
    ...podDifferences(plan, host, pod),
    ...hostDifferences(plan, host, pod.link.mac, seen.hostRoutes),
    ...sysctlDifferences(plan, seen.sysctls).map(unrepaired),
    ...bandwidthDifferences(plan, host, pod).map(unrepaired),
  ];
  if (host.link.peerIndex === pod.link.index) return found;
  // Whatever the pod's link is, it isn't ours to change.
  const strangers = unrepaired(`${plan.host.name} is not the other end of ${plan.pod.name}`);
  return [strangers, ...found.map(({ text }) => unrepaired(text))];
}

/** The same of the host's end alone, where the pod's can't be looked at. */
export function compareHostEnd(plan: PodNetworkPlan, { host, hostRoutes }: Observation): Difference[] {
  if (host === undefined) return [];
  return [...hostLinkDifferences(plan, host), ...hostDifferences(plan, host, plan.pod.mac, hostRoutes)];
}

function unrepaired(text: string): Difference {
  return { text, end: "host", repair: [] };
}

/** ADD found another interface's default route there, if anything is left of what it does then. */
function familiesWithOwnTable({ host }: PodNetworkPlan, pod: Observation["pod"]): Set<Family> {
  const own = ownTable(host.name);
  const routes = (pod?.routes ?? []).filter(({ table }) => table === own).map(({ family }) => family);
  const rules = (pod?.rules ?? []).filter(({ table }) => table === own).map(({ source }) => familyOf(source));
  return new Set([...routes, ...rules]);
}

function hostLinkDifferences(plan: PodNetworkPlan, { link }: ObservedEnd): Difference[] {
  const found: Difference[] = [];
  const { name } = plan.host;
  const add = (text: string, ...repair: Request[]) => found.push({ text, end: "host", repair });
  if (link.group !== LINK_GROUP) {
    const text = `${name} is in group ${link.group}, not ${LINK_GROUP}: no rule applies to it`;
    add(text, setLinkGroup(link.index, name, LINK_GROUP));
  }
  if (!link.up) add(`${name} is down`, setLinkUp(link.index, name, plan.alias));
  return found;
}

function podDifferences(plan: PodNetworkPlan, host: ObservedEnd, pod: NonNullable<Observation["pod"]>): Difference[] {
  const found: Difference[] = [];
  const { name } = plan.pod;
  const { index, mac } = pod.link;
  // The port of a bridge has given its addresses and routes away: to a virtual machine, for one.
  const enslaved = pod.link.master !== undefined;
  const add = (text: string, ...repair: Request[]) => found.push({ text, end: "pod", repair: enslaved ? [] : repair });
  if (!pod.link.up) add(`${name} is down`, setLinkUp(index, name));
  for (const address of plan.addresses) {
    const text = formatAddress(address);
    const same = pod.addresses.filter((other) => formatAddress(other.address) === text);
    const present = same.find((other) => other.index === index);
    // One that somebody moved to another link of the pod is where it is to be.
    const missing = same.length === 0 ? addressRequests(index, name, address, mac) : [];
    if (present === undefined) add(`${name} has no address ${text}`, ...missing);
    else if (!present.usable) add(`address ${text} of ${name} is tentative or a duplicate`);
    const gateway = GATEWAY[familyOf(address)];
    for (const problem of neighbourDifferences(name, pod.neighbours, gateway, host.link.mac)) {
      add(problem, ...(host.link.mac === undefined ? [] : [addNeighbour(index, name, gateway, host.link.mac)]));
    }
  }
  const asked = new Set(plan.routes.map(({ table }) => table));
  for (const route of plan.routes) {
    if (pod.routes.some((other) => isRoute(route, other, asked))) continue;
    const made: Route = { ...route, kind: "unicast", oif: index, protocol: ROUTE_PROTOCOL };
    // Another one in its place is somebody's choice.
    add(`the pod has no route ${describeRoute(made)}`, { ...addRoute(made), tolerates: "EEXIST" });
  }
  for (const rule of plan.rules) {
    const text = formatAddress(rule.source);
    if (!pod.rules.some((other) => other.table === rule.table && formatAddress(other.source) === text)) {
      add(`the pod has no rule from ${text} lookup ${rule.table}`, { ...addSourceRule(rule), tolerates: "EEXIST" });
    }
  }
  return found;
}

/** An address of the pod, and for IPv6 the link-local one, which ends with it when the link goes down. */
function addressRequests(index: number, name: string, address: Uint8Array, mac: Uint8Array | undefined): Request[] {
  const requests = [addAddress(index, name, address)];
  if (familyOf(address) === 6 && mac !== undefined) requests.push(addAddress(index, name, linkLocal(mac), 64));
  return requests.map((request) => ({ ...request, tolerates: "EEXIST" }));
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
  podMac: Uint8Array | undefined,
  routes: readonly (Route | undefined)[],
): Difference[] {
  const found: Difference[] = [];
  const { name } = plan.host;
  const { index } = host.link;
  for (const [i, destination] of plan.addresses.entries()) {
    const route = routes[i];
    const family = familyOf(destination);
    const length = hostLength(family);
    if (route?.oif !== index || route.length !== length) {
      const now = route === undefined ? "there is none" : `it is ${describeRoute(route)}`;
      const text = `the node's route to ${formatAddress(destination)} does not lead to ${name}: ${now}`;
      const made: Route = { family, destination, length, kind: "unicast", oif: index, protocol: ROUTE_PROTOCOL };
      found.push({ text, end: "host", repair: [replaceRoute(made)] });
    }
    for (const text of neighbourDifferences(name, host.neighbours, destination, podMac)) {
      const repair = podMac === undefined ? [] : [addNeighbour(index, name, destination, podMac)];
      found.push({ text, end: "host", repair });
    }
  }
  return found;
}

/** A neighbour entry has to name the MAC that the other end has now. */
function neighbourDifferences(
  name: string,
  entries: readonly Neighbour[],
  address: Uint8Array,
  otherMac: Uint8Array | undefined,
): string[] {
  const text = formatAddress(address);
  const entry = entries.find((candidate) => formatAddress(candidate.address) === text && candidate.permanent);
  const mac = otherMac === undefined ? "" : formatMac(otherMac);
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
