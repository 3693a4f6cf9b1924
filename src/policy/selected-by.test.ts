// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { TestCluster } from "../../test/helpers/policy/evaluator.ts";
import type { ClusterNetworkPolicy } from "../kube/cluster-network-policy.ts";
import { compile } from "./compile.ts";
import { selectedBy } from "./selected-by.ts";
import { SETTINGS, stateOf } from "./testing/test-cluster.ts";

const CLUSTER: TestCluster = {
  nodes: [{ name: "n1", addresses: ["172.18.0.1"] }],
  namespaces: [{ name: "shop", labels: {} }],
  pods: ["web", "client"].map((name, i) => ({
    ...{ namespace: "shop", name, node: "n1", labels: { app: name }, ports: [] },
    addresses: [`10.244.1.${i + 2}`, `fd00::${i + 2}`],
  })),
  policies: [
    { metadata: { namespace: "shop", name: "web" }, spec: { podSelector: { matchLabels: { app: "web" } } } },
    { metadata: { namespace: "shop", name: "any" }, spec: { podSelector: {} } },
  ],
};

function tier(name: string, of: ClusterNetworkPolicy["tier"]): ClusterNetworkPolicy {
  const rules = [{ action: "Pass" as const, peers: undefined, ports: undefined }];
  return { name, uid: name, tier: of, priority: 1, subject: undefined, ingress: rules, egress: [], problems: [] };
}

test("a pod's policies are those of every tier that is asked, in each direction for itself", () => {
  const ruleset = compile(stateOf(CLUSTER, "n1", [tier("admin", "Admin"), tier("last", "Baseline")]), SETTINGS);
  const names = (address: string) => {
    const found = selectedBy(ruleset, address, "ingress");
    return Array.isArray(found) ? found.map(({ name }) => name) : found;
  };
  expect(names("10.244.1.2")).toEqual(["admin", "any", "web"]);
  expect(names("fd00::2")).toEqual(["admin", "any", "web"]);
  expect(names("10.244.1.3")).toEqual(["admin", "any"]);
  expect(selectedBy(ruleset, "10.244.1.2", "egress")).toBeUndefined();
  expect(names("10.244.1.9")).toBeUndefined();
});

test("a pod that nobody knows is told from one that no policy selects", () => {
  const locals = [
    { id: "s", namespace: "shop", name: "stranger", uid: "u", addresses: [new Uint8Array([10, 0, 0, 9])] },
  ];
  const ruleset = compile({ ...stateOf(CLUSTER, "n1"), locals }, SETTINGS);
  expect(selectedBy(ruleset, "10.0.0.9", "egress")).toBe("unknown");
});
