// SPDX-License-Identifier: Apache-2.0
//
// The cluster of the route cases: dual-stack nodes on one link, each with a subnet of either family. Pure.
export const NODES = 5000;

export interface PeerEntry {
  readonly name: string;
  readonly addresses: readonly [v4: string, v6: string];
  readonly podCIDRs: readonly [v4: string, v6: string];
}

/** The n-th node; `generation` moves its address. */
export function entryOf(n: number, generation = 0): PeerEntry {
  const low = n & 255;
  const high = (n >> 8) + 32 * generation;
  return {
    name: `peer-${n}`,
    addresses: [`172.18.${high}.${low}`, `fd00:18::${generation}:${n.toString(16)}`],
    podCIDRs: [`10.${64 + (n >> 8)}.${low}.0/24`, `fd00:10:${n.toString(16)}::/64`],
  };
}

export const ADDRESSES = ["172.18.255.1/16", "fd00:18::ffff:1/64"] as const;

export function clusterOf(generation = 0): PeerEntry[] {
  return Array.from({ length: NODES }, (_, i) => entryOf(i + 1, generation));
}

/** What `ip -batch` reads: each of the routes to these nodes. */
export function batchOf(entries: readonly PeerEntry[], verb: "add" | "replace"): string {
  const lines = entries.flatMap(({ addresses, podCIDRs }) =>
    podCIDRs.map((cidr, i) => `route ${verb} ${cidr} via ${addresses[i]} proto 71`),
  );
  return `${lines.join("\n")}\n`;
}
