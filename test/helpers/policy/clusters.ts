// SPDX-License-Identifier: Apache-2.0
//
// Clusters and policies for property tests. The world is small, so that labels, ports and addresses meet often: a policy that
// selects nothing says nothing.
import fc from "fast-check";
import type { Flow, LabelSelector, PolicyObject, PolicyPeer, PolicyPort, TestCluster, TestPod } from "./evaluator.ts";

const KEYS = ["app", "tier"] as const;
const VALUES = ["a", "b"] as const;
const NAMESPACES = ["x", "y", "z"] as const;
export const NODES = [
  { name: "n1", addresses: ["172.18.0.1", "fd00:18::1"] },
  { name: "n2", addresses: ["172.18.0.2", "fd00:18::2"] },
] as const;
/** Outside of the cluster. */
export const OUTSIDE = ["192.0.2.7", "2001:db8::7"] as const;
export const PORTS = [80, 81, 8080] as const;
const PORT_NAMES = ["http", "alt"] as const;
const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const;
const BLOCKS: readonly { cidr: string; excepts: readonly string[] }[] = [
  { cidr: "0.0.0.0/0", excepts: ["10.244.1.0/24", "10.244.0.0/16", "192.0.2.0/24"] },
  { cidr: "10.244.0.0/16", excepts: ["10.244.1.0/24", "10.244.2.3/32"] },
  { cidr: "10.244.1.0/24", excepts: ["10.244.1.2/31"] },
  { cidr: "10.244.2.3/32", excepts: [] },
  { cidr: "172.18.0.0/16", excepts: ["172.18.0.1/32"] },
  { cidr: "192.0.2.0/24", excepts: ["192.0.2.0/28"] },
  { cidr: "::/0", excepts: ["fd00:244::/32", "2001:db8::/32"] },
  { cidr: "fd00:244:1::/48", excepts: ["fd00:244:1::2/127"] },
  { cidr: "2001:db8::/32", excepts: [] },
];

/** Sizes are of the array that is asked for: without it fast-check makes nearly all of them short. */
const SIZE = { size: "max" } as const;

const labels = fc
  .tuple(...KEYS.map(() => fc.option(fc.constantFrom(...VALUES), { nil: undefined })))
  .map((values) => Object.fromEntries(KEYS.flatMap((key, i) => (values[i] === undefined ? [] : [[key, values[i]]]))));

const expression = fc.oneof(
  fc.record({
    key: fc.constantFrom(...KEYS),
    operator: fc.constantFrom("In", "NotIn"),
    values: fc.uniqueArray(fc.constantFrom(...VALUES, "c"), { minLength: 1, maxLength: 2 }),
  }),
  fc.record({ key: fc.constantFrom(...KEYS), operator: fc.constantFrom("Exists", "DoesNotExist") }),
);

const selector: fc.Arbitrary<LabelSelector> = fc.oneof(
  { weight: 2, arbitrary: fc.constant({}) },
  { weight: 3, arbitrary: labels.map((matchLabels) => ({ matchLabels })) },
  {
    weight: 2,
    arbitrary: fc.array(expression, { minLength: 1, maxLength: 2 }).map((matchExpressions) => ({ matchExpressions })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(labels, expression).map(([matchLabels, one]) => ({ matchLabels, matchExpressions: [one] })),
  },
);

/** Of a namespace by its own name too, as the API server labels it. */
const namespaceSelector: fc.Arbitrary<LabelSelector> = fc.oneof(
  selector,
  fc.constantFrom(...NAMESPACES).map((name) => ({ matchLabels: { "kubernetes.io/metadata.name": name } })),
);

const block: fc.Arbitrary<PolicyPeer> = fc.constantFrom(...BLOCKS).chain(({ cidr, excepts }) =>
  (excepts.length === 0 ? fc.constant([]) : fc.subarray([...excepts])).map((except) => ({
    ipBlock: { cidr, ...(except.length > 0 && { except }) },
  })),
);

const peer: fc.Arbitrary<PolicyPeer> = fc.oneof(
  selector.map((podSelector) => ({ podSelector })),
  namespaceSelector.map((one) => ({ namespaceSelector: one })),
  fc.tuple(selector, namespaceSelector).map(([podSelector, one]) => ({ podSelector, namespaceSelector: one })),
  block,
);

const protocol = fc.option(fc.constantFrom(...PROTOCOLS), { nil: undefined });

const port: fc.Arbitrary<PolicyPort> = fc
  .tuple(
    protocol,
    fc.oneof(
      fc.constant({}),
      fc.constantFrom(...PORTS).map((number) => ({ port: number })),
      fc.constantFrom(...PORT_NAMES).map((name) => ({ port: name })),
      fc.constantFrom({ port: 80, endPort: 81 }, { port: 81, endPort: 8080 }, { port: 1, endPort: 65_535 }),
    ),
  )
  .map(([of, what]) => ({ ...(of !== undefined && { protocol: of }), ...what }));

const peers = fc.option(fc.array(peer, { maxLength: 3 }), { nil: undefined });
const ports = fc.option(fc.array(port, { maxLength: 3 }), { nil: undefined });

const ingressRule = fc
  .tuple(peers, ports)
  .map(([from, of]) => ({ ...(from !== undefined && { from }), ...(of !== undefined && { ports: of }) }));
const egressRule = fc
  .tuple(peers, ports)
  .map(([to, of]) => ({ ...(to !== undefined && { to }), ...(of !== undefined && { ports: of }) }));

const policySpec = fc
  .record({
    podSelector: selector,
    policyTypes: fc.option(fc.subarray(["Ingress", "Egress"], { minLength: 1 }), { nil: undefined }),
    ingress: fc.option(fc.array(ingressRule, { maxLength: 2 }), { nil: undefined }),
    egress: fc.option(fc.array(egressRule, { maxLength: 2 }), { nil: undefined }),
  })
  .map(({ podSelector, policyTypes, ingress, egress }) => ({
    podSelector,
    ...(policyTypes !== undefined && { policyTypes }),
    ...(ingress !== undefined && { ingress }),
    ...(egress !== undefined && { egress }),
  }));

export const policies: fc.Arbitrary<PolicyObject[]> = fc
  .array(fc.tuple(fc.constantFrom(...NAMESPACES), policySpec), { maxLength: 4, ...SIZE })
  .map((all) => all.map(([namespace, spec], i) => ({ metadata: { namespace, name: `policy-${i}` }, spec })));

const namedPorts = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom(...PORT_NAMES),
    protocol: fc.constantFrom(...PROTOCOLS),
    port: fc.constantFrom(...PORTS),
  }),
  { maxLength: 2, selector: ({ name }) => name },
);

/** What of a pod may change while it lives. */
export const podTraits = fc.record({ labels, ports: namedPorts });

const pods: fc.Arbitrary<TestPod[]> = fc
  .array(
    fc.record({
      namespace: fc.constantFrom(...NAMESPACES),
      node: fc.constantFrom(...NODES.map(({ name }) => name)),
      traits: podTraits,
      kind: fc.constantFrom("pod", "pod", "pod", "pod", "host", "ended"),
    }),
    { minLength: 2, maxLength: 6, ...SIZE },
  )
  .map((all) =>
    all.map(({ namespace, node, traits, kind }, i) => {
      const subnet = node === "n1" ? 1 : 2;
      const own = [`10.244.${subnet}.${i + 2}`, `fd00:244:${subnet}::${i + 2}`];
      const host = NODES.find(({ name }) => name === node)?.addresses ?? [];
      return {
        namespace,
        name: `pod-${i}`,
        node,
        ...traits,
        addresses: kind === "host" ? host : own,
        ...(kind === "host" && { hostNetwork: true }),
        ...(kind === "ended" && { ended: true }),
      };
    }),
  );

const namespaces = fc.tuple(...NAMESPACES.map(() => labels)).map((all) =>
  NAMESPACES.map((name, i) => ({
    name,
    labels: { ...all[i], "kubernetes.io/metadata.name": name } as Record<string, string>,
  })),
);

export const clusters: fc.Arbitrary<TestCluster> = fc.record({
  nodes: fc.constant(NODES),
  namespaces,
  pods,
  policies,
});

/** Every flow between two ends of one family, of pods, nodes and one outside, on every port that policies speak of. */
export function flowsOf({ pods: all, nodes }: TestCluster): Flow[] {
  const ends = [
    ...new Set([...all.flatMap(({ addresses }) => addresses), ...nodes.flatMap((node) => node.addresses), ...OUTSIDE]),
  ];
  const family = (address: string) => (address.includes(":") ? 6 : 4);
  return ends.flatMap((source) =>
    ends
      .filter((destination) => family(destination) === family(source) && destination !== source)
      .flatMap((destination) => [
        { source, destination, protocol: "ICMP" as const, port: undefined },
        ...PROTOCOLS.flatMap((of) => PORTS.map((number) => ({ source, destination, protocol: of, port: number }))),
      ]),
  );
}
