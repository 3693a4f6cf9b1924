// SPDX-License-Identifier: Apache-2.0
//
// What one pod's network is made of: the veth pair and, for each end, the requests that finish it. Pure; apply.ts sends
// them. The shape is docs/decisions/0003: no address is spent on a gateway and nobody ever has to ask who has one.
import { hostLength, parseAddress } from "../net/address.ts";
import { hostMac, linkLocal, podMac } from "../net/mac.ts";
import { type Attachment, hostLinkName, LINK_GROUP, linkAlias, ROUTE_PROTOCOL } from "../net/names.ts";
import { addAddress } from "../netlink/address.ts";
import { createVeth, getLink, setAddrGenModeNone, setLinkUp, type VethEnd } from "../netlink/link.ts";
import type { Request } from "../netlink/message.ts";
import { addNeighbour } from "../netlink/neighbour.ts";
import { addRoute, type Route, replaceRoute } from "../netlink/route.ts";

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
}

/** @param addresses at least one */
export function planPodNetwork(
  attachment: Attachment,
  pod: { namespace: string; name: string } | undefined,
  addresses: readonly Uint8Array[],
  mtu: number,
  sha256: (text: string) => Uint8Array,
): PodNetworkPlan {
  const first = addresses[0] as Uint8Array;
  return {
    host: { name: hostLinkName(attachment, sha256), mac: hostMac(first) },
    pod: { name: attachment.ifname, mac: podMac(first) },
    addresses,
    mtu,
    alias: linkAlias(pod, attachment.containerId),
  };
}

/** In the host's namespace: both ends, and the look-up that tells their indexes. */
export function linkRequests(plan: PodNetworkPlan, podNetns: number): Request[] {
  return [createVeth(plan.host, plan.pod, plan.mtu, LINK_GROUP, podNetns), getLink(plan.host.name)];
}

/** In the pod's namespace, with the index of its end. */
export function podRequests(plan: PodNetworkPlan, index: number): Request[] {
  const { name, mac } = plan.pod;
  const requests = [setAddrGenModeNone(index, name), setLinkUp(index, name)];
  for (const address of plan.addresses) {
    const family = address.length === 4 ? 4 : 6;
    const gateway = GATEWAY[family];
    const route: Omit<Route, "destination" | "length"> = {
      family,
      kind: "unicast",
      oif: index,
      protocol: ROUTE_PROTOCOL,
    };
    const anywhere = new Uint8Array(address.length);
    requests.push(addAddress(index, name, address), addNeighbour(index, name, gateway, plan.host.mac));
    if (family === 4) requests.push(addRoute({ ...route, destination: gateway, length: 32 }));
    // IPv6 wants every interface to have a link-local address (RFC 4291, section 2.8), and it is what makes fe80::1 on-link.
    else requests.push(addAddress(index, name, linkLocal(mac), 64));
    requests.push(addRoute({ ...route, destination: anywhere, length: 0, gateway }));
  }
  return requests;
}

/** In the host's namespace, with the index of its end. The last step: a host end that is up is a pod that is finished. */
export function hostRequests(plan: PodNetworkPlan, index: number): Request[] {
  const { name } = plan.host;
  const requests = [setAddrGenModeNone(index, name), setLinkUp(index, name, plan.alias)];
  for (const address of plan.addresses) {
    const family = address.length === 4 ? 4 : 6;
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
