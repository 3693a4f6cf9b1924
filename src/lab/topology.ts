// SPDX-License-Identifier: Apache-2.0
//
// What a lab consists of: names, subnets and addresses, all of which follow from its options. The prefix of a namespace's
// name is the mark by which a lab's own things are found again, with or without its state.
import { createHash } from "node:crypto";
import type { Family } from "../net/address.ts";
import type { LabFamily, LabUnderlay } from "./options.ts";

export interface Topology {
  readonly name: string;
  readonly family: LabFamily;
  readonly underlay: {
    readonly kind: LabUnderlay;
    /** Where the links' bridges are; between several links it is the router. */
    readonly namespace: string;
    readonly subnets: readonly string[];
    readonly links: readonly LabLink[];
  };
  readonly nodes: readonly LabNode[];
}

/** A link that nodes are on. */
export interface LabLink {
  readonly name: string;
  readonly subnets: readonly string[];
  /** The router's addresses on it, without prefix length; none where there is no router. */
  readonly router: readonly string[];
}

export interface LabNode {
  readonly name: string;
  readonly namespace: string;
  /** Name of the link it is on. */
  readonly link: string;
  /** On the underlay, IPv4 first, without prefix length. */
  readonly addresses: readonly string[];
  readonly podCIDRs: readonly string[];
  readonly pods: readonly LabPod[];
}

export interface LabPod {
  readonly name: string;
  readonly namespace: string;
  /** CNI_CONTAINERID. */
  readonly containerId: string;
  /** K8S_POD_UID. */
  readonly uid: string;
  /** What ADD's result says, IPv4 first, without prefix length; empty before ADD. */
  readonly addresses: readonly string[];
}

/** The prefix lengths of the underlay's subnets. */
export const UNDERLAY_LENGTH: Record<Family, number> = { 4: 24, 6: 64 };

export function familiesOf(family: LabFamily): readonly Family[] {
  return family === "v4" ? [4] : family === "v6" ? [6] : [4, 6];
}

/** The lab that the options ask for. Equal options make equal labs, container IDs included. */
export function planTopology(options: {
  name: string;
  nodes: number;
  pods: number;
  family: LabFamily;
  underlay?: LabUnderlay;
}): Topology {
  const families = familiesOf(options.family);
  const kind = options.underlay ?? "l2";
  const links = planLinks(kind, families);
  const prefix = `flatnet-${options.name}-`;
  const nodes: LabNode[] = [];
  for (let n = 1; n <= options.nodes; n++) {
    const name = `node${n}`;
    const pods: LabPod[] = [];
    for (let p = 1; p <= options.pods; p++) {
      const pod = `${name}-pod${p}`;
      const hash = createHash("sha256").update(`flatnet-lab/${options.name}/${pod}`).digest("hex");
      pods.push({
        name: pod,
        namespace: `${prefix}${pod}`,
        containerId: hash,
        uid: hash.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, "$1-$2-$3-$4-$5"),
        addresses: [],
      });
    }
    // The numbers are decimal digits in IPv6 too, so that a node is recognised in every address.
    // The first half is on the first link, so that three nodes have neighbours on both sides of a router.
    const link = links[n <= Math.ceil(options.nodes / links.length) ? 0 : 1] as LabLink;
    nodes.push({
      name,
      namespace: `${prefix}${name}`,
      link: link.name,
      addresses: link.subnets.map((subnet) => hostOf(subnet, 10 + n)),
      podCIDRs: families.map((family) => (family === 4 ? `10.244.${n}.0/24` : `fd00:10:244:${n}::/64`)),
      pods,
    });
  }
  return {
    name: options.name,
    family: options.family,
    underlay: {
      kind,
      namespace: `${prefix}underlay`,
      subnets: links.flatMap(({ subnets }) => subnets),
      links,
    },
    nodes,
  };
}

function planLinks(kind: LabUnderlay, families: readonly Family[]): LabLink[] {
  if (kind === "l2") {
    return [{ name: "br0", subnets: families.map((f) => (f === 4 ? "172.18.0.0/24" : "fd00:18::/64")), router: [] }];
  }
  return [1, 2].map((rack) => {
    const subnets = families.map((family) => (family === 4 ? `172.18.${rack}.0/24` : `fd00:18:${rack}::/64`));
    return { name: `rack${rack}`, subnets, router: subnets.map((subnet) => hostOf(subnet, 1)) };
  });
}

/** The address with this number in a subnet of the underlay. */
function hostOf(subnet: string, number: number): string {
  return subnet.includes(":") ? subnet.replace(/\/.*$/, String(number)) : subnet.replace(/0\/.*$/, String(number));
}

/** The topology with the addresses that pods were given; a pod that isn't in the map keeps its own. */
export function withPodAddresses(topology: Topology, addresses: ReadonlyMap<string, readonly string[]>): Topology {
  return {
    ...topology,
    nodes: topology.nodes.map((node) => ({
      ...node,
      pods: node.pods.map((pod) => ({ ...pod, addresses: addresses.get(pod.name) ?? pod.addresses })),
    })),
  };
}

/** All namespaces, the underlay's first. */
export function namespacesOf(topology: Topology): string[] {
  return [
    topology.underlay.namespace,
    ...topology.nodes.flatMap((node) => [node.namespace, ...node.pods.map((pod) => pod.namespace)]),
  ];
}

/**
 * Whether the namespace belongs to the lab of that name. The whole name is matched: "flatnet-lab-2-node1" is of lab
 * "lab-2", not of "lab".
 */
export function isNamespaceOf(labName: string, namespace: string): boolean {
  const prefix = `flatnet-${labName}-`;
  return namespace.startsWith(prefix) && /^(underlay|node\d+(-pod\d+)?)$/.test(namespace.slice(prefix.length));
}

/** Names of the nodes and pods of the topology in the order of the matrix: each node, then its pods. */
export function endsOf(topology: Topology): End[] {
  return topology.nodes.flatMap((node) => [
    { kind: "node" as const, name: node.name, node: node.name, namespace: node.namespace, addresses: node.addresses },
    ...node.pods.map((pod) => ({
      kind: "pod" as const,
      name: pod.name,
      node: node.name,
      namespace: pod.namespace,
      addresses: pod.addresses,
    })),
  ]);
}

/** A node or a pod as one end of a connection. */
export interface End {
  readonly kind: "node" | "pod";
  readonly name: string;
  /** The node it is, or is on. */
  readonly node: string;
  readonly namespace: string;
  readonly addresses: readonly string[];
}

/** The end's address of the family. */
export function addressOf(end: End, family: Family): string | undefined {
  return end.addresses.find((address) => address.includes(":") === (family === 6));
}
