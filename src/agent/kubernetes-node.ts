// SPDX-License-Identifier: Apache-2.0
//
// What of a Kubernetes node the routes need. Pure.
import type { KubeNode } from "../kube/objects.ts";
import { formatPrefix, type Prefix } from "../net/prefix.ts";
import type { Node } from "../routes/source.ts";

/**
 * The nodes by name. What stayed the same is the same object as before, whatever else of the Kubernetes node changed.
 * @param own this node as it is to be, in the place of what is said of it
 * @param before what this returned last
 */
export function mergeNodes(
  nodes: ReadonlyMap<string, KubeNode>,
  own: KubeNode | undefined,
  before: ReadonlyMap<string, Node>,
): Map<string, Node> {
  const merged = new Map<string, Node>();
  for (const node of nodes.values()) merged.set(node.name, keep(node, before.get(node.name)));
  if (own !== undefined) merged.set(own.name, keep(own, before.get(own.name)));
  return merged;
}

/** Whether two lists have the same subnets, in whatever order. */
export function areSameSubnets(a: readonly Prefix[], b: readonly Prefix[]): boolean {
  return a.length === b.length && told(a) === told(b);
}

function told(prefixes: readonly Prefix[]): string {
  return prefixes.map(formatPrefix).sort().join(" ");
}

function keep({ name, addresses, podCIDRs }: KubeNode, before: Node | undefined): Node {
  if (before === undefined) return { name, addresses, podCIDRs };
  const same =
    before.podCIDRs.length === podCIDRs.length &&
    before.addresses.length === addresses.length &&
    before.podCIDRs.every((prefix, i) => isSamePrefix(prefix, podCIDRs[i] as Prefix)) &&
    before.addresses.every((address, i) => isSameAddress(address, addresses[i] as Uint8Array));
  return same ? before : { name, addresses, podCIDRs };
}

function isSamePrefix(a: Prefix, b: Prefix): boolean {
  return a.base === b.base && a.length === b.length && a.family === b.family;
}

function isSameAddress(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
