// SPDX-License-Identifier: Apache-2.0
//
// What src/kube takes for granted of an API server. It runs on the double that other tests use, and on a real API server
// where KUBEBUILDER_ASSETS says where that is: what is true of one only is found here.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { KubeClient } from "../../src/kube/client.ts";
import type { Change } from "../../src/kube/collection.ts";
import { openConnection } from "../../src/kube/connection.ts";
import { EventWriter } from "../../src/kube/events.ts";
import { KubeHttp } from "../../src/kube/http.ts";
import { Reflector, type ReflectorOptions, type Resource } from "../../src/kube/reflector.ts";
import { NAMESPACES, NODES, podsOf } from "../../src/kube/resources.ts";
import { formatPrefix } from "../../src/net/prefix.ts";
import { Cleanup } from "../helpers/daemon.ts";
import { type ApiServer, writeServiceAccount } from "../helpers/kube-api/api-server.ts";
import { namespaceObject, nodeObject, podObject } from "../helpers/kube-api/seed.ts";
import { serverKinds } from "../helpers/kube-api/servers.ts";

describe.each(serverKinds())("$name", ({ start }) => {
  const cleanup = new Cleanup();
  let server: ApiServer;
  let serviceAccountDir: string;
  let http: KubeHttp;
  /** Numbers of nodes that no test has used. */
  let unused = 1;

  beforeAll(async () => {
    server = await start(cleanup);
    serviceAccountDir = mkdtempSync(join(tmpdir(), "kube-api-"));
    cleanup.add(() => rmSync(serviceAccountDir, { recursive: true, force: true }));
    await server.admin.create("/api/v1/namespaces", namespaceObject("web")).catch(() => {});
  }, 120_000);
  afterAll(() => cleanup.run());

  beforeEach(() => {
    writeServiceAccount(serviceAccountDir, server);
    http = new KubeHttp(openConnection({ apiServer: server.url, serviceAccountDir }), { userAgent: "flatnet-test" });
    onTestFinished(() => http.close());
  });

  /** Its name. It goes with the test. */
  async function makeNode(name = `node-${unused}`): Promise<string> {
    await server.admin.create("/api/v1/nodes", nodeObject(unused++, name));
    onTestFinished(async () => void (await server.admin.delete(`/api/v1/nodes/${name}`).catch(() => {})));
    return name;
  }

  async function follow<T extends { readonly name: string }>(resource: Resource<T>, options: ReflectorOptions<T> = {}) {
    const reflector = new Reflector(http, resource, options);
    const changes: Change<T>[] = [];
    reflector.subscribe((batch) => changes.push(...batch));
    onTestFinished(() => reflector.stop());
    reflector.start();
    await until(
      () => reflector.state === "synced",
      () => reflector.problem,
    );
    changes.length = 0;
    return { reflector, changes };
  }

  async function until(what: () => boolean, problem: () => string | undefined = () => undefined): Promise<void> {
    await vi.waitFor(() => expect(what(), problem()).toBe(true), { timeout: 30_000, interval: 20 });
  }

  test("nodes are listed with their subnets and addresses", async () => {
    const name = await makeNode();
    const { reflector } = await follow(NODES);
    const node = reflector.objects.get(name);
    expect(node?.podCIDRs.map(formatPrefix)).toHaveLength(2);
    expect(node?.addresses).toHaveLength(2);
    expect(node?.problem).toBeUndefined();
  });

  test("what becomes of a node is told: made, changed, deleted, and made again with another subnet", async () => {
    const { reflector, changes } = await follow(NODES);
    const name = await makeNode();
    await until(() => changes.length === 1);
    await server.admin.patch(`/api/v1/nodes/${name}`, { metadata: { annotations: { "flatnet.dev/note": "b" } } });
    await until(() => changes.length === 2);
    const subnets = reflector.objects.get(name)?.podCIDRs.map(formatPrefix);
    await server.admin.delete(`/api/v1/nodes/${name}`);
    await makeNode(name);
    await until(() => changes.length === 4);
    expect(changes.map(({ before, after }) => `${before ? "was" : ""}${after ? "is" : ""}`)).toEqual([
      "is",
      "wasis",
      "was",
      "is",
    ]);
    expect(reflector.objects.get(name)?.podCIDRs.map(formatPrefix)).not.toEqual(subnets);
    expect(reflector.problem).toBeUndefined();
  });

  test("pods of one node are those and no others", async () => {
    const node = await makeNode();
    const pods = "/api/v1/namespaces/web/pods";
    const end = (name: string) => server.admin.delete(`${pods}/${name}?gracePeriodSeconds=0`);
    await server.admin.create(pods, podObject({ namespace: "web", name: "here", nodeName: node }));
    await server.admin.create(pods, podObject({ namespace: "web", name: "there", nodeName: "another" }));
    const { reflector, changes } = await follow(podsOf(node));
    expect([...reflector.objects.keys()]).toEqual(["web/here"]);
    const status = { phase: "Running", podIP: "10.0.1.5", podIPs: [{ ip: "10.0.1.5" }] };
    await server.admin.patch(`${pods}/there/status`, { status });
    await server.admin.patch(`${pods}/here/status`, { status });
    await until(() => changes.length === 1);
    expect(changes[0]?.after).toMatchObject({ name: "here", addresses: [Uint8Array.of(10, 0, 1, 5)] });
    await Promise.all([end("here"), end("there")]);
    await until(() => reflector.objects.size === 0);
  });

  test("a list of more than a page is whole", async () => {
    const names = Array.from({ length: 620 }, (_, i) => `many-${i}`);
    const collection = "/api/v1/namespaces";
    for (let from = 0; from < names.length; from += 20) {
      const some = names.slice(from, from + 20);
      await Promise.all(some.map((name) => server.admin.create(collection, namespaceObject(name))));
    }
    const { reflector } = await follow(NAMESPACES);
    expect(names.filter((name) => !reflector.objects.has(name))).toEqual([]);
    // As from etcd, in pages.
    const pages: unknown[] = [];
    let next: string | undefined;
    do {
      const page = await http.json({ method: "GET", path: collection, query: { limit: "500", continue: next } });
      pages.push(page);
      next = (page as { metadata: { continue?: string } }).metadata.continue || undefined;
    } while (next !== undefined);
    expect(pages).toHaveLength(2);
  });

  test("a version that is not known yet is given up for what there is", async () => {
    const name = await makeNode();
    const { reflector } = await follow(NODES, { restored: { objects: [], resourceVersion: "999999999" } });
    expect(reflector.objects.has(name)).toBe(true);
  });

  test("a version that is nonsense is given up for what there is", async () => {
    const name = await makeNode();
    const { reflector } = await follow(NODES, { restored: { objects: [], resourceVersion: "nonsense" } });
    expect(reflector.objects.has(name)).toBe(true);
  });

  test("an API server that restarts costs a watch nothing but the time", async () => {
    const { reflector, changes } = await follow(NODES);
    await server.stop();
    await until(() => reflector.problem !== undefined);
    await server.start();
    const name = await makeNode();
    await until(
      () => reflector.objects.has(name),
      () => reflector.problem,
    );
    await until(
      () => reflector.problem === undefined,
      () => reflector.problem,
    );
    expect(changes).toHaveLength(1);
  });

  test("a token that is refused is a problem until there is another", async () => {
    writeServiceAccount(serviceAccountDir, { ca: server.ca, token: "expired" });
    const reflector = new Reflector(http, NODES);
    onTestFinished(() => reflector.stop());
    reflector.start();
    await until(() => reflector.problem?.includes("Unauthorized") ?? false);
    writeServiceAccount(serviceAccountDir, server);
    await until(
      () => reflector.state === "synced",
      () => reflector.problem,
    );
  });

  test("a condition and a taint are written beside those of others", async () => {
    const name = await makeNode();
    const path = `/api/v1/nodes/${name}`;
    const kubelets = { type: "Ready", status: "True", reason: "KubeletReady", message: "" };
    await server.admin.patch(`${path}/status`, { status: { conditions: [kubelets] } });
    const taints = ["flatnet.dev/agent-not-ready", "example.com/other"].map((key) => ({ key, effect: "NoSchedule" }));
    await server.admin.patch(path, { spec: { taints } });
    const client = new KubeClient(http);
    const condition = { type: "NetworkUnavailable", status: "False", reason: "FlatnetIsReady", message: "" } as const;
    expect(await client.setNodeCondition(name, condition)).toBe(true);
    expect(await client.setNodeCondition(name, condition)).toBe(false);
    expect(await client.removeNodeTaint(name, "flatnet.dev/agent-not-ready")).toBe(true);
    expect(await client.removeNodeTaint(name, "flatnet.dev/agent-not-ready")).toBe(false);
    const { spec, status } = await server.admin.get(path);
    const conditions = [kubelets, condition].map(({ message: _, ...rest }) => expect.objectContaining(rest));
    expect(status?.["conditions"]).toEqual(expect.arrayContaining(conditions));
    expect(spec?.["taints"]).toContainEqual(expect.objectContaining({ key: "example.com/other" }));
  });

  test("a write on condition of a version that is past is refused", async () => {
    const name = await makeNode();
    const path = `/api/v1/nodes/${name}`;
    const { resourceVersion } = (await server.admin.get(path)).metadata;
    await server.admin.patch(path, { metadata: { labels: { zone: "b" } } });
    const patch = { metadata: { resourceVersion }, spec: { taints: null } };
    const written = http.json({ method: "PATCH", path, body: patch, contentType: "application/merge-patch+json" });
    await expect(written).rejects.toMatchObject({ code: "KUBE_CONFLICT" });
  });

  test("Events are made and brought up to date, and what there isn't is said", async () => {
    const events = new EventWriter(http, { component: "flatnetd", host: "node-1" });
    const event = {
      ...{ namespace: "default", name: `node-1.${Date.now().toString(16)}` },
      subject: { kind: "Node", namespace: "", name: "node-1", uid: "node-1" } as const,
      ...({ type: "Warning", reason: "SubnetExhausted", message: "no address left" } as const),
      ...{ count: 1, firstMs: Date.now(), lastMs: Date.now() },
    };
    expect(await events.update(event)).toBe(false);
    expect(await events.create(event)).toBe(true);
    expect(await events.update({ ...event, count: 7, message: "still none" })).toBe(true);
    const written = await server.admin.get(`/api/v1/namespaces/default/events/${event.name}`);
    expect(written).toMatchObject({ count: 7, message: "still none", reason: "SubnetExhausted" });
  });

  test("a pod that isn't there is none", async () => {
    expect(await new KubeClient(http).getPod("web", "nobody")).toBeUndefined();
  });
});
