// SPDX-License-Identifier: Apache-2.0
//
// What NetworkPolicy means, written down from the API's own documentation (networking.k8s.io/v1 NetworkPolicySpec and what it is
// made of; concepts/services-networking/network-policies) and from nothing else: it reads the objects as they are written in
// YAML, looks at every policy for every flow, and shares no code with what it judges.
import { BlockList, isIPv6 } from "node:net";

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

export interface PolicyPeer {
  readonly podSelector?: LabelSelector;
  readonly namespaceSelector?: LabelSelector;
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}

export interface PolicyPort {
  readonly protocol?: string;
  readonly port?: number | string;
  readonly endPort?: number;
}

export interface PolicySpec {
  readonly podSelector: LabelSelector;
  readonly policyTypes?: readonly string[];
  readonly ingress?: readonly { readonly from?: readonly PolicyPeer[]; readonly ports?: readonly PolicyPort[] }[];
  readonly egress?: readonly { readonly to?: readonly PolicyPeer[]; readonly ports?: readonly PolicyPort[] }[];
}

export interface PolicyObject {
  readonly metadata: { readonly namespace: string; readonly name: string };
  readonly spec: PolicySpec;
}

/** A pod as the tests make it: not its JSON, so that tests can say what they mean in a line. */
export interface TestPod {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
  readonly hostNetwork?: boolean;
  readonly ended?: boolean;
}

export interface TestCluster {
  readonly nodes: readonly { readonly name: string; readonly addresses: readonly string[] }[];
  readonly namespaces: readonly { readonly name: string; readonly labels: Readonly<Record<string, string>> }[];
  readonly pods: readonly TestPod[];
  readonly policies: readonly PolicyObject[];
}

/** The first packet of a connection, as it is after the translation of services. */
export interface Flow {
  readonly source: string;
  readonly destination: string;
  readonly protocol: "TCP" | "UDP" | "SCTP" | "ICMP";
  /** Of the destination; none for ICMP. */
  readonly port: number | undefined;
}

export type Direction = "Ingress" | "Egress";

/** Whether the cluster's policies allow the flow. */
export function allows(cluster: TestCluster, flow: Flow): boolean {
  const source = podAt(cluster, flow.source);
  const destination = podAt(cluster, flow.destination);
  // "A Pod cannot block access to itself."
  if (source !== undefined && source === destination) return true;
  if (source !== undefined && !allowsOneWay(cluster, "Egress", source, flow.destination, destination, flow))
    return false;
  return destination === undefined || allowsOneWay(cluster, "Ingress", destination, flow.source, source, flow);
}

/** Whether the policies of one end allow it. @param other the pod at the other end's address, if it is one's own */
export function allowsOneWay(
  cluster: TestCluster,
  direction: Direction,
  pod: TestPod,
  otherAddress: string,
  other: TestPod | undefined,
  flow: Flow,
): boolean {
  // "Traffic to and from the node where a Pod is running is always allowed, regardless of the IP address of the Pod or the node."
  const node = cluster.nodes.find(({ name }) => name === pod.node);
  if (node?.addresses.some((address) => same(address, otherAddress))) return true;
  const policies = selecting(cluster, direction, pod);
  // "By default, a pod is non-isolated."
  if (policies.length === 0) return true;
  return policies.some((policy) => {
    const rules =
      direction === "Ingress"
        ? (policy.spec.ingress ?? []).map(({ from, ports }) => ({ peers: from, ports }))
        : (policy.spec.egress ?? []).map(({ to, ports }) => ({ peers: to, ports }));
    return rules.some(({ peers, ports }) => {
      // "If this field is empty or missing, this rule matches all …"
      const peerMatches =
        peers === undefined ||
        peers.length === 0 ||
        peers.some((peer) => matchesPeer(cluster, policy, peer, otherAddress, other));
      const target = direction === "Ingress" ? pod : other;
      const portMatches =
        ports === undefined || ports.length === 0 || ports.some((port) => matchesPort(port, target, flow));
      return peerMatches && portMatches;
    });
  });
}

/** The policies that isolate the pod in a direction. */
export function selecting(cluster: TestCluster, direction: Direction, pod: TestPod): readonly PolicyObject[] {
  return cluster.policies.filter(
    (policy) =>
      policy.metadata.namespace === pod.namespace &&
      matches(policy.spec.podSelector, pod.labels) &&
      typesOf(policy.spec).includes(direction),
  );
}

function typesOf({ policyTypes, egress }: PolicySpec): readonly string[] {
  // "… policies that contain an egress section are assumed to affect egress, and all policies (whether or not they contain an
  // ingress section) are assumed to affect ingress."
  if (policyTypes !== undefined && policyTypes.length > 0) return policyTypes;
  return egress === undefined ? ["Ingress"] : ["Ingress", "Egress"];
}

function matchesPeer(
  cluster: TestCluster,
  policy: PolicyObject,
  { podSelector, namespaceSelector, ipBlock }: PolicyPeer,
  address: string,
  pod: TestPod | undefined,
): boolean {
  if (ipBlock !== undefined) {
    return within(ipBlock.cidr, address) && !(ipBlock.except ?? []).some((cidr) => within(cidr, address));
  }
  if (pod === undefined) return false;
  if (namespaceSelector === undefined) {
    return pod.namespace === policy.metadata.namespace && matches(podSelector ?? {}, pod.labels);
  }
  const namespace = cluster.namespaces.find(({ name }) => name === pod.namespace);
  if (namespace === undefined || !matches(namespaceSelector, namespace.labels)) return false;
  return podSelector === undefined || matches(podSelector, pod.labels);
}

function matchesPort(
  { protocol = "TCP", port, endPort }: PolicyPort,
  target: TestPod | undefined,
  flow: Flow,
): boolean {
  if (protocol !== flow.protocol) return false;
  if (port === undefined) return true;
  if (typeof port === "string") {
    return (target?.ports ?? []).some(
      (named) => named.name === port && named.protocol === protocol && named.port === flow.port,
    );
  }
  return flow.port !== undefined && flow.port >= port && flow.port <= (endPort ?? port);
}

export function matches(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) if (labels[key] !== value) return false;
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const has = Object.keys(labels).includes(key);
    const isOne = has && values.includes(labels[key] as string);
    if (operator === "In" && !isOne) return false;
    if (operator === "NotIn" && isOne) return false;
    if (operator === "Exists" && !has) return false;
    if (operator === "DoesNotExist" && has) return false;
  }
  return true;
}

/** The pod whose own address this is. Those of the host's network have their node's, and aren't told from it. */
export function podAt({ pods }: TestCluster, address: string): TestPod | undefined {
  return pods.find(
    ({ hostNetwork, ended, addresses }) => !hostNetwork && !ended && addresses.some((own) => same(own, address)),
  );
}

function same(one: string, other: string): boolean {
  const family = isIPv6(one) ? "ipv6" : "ipv4";
  if (isIPv6(other) !== isIPv6(one)) return false;
  const list = new BlockList();
  list.addAddress(one, family);
  return list.check(other, family);
}

export function within(cidr: string, address: string): boolean {
  const [base = "", length] = cidr.split("/");
  const family = isIPv6(base) ? "ipv6" : "ipv4";
  if (isIPv6(address) !== isIPv6(base)) return false;
  const list = new BlockList();
  list.addSubnet(base, Number(length), family);
  return list.check(address, family);
}
