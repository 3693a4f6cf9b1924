// SPDX-License-Identifier: Apache-2.0
//
// Which addresses are asked, and which are answered for. The first address of a subnet is no pod's: as IPv4's network
// address and IPv6's subnet-router anycast address (RFC 4291, section 2.6.1) it is never given out. So it can stand for the
// subnet without anybody having to be told of it: the daemon has it on lo. Pure.
import { formatAddress, hostLength } from "../net/address.ts";
import { type Prefix, prefixBytes } from "../net/prefix.ts";
import type { Target } from "./tracker.ts";

/** A node as far as it is asked. */
export interface ProbedNode {
  readonly name: string;
  readonly addresses: readonly Uint8Array[];
  readonly podCIDRs: readonly Prefix[];
}

/** The address that stands for a subnet; undefined for one so small that its first address may be a pod's (RFC 3021, RFC 6164). */
export function subnetAddress(prefix: Prefix): Uint8Array | undefined {
  return prefix.length > hostLength(prefix.family) - 2 ? undefined : prefixBytes(prefix);
}

/** The addresses of all nodes but this one. */
export function targetsOf(nodes: readonly ProbedNode[], self: string): Target[] {
  return nodes
    .filter(({ name }) => name !== self)
    .flatMap(({ name: peer, addresses, podCIDRs }) => {
      // A subnet of a family that the node has no address of has no route, and no answer to expect.
      const families = new Set(addresses.map(({ length }) => length));
      const subnets = podCIDRs
        .map(subnetAddress)
        .filter((address) => address !== undefined && families.has(address.length));
      return [
        ...addresses.map((address): Target => ({ peer, kind: "node", address: formatAddress(address) })),
        ...subnets.map((address): Target => ({ peer, kind: "pods", address: formatAddress(address as Uint8Array) })),
      ];
    });
}
