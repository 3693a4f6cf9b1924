// SPDX-License-Identifier: Apache-2.0
//
// What only a real API server can tell: whether it takes the manifests, and whether their rights are those that are needed.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { grantedRights } from "../../scripts/manifests/rights.ts";
import { DEPLOY } from "../../scripts/manifests.ts";
import { KubeClient } from "../../src/kube/client.ts";
import { openConnection } from "../../src/kube/connection.ts";
import { EventWriter } from "../../src/kube/events.ts";
import { KubeHttp } from "../../src/kube/http.ts";
import { STARTUP_TAINT, startCluster } from "../helpers/cluster/cluster.ts";
import { Cleanup, runToEnd, waitFor } from "../helpers/daemon.ts";
import { grant, issueToken } from "../helpers/kube-api/agent-account.ts";
import { writeServiceAccount } from "../helpers/kube-api/api-server.ts";
import { type ControlPlane, kubebuilderAssets, startControlPlane } from "../helpers/kube-api/control-plane.ts";
import { agentRules, appliable } from "../helpers/kube-api/manifests.ts";
import { canUseKernel } from "../helpers/netns.ts";

const assets = kubebuilderAssets() ?? "";

describe.runIf(assets !== "" && canUseKernel())("a real API server", () => {
  const cleanup = new Cleanup();
  let plane: ControlPlane;

  beforeAll(async () => {
    plane = await startControlPlane(assets, cleanup);
  });

  afterAll(() => cleanup.run());

  function kubectl(...args: string[]) {
    const access = ["--server", plane.url, "--token", plane.token, "--certificate-authority", plane.caFile];
    return runToEnd([join(assets, "kubectl"), "--kubeconfig", "/dev/null", ...access, ...args]);
  }

  /** The product's connection, with the service account of a node's agent. */
  async function connectAs(nodeName: string): Promise<KubeHttp> {
    const serviceAccountDir = mkdtempSync(join(tmpdir(), "serviceaccount-"));
    onTestFinished(() => rmSync(serviceAccountDir, { recursive: true, force: true }));
    writeServiceAccount(serviceAccountDir, { ca: plane.ca, token: await issueToken(plane.admin, nodeName) });
    const http = new KubeHttp(openConnection({ apiServer: plane.url, serviceAccountDir }), { userAgent: "test" });
    onTestFinished(() => http.close());
    return http;
  }

  test.each(appliable())("takes every field of deploy/%s, and finds it in order the second time", async (name) => {
    const what = [name.endsWith(".yaml") ? "--filename" : "--kustomize", join(DEPLOY, name)];
    // No warning either: of fields that are deprecated, unknown or there twice.
    const applied = await kubectl("apply", "--server-side", "--validate=strict", ...what);
    expect(applied).toMatchObject({ status: 0, stderr: "" });
    expect(await kubectl("diff", "--server-side", ...what)).toMatchObject({ status: 0, stdout: "" });
  });

  test("is asked by an agent for all that the manifests allow, and for nothing else", async () => {
    const { admin } = plane;
    await grant(admin, agentRules());
    const agentToken = (nodeName: string) => issueToken(admin, nodeName);
    const cluster = await startCluster({ ...plane, agentToken }, cleanup);
    const node = await cluster.addNode();
    await node.register(["10.244.1.0/24"]);
    const path = `/api/v1/nodes/${node.name}`;
    await admin.patch(path, { spec: { taints: [{ key: STARTUP_TAINT, effect: "NoSchedule" }] } });
    await node.startAgent();
    await node.ready();
    await waitFor(async () => {
      const { spec, status } = await admin.get(path);
      return !JSON.stringify(spec).includes(STARTUP_TAINT) && JSON.stringify(status).includes("NetworkUnavailable");
    });
    // Of a pod that it hasn't heard of it asks.
    const { id } = await node.runSandbox("unknown");
    await node.removeSandbox(id);

    const http = await connectAs(node.name);
    const events = new EventWriter(http, { component: "flatnetd", host: node.name });
    const subject = { kind: "Node", namespace: "", name: node.name, uid: node.name } as const;
    const times = { count: 1, firstMs: Date.now(), lastMs: Date.now() };
    const words = { type: "Warning", reason: "Tried", message: "tried" } as const;
    const event = { namespace: "default", name: "tried", subject, ...words, ...times };
    expect(await events.create(event)).toBe(true);
    expect(await events.update({ ...event, count: 2 })).toBe(true);

    const requests = plane.audit().filter(({ user }) => user.startsWith("system:serviceaccount:"));
    expect(requests.filter(({ status }) => status === 401 || status === 403)).toEqual([]);
    const asked = requests.map(({ verb, resource, group }) => `${verb} ${resource}${group === "" ? "" : `.${group}`}`);
    expect(new Set(asked)).toEqual(new Set([...grantedRights()].filter((right) => !OF_CLUSTER_POLICIES.test(right))));
  });

  test("lets an agent change its own Node and no other, where deploy/own-node.yaml is applied", async () => {
    const { admin } = plane;
    await grant(admin, agentRules());
    for (const name of ["own", "other"]) await admin.create("/api/v1/nodes", { metadata: { name } });
    expect(await kubectl("apply", "--filename", join(DEPLOY, "own-node.yaml"))).toMatchObject({ status: 0 });
    const client = new KubeClient(await connectAs("own"));
    let count = 0;
    const change = (name: string) =>
      client.setNodeCondition(name, { type: "Tried", status: "True", reason: "Tried", message: `${count++}` });
    // A policy counts from when the API server has compiled it.
    await waitFor(() =>
      change("other").then(
        () => false,
        ({ code }) => code === "KUBE_FORBIDDEN",
      ),
    );
    expect(await change("own")).toBe(true);
  });
});

/** What is asked for only where the configuration wants the policies of the whole cluster enforced. */
const OF_CLUSTER_POLICIES = / clusternetworkpolicies\b/;
