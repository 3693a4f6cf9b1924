// SPDX-License-Identifier: Apache-2.0
//
// deploy/own-node.yaml on a real API server: which Nodes an agent may change with the token of its pod.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEPLOY, parseManifests } from "../../scripts/manifests.ts";
import { Cleanup, waitFor } from "../helpers/daemon.ts";
import { type Admin, type ApiRefusal, createAdmin } from "../helpers/kube-api/admin.ts";
import { type ControlPlane, kubebuilderAssets, startControlPlane } from "../helpers/kube-api/control-plane.ts";

const assets = kubebuilderAssets();
const NAMESPACE = "/api/v1/namespaces/flatnet-system";

/** Where objects of a kind are made. */
const COLLECTIONS: Readonly<Record<string, string>> = {
  Namespace: "/api/v1/namespaces",
  ServiceAccount: `${NAMESPACE}/serviceaccounts`,
  ClusterRole: "/apis/rbac.authorization.k8s.io/v1/clusterroles",
  ClusterRoleBinding: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
  ValidatingAdmissionPolicy: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
  ValidatingAdmissionPolicyBinding: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
};

describe.skipIf(assets === undefined)("an agent on a cluster with deploy/own-node.yaml", () => {
  const cleanup = new Cleanup();
  let plane: ControlPlane;

  beforeAll(async () => {
    plane = await startControlPlane(assets ?? "", cleanup);
    for (const file of ["base/namespace.yaml", "base/rbac.yaml", "own-node.yaml"]) {
      for (const manifest of parseManifests(readFileSync(join(DEPLOY, file), "utf8"), file)) {
        await plane.admin.create(COLLECTIONS[manifest.kind] ?? "", manifest);
      }
    }
    for (const name of ["node-1", "node-2"]) await plane.admin.create("/api/v1/nodes", { metadata: { name } });
  }, 120_000);
  afterAll(() => cleanup.run());

  /** As who a pod of the DaemonSet on the node asks; without a node, with a token that is no pod's. */
  async function agentOf(node?: string): Promise<Admin> {
    const spec: { boundObjectRef?: object; expirationSeconds: number } = { expirationSeconds: 600 };
    if (node !== undefined) {
      const name = `agent-of-${node}`;
      const containers = [{ name: "flatnetd", image: "x" }];
      const pod = { metadata: { name }, spec: { nodeName: node, serviceAccountName: "flatnet", containers } };
      const { metadata } = await plane.admin.create(`${NAMESPACE}/pods`, pod);
      spec.boundObjectRef = { apiVersion: "v1", kind: "Pod", name, uid: metadata.uid };
    }
    const request = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec };
    const { status } = await plane.admin.create(`${NAMESPACE}/serviceaccounts/flatnet/token`, request);
    return createAdmin({ url: plane.url, ca: plane.ca, token: (status as { token: string }).token });
  }

  const note = (agent: Admin, path: string) =>
    agent.patch(`/api/v1/nodes/${path}`, { metadata: { annotations: { "flatnet.dev/tried": `${Math.random()}` } } });
  const refusal = (attempt: Promise<unknown>) =>
    attempt.then(
      () => undefined,
      (error: ApiRefusal) => error.message,
    );

  test("changes its own Node and that one's status, and no other's", async () => {
    const agent = await agentOf("node-1");
    // A policy is in force a moment after it is made.
    await waitFor(async () => (await refusal(note(agent, "node-2"))) !== undefined);
    for (const path of ["node-2", "node-2/status"]) {
      expect(await refusal(note(agent, path))).toContain("may change the Node that it runs on, and no other");
    }
    for (const path of ["node-1", "node-1/status"]) expect(await refusal(note(agent, path))).toBeUndefined();
    expect(await refusal(note(plane.admin, "node-2"))).toBeUndefined();
  });

  test("changes none with a token that is no pod's", async () => {
    expect(await refusal(note(await agentOf(), "node-1"))).toContain("and no other");
  });
});
