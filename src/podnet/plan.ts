// SPDX-License-Identifier: Apache-2.0
//
// What one pod's network is made of: the veth pair and, for each end, the requests that finish it. Pure; apply.ts sends
// them. The shape is docs/decisions/0003: no address is spent on a gateway and nobody ever has to ask who has one.
import { type Family, familyOf, formatAddress, hostLength, parseAddress } from "../net/address.ts";
import { hostMac, linkLocal, podMac } from "../net/mac.ts";
import { type Attachment, hostLinkName, LINK_GROUP, linkAlias, ROUTE_PROTOCOL } from "../net/names.ts";
import { addAddress } from "../netlink/address.ts";
import { createVeth, getLink, setAddrGenModeNone, setLinkUp, setRouteLocalnet, type VethEnd } from "../netlink/link.ts";
import type { Request } from "../netlink/message.ts";
import { addNeighbour } from "../netlink/neighbour.ts";
import { addRoute, type Route, replaceRoute, TABLE_MAIN } from "../netlink/route.ts";
import type { SourceRule } from "../netlink/rule.ts";
import { type Bandwidth, bandwidthRequests } from "./bandwidth.ts";
import { PodNetworkError } from "./errors.ts";

/** The next hop every pod has, in each family. No interface owns it: a permanent neighbour entry is all it needs. */
export const GATEWAY = {
  4: new Uint8Array([169, 254, 1, 1]),
  6: parseAddress("fe80::1"),
} as const;

export interface PodNetworkPlan {
  readonly host: VethEnd;
  readonly pod: VethEnd;
  /** One a family at most, 4 or 16 bytes. */
  readonly addresses: readonly Uint8Array[];
  /** In bytes, for both ends. */
  readonly mtu: number;
  readonly alias: string;
  /** The pod's routes, in the order in which they can be made; each leads to the next hop or to the link. */
  readonly routes: readonly PodRoute[];
  /** The pod's routing rules; none but for a further interface (own-table.ts). */
  readonly rules: readonly SourceRule[];
  /** Sysctls of the pod's namespace, as paths below /proc/sys/net: "ipv6/conf/eth0/accept_dad". */
  readonly sysctls: readonly (readonly [path: string, value: string])[];
  readonly bandwidth: Bandwidth | undefined;
  /** Ports of the node lead here. */
  readonly hasHostPorts: boolean;
}

/** A route of the pod out of its link. */
export type PodRoute = Omit<Route, "oif" | "protocol" | "kind">;

/** Whether a route is for the main table, where only one interface can have it. */
export function isShared({ table = TABLE_MAIN }: PodRoute): boolean {
  return table === TABLE_MAIN;
}

/** A route that the configuration asks for. */
export interface RouteWish {
  readonly destination: Uint8Array;
  readonly length: number;
  /** Absent: flatnet's own next hop. */
  readonly gateway: Uint8Array | undefined;
  readonly mtu: number | undefined;
  readonly advmss: number | undefined;
  readonly priority: number | undefined;
  readonly table: number | undefined;
  /** The kernel's numbers: 0 universe, 200 site. */
  readonly scope: number | undefined;
}

/** What the configuration asks for beside an address. */
export interface Wishes {
  /** Of the pod's end; follows from the address where it is absent. */
  readonly mac: Uint8Array | undefined;
  readonly routes: readonly RouteWish[];
  /** By their names: "net.ipv4.tcp_ecn". */
  readonly sysctls: ReadonlyMap<string, string>;
  readonly bandwidth: Bandwidth | undefined;
  readonly portMappings: readonly unknown[];
}

/**
 * @param addresses at least one
 * @throws PodNetworkError PODNET_ROUTE for a wish that the addresses or the data path don't allow
 */
export function planPodNetwork(
  attachment: Attachment,
  pod: { namespace: string; name: string } | undefined,
  addresses: readonly Uint8Array[],
  mtu: number,
  wishes: Wishes,
  sha256: (text: string) => Uint8Array,
): PodNetworkPlan {
  refuseImpossible(wishes.routes, addresses);
  const first = addresses[0] as Uint8Array;
  return {
    host: { name: hostLinkName(attachment, sha256), mac: hostMac(first) },
    pod: { name: attachment.ifname, mac: wishes.mac ?? podMac(first) },
    addresses,
    mtu,
    alias: linkAlias(pod, attachment.containerId),
    routes: addresses.flatMap((address) => planRoutes(familyOf(address), wishes.routes)),
    rules: [],
    sysctls: planSysctls(attachment.ifname, addresses, wishes.sysctls),
    bandwidth: wishes.bandwidth,
    hasHostPorts: wishes.portMappings.length > 0,
  };
}

/** The family's next hop, its default route, and what the configuration asks for. A default route of its own comes instead. */
function planRoutes(family: Family, wishes: readonly RouteWish[]): PodRoute[] {
  const gateway = GATEWAY[family];
  const anywhere = new Uint8Array(gateway.length);
  const wished = wishes.filter(({ destination }) => destination.length === gateway.length).map(toPodRoute);
  const ownDefault = wished.some(({ length, table }) => length === 0 && (table ?? TABLE_MAIN) === TABLE_MAIN);
  const routes: PodRoute[] = [];
  // fe80::1 is on-link by the pod's own link-local address; 169.254.1.1 needs a route that says so.
  if (family === 4) routes.push({ family, destination: gateway, length: 32 });
  if (!ownDefault) routes.push({ family, destination: anywhere, length: 0, gateway });
  return routes.concat(wished);
}

function toPodRoute(wish: RouteWish): PodRoute {
  const { destination, length, priority, table, scope, mtu, advmss } = wish;
  const family = familyOf(destination);
  const gateway = GATEWAY[family];
  return {
    family,
    destination,
    length,
    gateway,
    ...(priority !== undefined && { priority }),
    // The next hop is looked for in the main table, where another interface may have it.
    ...(table !== undefined && table !== TABLE_MAIN && { table, onlink: true }),
    ...(scope !== undefined && { scope }),
    ...(mtu !== undefined && { mtu }),
    ...(advmss !== undefined && { advmss }),
  };
}

/** Refuses routes that can't be: of a family without an address, or by a next hop that nobody answers for. */
function refuseImpossible(routes: readonly RouteWish[], addresses: readonly Uint8Array[]): void {
  for (const [i, { destination, length, gateway }] of routes.entries()) {
    const family = familyOf(destination);
    const at = `routes.${i} to ${formatAddress(destination)}/${length}`;
    if (!addresses.some((address) => familyOf(address) === family)) {
      throw new PodNetworkError("PODNET_ROUTE", `${at}: the pod has no IPv${family} address`);
    }
    if (gateway !== undefined && formatAddress(gateway) !== formatAddress(GATEWAY[family])) {
      const only = `${at}: gw is ${formatAddress(gateway)}, but a pod's only next hop is ${formatAddress(GATEWAY[family])}`;
      throw new PodNetworkError("PODNET_ROUTE", only);
    }
  }
}

/**
 * Some runtimes make sandboxes with IPv6 switched off. accept_dad=0 is for addresses that others add to the pod later:
 * there is nobody on this link to collide with; our own carry IFA_F_NODAD.
 */
function planSysctls(
  ifname: string,
  addresses: readonly Uint8Array[],
  wished: ReadonlyMap<string, string>,
): [string, string][] {
  const sysctls: [string, string][] = [];
  if (addresses.some((address) => address.length === 16)) {
    sysctls.push([`ipv6/conf/${ifname}/disable_ipv6`, "0"], [`ipv6/conf/${ifname}/accept_dad`, "0"]);
  }
  for (const [name, value] of wished) sysctls.push([name.slice("net.".length).replaceAll(".", "/"), value]);
  return sysctls;
}

/** In the host's namespace: both ends, and the look-up that tells their indexes. */
export function linkRequests(plan: PodNetworkPlan, podNetns: number): Request[] {
  return [createVeth(plan.host, plan.pod, plan.mtu, LINK_GROUP, podNetns), getLink(plan.host.name)];
}

/** In the pod's namespace, with the index of its end; the routes come behind. */
export function podRequests(plan: PodNetworkPlan, index: number): Request[] {
  const { name, mac } = plan.pod;
  const requests = [setAddrGenModeNone(index, name), setLinkUp(index, name)];
  for (const address of plan.addresses) {
    const family = familyOf(address);
    requests.push(addAddress(index, name, address), addNeighbour(index, name, GATEWAY[family], plan.host.mac));
    // IPv6 wants every interface to have a link-local address (RFC 4291, section 2.8).
    if (family === 6) requests.push(addAddress(index, name, linkLocal(mac), 64));
  }
  return requests;
}

/** The pod's routes, a request for each in the plan's order. */
export function routeRequests({ routes }: PodNetworkPlan, index: number): Request[] {
  return routes.map((route) => addRoute({ ...route, kind: "unicast", oif: index, protocol: ROUTE_PROTOCOL }));
}

/** In the host's namespace, with the index of its end. The last step: a host end that is up is a pod that is finished. */
export function hostRequests(plan: PodNetworkPlan, index: number): Request[] {
  const { name } = plan.host;
  const requests = [setAddrGenModeNone(index, name)];
  if (plan.hasHostPorts) requests.push(setRouteLocalnet(index, name));
  requests.push(setLinkUp(index, name, plan.alias));
  for (const address of plan.addresses) {
    const family = familyOf(address);
    requests.push(
      addNeighbour(index, name, address, plan.pod.mac),
      // Replace, not add: the address is ours alone, so a route to it through another link is a left-over.
      replaceRoute({
        family,
        destination: address,
        length: hostLength(family),
        kind: "unicast",
        oif: index,
        protocol: ROUTE_PROTOCOL,
      }),
    );
  }
  return requests;
}

/** The requests that limit the pod's bandwidth, for each end; none where nothing is asked for. */
export function bandwidthOf(plan: PodNetworkPlan, link: { index: number; peerIndex: number }) {
  if (plan.bandwidth === undefined) return { host: [], pod: [] };
  return bandwidthRequests(plan.bandwidth, {
    hostIndex: link.index,
    hostName: plan.host.name,
    podIndex: link.peerIndex,
    podName: plan.pod.name,
    mtu: plan.mtu,
  });
}
