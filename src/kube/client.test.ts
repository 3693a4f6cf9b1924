// SPDX-License-Identifier: Apache-2.0
import { expect, onTestFinished, test } from "vitest";
import { type KubeApiDouble, startDouble } from "../../test/helpers/kube-api/double.ts";
import { nodeObject, podObject } from "../../test/helpers/kube-api/seed.ts";
import { KubeClient, type NodeCondition } from "./client.ts";
import { openConnection } from "./connection.ts";
import { KubeHttp, type KubeWire } from "./http.ts";

const NODE = "/api/v1/nodes/node-1";
const READY: NodeCondition = {
  type: "NetworkUnavailable",
  status: "False",
  reason: "FlatnetIsReady",
  message: "flatnet serves this node",
};

async function setUp(wrap: (wire: KubeWire, server: KubeApiDouble) => KubeWire = (wire) => wire) {
  const server = await startDouble();
  await server.admin.create("/api/v1/nodes", nodeObject(1));
  const http = new KubeHttp(openConnection({ apiServer: server.url }), { userAgent: "test", answerTimeoutMs: 200 });
  onTestFinished(async () => {
    http.close();
    await server.close();
  });
  const clock = { nowMs: Date.UTC(2027, 0, 15, 8) };
  const client = new KubeClient(wrap(http, server), () => clock.nowMs);
  const conditions = async () => (await server.admin.get(NODE)).status?.["conditions"] as Record<string, string>[];
  return {
    server,
    client,
    clock,
    conditions,
    verbs: () => server.requests.map(({ verb, resource }) => `${verb} ${resource}`),
  };
}

test("a pod and a node are read; what there isn't is undefined", async () => {
  const { server, client } = await setUp();
  await server.admin.create("/api/v1/namespaces/web/pods", podObject({ namespace: "web", name: "a" }));
  expect(await client.getPod("web", "a")).toMatchObject({ namespace: "web", name: "a" });
  expect(await client.getPod("web", "b")).toBeUndefined();
  expect(await client.getNode("node-1")).toMatchObject({ name: "node-1" });
  expect(await client.getNode("node-2")).toBeUndefined();
});

test("a condition is set beside those of others", async () => {
  const { server, client, conditions } = await setUp();
  const kubelets = { type: "Ready", status: "True", reason: "KubeletReady", message: "" };
  await server.admin.patch(`${NODE}/status`, { status: { conditions: [kubelets] } });
  expect(await client.setNodeCondition("node-1", READY)).toBe(true);
  const times = { lastHeartbeatTime: "2027-01-15T08:00:00Z", lastTransitionTime: "2027-01-15T08:00:00Z" };
  expect(await conditions()).toEqual([kubelets, { ...READY, ...times }]);
});

test("a condition that says the same already isn't written", async () => {
  const { client, verbs } = await setUp();
  await client.setNodeCondition("node-1", READY);
  expect(await client.setNodeCondition("node-1", READY)).toBe(false);
  expect(verbs()).toEqual(["get nodes", "patch nodes/status", "get nodes"]);
});

test("a condition keeps the time of its last turn when only its words change", async () => {
  const { client, clock, conditions } = await setUp();
  await client.setNodeCondition("node-1", READY);
  clock.nowMs += 60_000;
  await client.setNodeCondition("node-1", { ...READY, message: "again" });
  const [kept] = await conditions();
  expect(kept).toMatchObject({ lastTransitionTime: "2027-01-15T08:00:00Z", lastHeartbeatTime: "2027-01-15T08:01:00Z" });
  await client.setNodeCondition("node-1", { ...READY, status: "True" });
  expect((await conditions())[0]).toMatchObject({ lastTransitionTime: "2027-01-15T08:01:00Z" });
});

test("a taint is removed, and nobody else's", async () => {
  const { server, client } = await setUp();
  const [ours, other] = [
    { key: "flatnet.dev/agent-not-ready", effect: "NoSchedule" },
    { key: "node.kubernetes.io/not-ready", effect: "NoExecute" },
  ];
  await server.admin.patch(NODE, { spec: { taints: [ours, other, { ...ours, effect: "NoExecute" }] } });
  expect(await client.removeNodeTaint("node-1", ours.key)).toBe(true);
  expect((await server.admin.get(NODE)).spec?.["taints"]).toEqual([other]);
  expect(await client.removeNodeTaint("node-1", ours.key)).toBe(false);
  expect(await client.removeNodeTaint("node-1", other.key)).toBe(true);
  expect((await server.admin.get(NODE)).spec).not.toHaveProperty("taints");
});

test("a taint that somebody adds while ours is removed stays", async () => {
  const { server, client } = await setUp((wire, { admin }) => ({
    ...{ stream: wire.stream.bind(wire) },
    json: async (request) => {
      const node = await admin.get(NODE);
      const taints = node.spec?.["taints"] as object[];
      if (request.method === "PATCH" && taints.length < 3) {
        await admin.patch(NODE, {
          spec: { taints: [...taints, { key: `late-${taints.length}`, effect: "NoSchedule" }] },
        });
      }
      return await wire.json(request);
    },
  }));
  await server.admin.patch(NODE, { spec: { taints: [{ key: "ours", effect: "NoSchedule" }] } });
  expect(await client.removeNodeTaint("node-1", "ours")).toBe(true);
  const taints = (await server.admin.get(NODE)).spec?.["taints"];
  expect(taints).toMatchObject([{ key: "late-1" }, { key: "late-2" }]);
});

test("a node that others write all the time is given up", async () => {
  const { server, client } = await setUp();
  await server.admin.patch(NODE, { spec: { taints: [{ key: "ours", effect: "NoSchedule" }] } });
  server.faults.fail({ verb: "patch", status: 409, reason: "Conflict" });
  await expect(client.removeNodeTaint("node-1", "ours")).rejects.toMatchObject({ code: "KUBE_CONFLICT" });
});

test("a node that isn't there has no condition and no taint", async () => {
  const { client } = await setUp();
  await expect(client.setNodeCondition("node-9", READY)).rejects.toMatchObject({ code: "KUBE_NOT_FOUND" });
  await expect(client.removeNodeTaint("node-9", "a")).rejects.toMatchObject({ code: "KUBE_NOT_FOUND" });
});

test("nothing is waited for longer than told", async () => {
  const { server, client } = await setUp();
  server.faults.stalled = true;
  await expect(client.getPod("web", "a", { timeoutMs: 50 })).rejects.toMatchObject({ code: "KUBE_TIMEOUT" });
});
