// SPDX-License-Identifier: Apache-2.0
//
// The network that a cluster's nodes stand in: one link, to which each node has a cable. The API server is behind it.
import type { Cleanup } from "../daemon.ts";
import { createNetns, joinByCable, type Netns } from "../netns.ts";

export interface Fabric {
  readonly netns: Netns;
  /** Joins a node, whose link to it is "eth0". */
  join(node: Netns, addresses: readonly [v4: string, v6: string]): Promise<void>;
}

/** Addresses of the n-th node, IPv4 first, without prefix length. */
export function nodeAddresses(n: number): readonly [v4: string, v6: string] {
  return [`192.0.2.${n}`, `2001:db8::${n}`];
}

const OWN = 254;

/** @param service an address that the fabric has beside its own, and that nodes find there */
export async function createFabric(service: string, cleanup: Cleanup): Promise<Fabric> {
  const netns = await createNetns("fabric", cleanup);
  // Otherwise it takes the lowest of its ports', and with each node that joins those before may have to find it anew.
  await netns.ip("link", "add", "bridge", "address", "02:00:00:00:00:01", "type", "bridge");
  const [v4, v6] = nodeAddresses(OWN);
  await netns.ip("address", "add", `${v4}/24`, "dev", "bridge");
  await netns.ip("address", "add", `${v6}/64`, "dev", "bridge", "nodad");
  await netns.ip("address", "add", `${service}/32`, "dev", "lo");
  await netns.ip("link", "set", "bridge", "up");
  let ports = 0;
  return {
    netns,
    async join(node, [nodeV4, nodeV6]) {
      const ifname = `port${ports++}`;
      const uplink = { netns: node, ifname: "eth0", addresses: [`${nodeV4}/24`, `${nodeV6}/64`] };
      await joinByCable(uplink, { netns, ifname, addresses: [] });
      await netns.ip("link", "set", ifname, "master", "bridge");
      await node.ip("route", "add", service, "via", v4);
    },
  };
}
