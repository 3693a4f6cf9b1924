// SPDX-License-Identifier: Apache-2.0
//
// ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) as its API's documentation says it, on top of what NetworkPolicy means; and
// such policies for property tests.
import fc from "fast-check";
import {
  allowsOneWay,
  type Direction,
  type Flow,
  type LabelSelector,
  matches,
  podAt,
  selecting,
  type TestCluster,
  type TestPod,
  within,
} from "./evaluator.ts";

interface PodsOf {
  readonly namespaceSelector?: LabelSelector;
  readonly podSelector: LabelSelector;
}

interface ClusterPeer {
  readonly namespaces?: LabelSelector;
  readonly pods?: PodsOf;
  readonly networks?: readonly string[];
}

interface DestinationPort {
  readonly destinationPort: {
    readonly number?: number;
    readonly range?: { readonly start: number; readonly end: number };
  };
}

interface ClusterProtocol {
  readonly tcp?: DestinationPort;
  readonly udp?: DestinationPort;
  readonly sctp?: DestinationPort;
  readonly destinationNamedPort?: string;
}

interface ClusterRule {
  readonly action: "Accept" | "Deny" | "Pass";
  readonly from?: readonly ClusterPeer[];
  readonly to?: readonly ClusterPeer[];
  readonly protocols?: readonly ClusterProtocol[];
}

export interface ClusterPolicyObject {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly tier: "Admin" | "Baseline";
    readonly priority: number;
    readonly subject: ClusterPeer;
    readonly ingress?: readonly ClusterRule[];
    readonly egress?: readonly ClusterRule[];
  };
}

/** Whether all the policies together allow the flow. */
export function allowsWithClusterPolicies(
  cluster: TestCluster,
  clusterPolicies: readonly ClusterPolicyObject[],
  flow: Flow,
): boolean {
  const source = podAt(cluster, flow.source);
  const destination = podAt(cluster, flow.destination);
  if (source !== undefined && source === destination) return true;
  const oneWay = (direction: Direction, pod: TestPod, otherAddress: string, other: TestPod | undefined): boolean => {
    const node = cluster.nodes.find(({ name }) => name === pod.node);
    if (node?.addresses.includes(otherAddress)) return true;
    const decide = (tier: "Admin" | "Baseline") =>
      decision(cluster, clusterPolicies, tier, direction, { pod, otherAddress, other, flow });
    const admin = decide("Admin");
    if (admin === "Accept" || admin === "Deny") return admin === "Accept";
    // "v1.NetworkPolicy always makes a final decision for selected pods."
    if (selecting(cluster, direction, pod).length > 0) {
      return allowsOneWay(cluster, direction, pod, otherAddress, other, flow);
    }
    return decide("Baseline") !== "Deny";
  };
  return (
    (source === undefined || oneWay("Egress", source, flow.destination, destination)) &&
    (destination === undefined || oneWay("Ingress", destination, flow.source, source))
  );
}

interface OneWay {
  readonly pod: TestPod;
  readonly otherAddress: string;
  readonly other: TestPod | undefined;
  readonly flow: Flow;
}

function decision(
  cluster: TestCluster,
  all: readonly ClusterPolicyObject[],
  tier: "Admin" | "Baseline",
  direction: Direction,
  { pod, otherAddress, other, flow }: OneWay,
): ClusterRule["action"] | undefined {
  const ordered = all.filter(({ spec }) => spec.tier === tier).sort((a, b) => a.spec.priority - b.spec.priority);
  for (const { spec } of ordered) {
    if (!isPodOf(cluster, spec.subject, pod)) continue;
    for (const rule of (direction === "Ingress" ? spec.ingress : spec.egress) ?? []) {
      const peers = rule.from ?? rule.to ?? [];
      const target = direction === "Ingress" ? pod : other;
      const isPeer = peers.some(
        (peer) =>
          (other !== undefined && isPodOf(cluster, peer, other)) ||
          (peer.networks ?? []).some((network) => within(network, otherAddress)),
      );
      const isPort = rule.protocols === undefined || rule.protocols.some((one) => isOf(one, target, flow));
      if (isPeer && isPort) return rule.action;
    }
  }
  return undefined;
}

function isPodOf({ namespaces }: TestCluster, peer: ClusterPeer, pod: TestPod): boolean {
  const labels = namespaces.find(({ name }) => name === pod.namespace)?.labels;
  if (labels === undefined) return false;
  if (peer.namespaces !== undefined) return matches(peer.namespaces, labels);
  if (peer.pods === undefined) return false;
  return matches(peer.pods.namespaceSelector ?? {}, labels) && matches(peer.pods.podSelector, pod.labels);
}

function isOf(protocol: ClusterProtocol, target: TestPod | undefined, flow: Flow): boolean {
  if (protocol.destinationNamedPort !== undefined) {
    return (target?.ports ?? []).some(
      (port) =>
        port.name === protocol.destinationNamedPort && port.protocol === flow.protocol && port.port === flow.port,
    );
  }
  const of = { TCP: protocol.tcp, UDP: protocol.udp, SCTP: protocol.sctp, ICMP: undefined }[flow.protocol];
  if (of === undefined || flow.port === undefined) return false;
  const { number, range } = of.destinationPort;
  return range === undefined ? number === flow.port : flow.port >= range.start && flow.port <= range.end;
}

const SIZE = { size: "max" } as const;
const selector: fc.Arbitrary<LabelSelector> = fc.oneof(
  fc.constant({}),
  fc
    .tuple(fc.constantFrom("app", "tier"), fc.constantFrom("a", "b"))
    .map(([key, value]) => ({ matchLabels: { [key]: value } })),
  fc.constantFrom<LabelSelector>({ matchExpressions: [{ key: "app", operator: "NotIn", values: ["a"] }] }),
);
const pods: fc.Arbitrary<ClusterPeer> = fc.oneof(
  selector.map((namespaces) => ({ namespaces })),
  fc
    .tuple(selector, selector)
    .map(([namespaceSelector, podSelector]) => ({ pods: { namespaceSelector, podSelector } })),
);
const networks: fc.Arbitrary<ClusterPeer> = fc
  .subarray(["0.0.0.0/0", "10.244.1.0/24", "192.0.2.0/24", "::/0", "2001:db8::/32", "fd00:244:1::/48"], {
    minLength: 1,
  })
  .map((all) => ({ networks: all }));
const destinationPort: fc.Arbitrary<DestinationPort> = fc
  .constantFrom({ number: 80 }, { number: 81 }, { range: { start: 80, end: 81 } }, { range: { start: 81, end: 8080 } })
  .map((port) => ({ destinationPort: port }));
const numbered: fc.Arbitrary<ClusterProtocol> = fc.oneof(
  destinationPort.map((tcp) => ({ tcp })),
  destinationPort.map((udp) => ({ udp })),
  destinationPort.map((sctp) => ({ sctp })),
);
const named: fc.Arbitrary<ClusterProtocol> = fc
  .constantFrom("http", "alt")
  .map((name) => ({ destinationNamedPort: name }));
const action = fc.constantFrom("Accept" as const, "Deny" as const, "Pass" as const);
const some = <T>(one: fc.Arbitrary<T>) => fc.array(one, { minLength: 1, maxLength: 2 });
const maybe = <T>(one: fc.Arbitrary<T>) => fc.option(some(one), { nil: undefined });

function rule(field: "from" | "to"): fc.Arbitrary<ClusterRule> {
  const ofPods = fc.tuple(action, some(pods), maybe(fc.oneof(numbered, named)));
  // Networks have no named ports.
  const ofNetworks = fc.tuple(action, some(fc.oneof(pods, networks)), maybe(numbered));
  return (field === "from" ? ofPods : fc.oneof(ofPods, ofNetworks)).map(([of, peers, protocols]) => ({
    action: of,
    [field]: peers,
    ...(protocols && { protocols }),
  }));
}

/** No two have the same priority: the API leaves open what they would mean. */
export const clusterPolicies: fc.Arbitrary<ClusterPolicyObject[]> = fc
  .array(
    fc.record({
      tier: fc.constantFrom("Admin" as const, "Baseline" as const),
      subject: pods,
      ingress: fc.array(rule("from"), { maxLength: 3 }),
      egress: fc.array(rule("to"), { maxLength: 3 }),
    }),
    { minLength: 1, maxLength: 4, ...SIZE },
  )
  .map((all) =>
    all.map((spec, i) => ({ metadata: { name: `cluster-${all.length - i}` }, spec: { ...spec, priority: i * 7 } })),
  );
