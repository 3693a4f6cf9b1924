// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  allowsWithClusterPolicies,
  type ClusterPolicyObject,
  clusterPolicies,
} from "../../test/helpers/policy/cluster-policies.ts";
import { clusters, flowsOf } from "../../test/helpers/policy/clusters.ts";
import type { ClusterNetworkPolicy } from "../kube/cluster-network-policy.ts";
import { keyOf } from "../kube/objects.ts";
import { parseClusterNetworkPolicy } from "../kube/parse-cluster-network-policy.ts";
import { parseAddress } from "../net/address.ts";
import { compile, modelOf } from "./compile.ts";
import { explain } from "./explain.ts";
import { Interpreter } from "./interpret.ts";
import { PolicyModel } from "./model.ts";
import { NO_RULESET } from "./ruleset.ts";
import { applyChange } from "./testing/apply-change.ts";
import { Cluster, kubePod, localPod, packetOf, SETTINGS, stateOf } from "./testing/test-cluster.ts";

function parsed(objects: readonly ClusterPolicyObject[]): ClusterNetworkPolicy[] {
  return objects.map((object) => {
    const policy = parseClusterNetworkPolicy(object);
    if (policy === undefined || policy.problems.length > 0) throw new Error(policy?.problems.join("; "));
    return policy;
  });
}

test("tiers, priorities and actions decide as the documentation says, together with NetworkPolicy, and are explained so", () => {
  fc.assert(
    fc.property(clusters, clusterPolicies, fc.infiniteStream(fc.nat()), (cluster, objects, random) => {
      const policies = parsed(objects);
      const compiled = new Cluster(cluster, (node) => compile(stateOf(cluster, node, policies), SETTINGS));
      const flows = flowsOf(cluster);
      const wrong = flows.filter((flow) => compiled.allows(flow) !== allowsWithClusterPolicies(cluster, objects, flow));
      expect(wrong).toEqual([]);
      const state = {
        ...stateOf(cluster, "none", policies),
        pods: new Map(cluster.pods.map(kubePod).map((pod) => [keyOf(pod), pod])),
        nodes: cluster.nodes.map(({ name, addresses }) => ({ name, addresses: addresses.map(parseAddress) })),
      };
      for (let i = 0; i < 10; i++) {
        const flow = flows[(random.next().value as number) % flows.length];
        if (flow === undefined) continue;
        const { allowed, directions } = explain(state, packetOf(flow), SETTINGS);
        expect(allowed).toBe(compiled.allows(flow));
        for (const { because, rules } of directions) expect(rules.length > 0).toBe(because === "rule");
      }
    }),
    { numRuns: 60 },
  );
}, 60_000);

test("a cluster's policies that change one by one lead to the ruleset that is compiled of them", () => {
  fc.assert(
    fc.property(clusters, clusterPolicies, clusterPolicies, (cluster, before, after) => {
      const model = modelOf(stateOf(cluster, "n1", parsed(before)), SETTINGS);
      let kernel = applyChange(NO_RULESET, model.commit());
      for (const { metadata } of before) model.setClusterPolicy(metadata.name, undefined);
      for (const policy of parsed(after)) {
        model.setClusterPolicy(policy.name, policy);
        kernel = applyChange(kernel, model.commit());
      }
      const target = compile(stateOf(cluster, "n1", parsed(after)), SETTINGS);
      expect(new Set(kernel.chains.keys())).toEqual(new Set(target.chains.keys()));
      expect(new Map(kernel.sets)).toEqual(new Map(target.sets));
    }),
  );
}, 60_000);

describe("a policy of the cluster that can't be used", () => {
  const POD = {
    namespace: "x",
    name: "pod",
    node: "n1",
    labels: { app: "a" },
    addresses: ["10.244.1.2"],
    ports: [],
  };
  const CLIENT = { ...POD, name: "client", node: "n2", addresses: ["10.244.2.2"] };
  const reaches = (spec: object): boolean => {
    const model = new PolicyModel(SETTINGS);
    const policy = parseClusterNetworkPolicy({ metadata: { name: "p" }, spec });
    model.setPoliciesKnown(true);
    model.setNamespace("x", { name: "x", labels: {} });
    for (const pod of [POD, CLIENT]) model.setPod(`x/${pod.name}`, kubePod(pod));
    model.setLocal("pod", localPod(POD));
    model.setClusterPolicy("p", policy);
    model.commit();
    const packet = packetOf({ source: "10.244.2.2", destination: "10.244.1.2", protocol: "TCP", port: 80 });
    return new Interpreter(model.ruleset).judge(packet).allowed;
  };
  const everybody = { namespaces: {} };
  const admin = { tier: "Admin", priority: 1, subject: everybody };
  const deny = { action: "Deny", from: [everybody] };

  test.each([
    ["accepts nothing where a peer isn't known", [{ action: "Accept", from: [{ services: {} }] }, deny], false],
    [
      "denies all where a peer of a rule that denies isn't known",
      [{ action: "Deny", from: [{ services: {} }] }],
      false,
    ],
    ["denies all where a peer of a rule that passes isn't known", [{ action: "Pass", from: [{}] }], false],
    ["denies all where an action isn't known", [{ action: "Audit", from: [everybody] }], false],
    [
      "accepts nothing where a protocol isn't known",
      [{ action: "Accept", from: [everybody], protocols: [{ quic: {} }] }, deny],
      false,
    ],
    ["does what it says where all can be used", [{ action: "Accept", from: [everybody] }, deny], true],
  ])("%s", (_title, ingress, allowed) => {
    expect(reaches({ ...admin, ingress })).toBe(allowed);
  });

  test("denies all where its place among others isn't known, and in that direction only", () => {
    expect(reaches({ ...admin, tier: "Sub", ingress: [{ action: "Accept", from: [everybody] }] })).toBe(false);
    expect(reaches({ ...admin, priority: 2000, ingress: [{ action: "Accept", from: [everybody] }] })).toBe(false);
    expect(reaches({ ...admin, when: "now", egress: [{ action: "Accept", to: [everybody] }] })).toBe(true);
  });

  test("still denies what it denies where its subject can't be read, and accepts nothing", () => {
    const subject = { serviceAccounts: {} };
    expect(reaches({ ...admin, subject, ingress: [deny] })).toBe(false);
    expect(reaches({ ...admin, subject, ingress: [{ action: "Accept", from: [everybody] }, deny] })).toBe(false);
    expect(reaches({ ...admin, subject, ingress: [{ action: "Pass", from: [everybody] }] })).toBe(true);
  });
});

test("pods of a namespace whose labels aren't known are closed where the cluster has policies", () => {
  const model = new PolicyModel(SETTINGS);
  const pod = { namespace: "x", name: "pod", node: "n1", labels: {}, addresses: ["10.244.1.2"], ports: [] };
  const packet = packetOf({ source: "10.244.2.2", destination: "10.244.1.2", protocol: "TCP", port: 80 });
  const isAllowed = () => new Interpreter(model.ruleset).judge(packet).allowed;
  model.setPoliciesKnown(true);
  model.setPod("x/pod", kubePod(pod));
  model.setLocal("pod", localPod(pod));
  model.commit();
  expect(isAllowed()).toBe(true);
  const spec = { tier: "Admin", priority: 1, subject: { namespaces: { matchLabels: { team: "a" } } } };
  model.setClusterPolicy("p", parseClusterNetworkPolicy({ metadata: { name: "p" }, spec }));
  model.commit();
  expect(isAllowed()).toBe(false);
  model.setNamespace("x", { name: "x", labels: {} });
  model.commit();
  expect(isAllowed()).toBe(true);
});
