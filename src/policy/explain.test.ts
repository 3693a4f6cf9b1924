// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { clusters, flowsOf } from "../../test/helpers/policy/clusters.ts";
import type { PolicyObject, PolicySpec, TestCluster, TestPod } from "../../test/helpers/policy/evaluator.ts";
import { keyOf } from "../kube/objects.ts";
import { parseAddress } from "../net/address.ts";
import { type ExplainState, explain } from "./explain.ts";
import { Cluster, kubePod, networkPolicy, packetOf, SETTINGS } from "./testing/test-cluster.ts";

function stateOf({ pods, namespaces, policies, nodes }: TestCluster): ExplainState {
  return {
    pods: new Map(pods.map(kubePod).map((pod) => [keyOf(pod), pod])),
    namespaces,
    policies: policies.map(networkPolicy),
    policiesKnown: true,
    nodes: nodes.map(({ name, addresses }) => ({ name, addresses: addresses.map(parseAddress) })),
    locals: [],
  };
}

test("what is explained is what all nodes' rulesets do, and each rule that is named does it alone", () => {
  fc.assert(
    fc.property(clusters, fc.infiniteStream(fc.nat()), (cluster, random) => {
      const compiled = new Cluster(cluster);
      const flows = flowsOf(cluster);
      for (let i = 0; i < 30; i++) {
        const flow = flows[(random.next().value as number) % flows.length];
        if (flow === undefined) return;
        const { allowed, directions } = explain(stateOf(cluster), packetOf(flow), SETTINGS);
        expect(allowed).toBe(compiled.allows(flow));
        for (const { because, rules, policies, allowed: one } of directions) {
          expect(rules.length > 0).toBe(because === "rule");
          expect(because === "isolated").toBe(!one);
          if (because === "rule" || because === "isolated") expect(policies.length).toBeGreaterThan(0);
        }
      }
    }),
  );
}, 60_000);

const NODES = [
  { name: "n1", addresses: ["172.18.0.1"] },
  { name: "n2", addresses: ["172.18.0.2"] },
];
const pod = (namespace: string, name: string, node: string, address: string): TestPod => ({
  namespace,
  name,
  node,
  labels: { app: name },
  addresses: [address],
  ports: [],
});
const PODS = [pod("x", "server", "n1", "10.244.1.2"), pod("y", "client", "n2", "10.244.2.2")];
const policy = (namespace: string, name: string, spec: PolicySpec): PolicyObject => ({
  metadata: { namespace, name },
  spec,
});
const cluster = (...policies: PolicyObject[]): TestCluster => ({
  nodes: NODES,
  namespaces: [
    { name: "x", labels: {} },
    { name: "y", labels: { team: "y" } },
  ],
  pods: PODS,
  policies,
});
const ask = (of: TestCluster, source: string, destination: string, port = 80) =>
  explain(stateOf(of), packetOf({ source, destination, protocol: "TCP", port }), SETTINGS);

test("of rules that were merged only those are named that allow the packet", () => {
  const from = [{ namespaceSelector: { matchLabels: { team: "y" } } }];
  const of = cluster(
    policy("x", "a", {
      podSelector: {},
      ingress: [
        { from, ports: [{ port: 81 }] },
        { from, ports: [{ port: 80 }] },
      ],
    }),
    policy("x", "b", { podSelector: {}, ingress: [{ from, ports: [{ port: 79, endPort: 82 }] }] }),
  );
  const { allowed, directions } = ask(of, "10.244.2.2", "10.244.1.2");
  expect(allowed).toBe(true);
  expect(directions).toEqual([
    {
      direction: "egress",
      pod: { namespace: "y", name: "client" },
      allowed: true,
      because: "unselected",
      rules: [],
      policies: [],
    },
    {
      direction: "ingress",
      pod: { namespace: "x", name: "server" },
      allowed: true,
      because: "rule",
      rules: [
        { policy: { kind: "NetworkPolicy", namespace: "x", name: "a" }, direction: "ingress", rule: 1 },
        { policy: { kind: "NetworkPolicy", namespace: "x", name: "b" }, direction: "ingress", rule: 0 },
      ],
      policies: [
        { kind: "NetworkPolicy", namespace: "x", name: "a" },
        { kind: "NetworkPolicy", namespace: "x", name: "b" },
      ],
    },
  ]);
});

test("who denies is named on either side, and both when both do", () => {
  const of = cluster(
    policy("x", "closed", { podSelector: {}, policyTypes: ["Ingress"] }),
    policy("y", "closed", { podSelector: {}, policyTypes: ["Egress"] }),
  );
  const { allowed, directions } = ask(of, "10.244.2.2", "10.244.1.2");
  expect(allowed).toBe(false);
  expect(directions).toMatchObject([
    { direction: "egress", allowed: false, because: "isolated", policies: [{ namespace: "y", name: "closed" }] },
    { direction: "ingress", allowed: false, because: "isolated", policies: [{ namespace: "x", name: "closed" }] },
  ]);
});

test("a pod's own node is told from other nodes", () => {
  const of = cluster(policy("x", "closed", { podSelector: {}, policyTypes: ["Ingress", "Egress"] }));
  expect(ask(of, "172.18.0.1", "10.244.1.2")).toMatchObject({ allowed: true, directions: [{ because: "node" }] });
  expect(ask(of, "10.244.1.2", "172.18.0.1")).toMatchObject({ allowed: true, directions: [{ because: "node" }] });
  expect(ask(of, "172.18.0.2", "10.244.1.2")).toMatchObject({
    allowed: false,
    source: { node: "n2", pod: undefined },
    directions: [{ because: "isolated" }],
  });
});

test("a pod is a peer by the addresses of its attachment, before kubelet has told them", () => {
  const from = [{ podSelector: {}, namespaceSelector: {} }];
  const of = cluster(policy("x", "pods", { podSelector: {}, ingress: [{ from }] }));
  const state = stateOf({ ...of, pods: PODS.map((one) => (one.name === "client" ? { ...one, addresses: [] } : one)) });
  const local = { id: "c", namespace: "y", name: "client", uid: undefined, addresses: [parseAddress("10.244.2.2")] };
  const packet = packetOf({ source: "10.244.2.2", destination: "10.244.1.2", protocol: "TCP", port: 80 });
  expect(explain({ ...state, locals: [local] }, packet, SETTINGS)).toMatchObject({ allowed: true });
  expect(explain({ ...state, locals: [{ ...local, uid: "another" }] }, packet, SETTINGS).directions).toMatchObject([
    { because: "unselected" },
    { because: "isolated" },
  ]);
});

test("an attachment whose pod isn't known is explained as such", () => {
  const of = cluster(policy("x", "any", { podSelector: {} }));
  const local = {
    id: "s",
    namespace: "x",
    name: "stranger",
    uid: undefined,
    addresses: [parseAddress("10.244.1.9")],
  };
  const packet = packetOf({ source: "10.244.2.2", destination: "10.244.1.9", protocol: "TCP", port: 80 });
  expect(explain({ ...stateOf(of), locals: [local] }, packet, SETTINGS)).toMatchObject({
    allowed: false,
    directions: [{ because: "unselected" }, { because: "unknown", pod: { name: "stranger" } }],
  });
});
