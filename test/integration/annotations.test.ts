// SPDX-License-Identifier: Apache-2.0
//
// The built daemon and plugin in Kubernetes: what pods ask for by annotation, and what the cluster is told of the node. The
// API server is the double; links, addresses and limits are read by iproute2.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { createFabric, nodeAddresses } from "../helpers/cluster/fabric.ts";
import { startContainerd } from "../helpers/containerd/containerd.ts";
import { REFERENCE_PLUGINS } from "../helpers/containerd/node.ts";
import { Cleanup, type Finished, run, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, NO_TRACES } from "../helpers/flatnet-node.ts";
import type { ApiObject } from "../helpers/kube-api/admin.ts";
import { writeServiceAccount } from "../helpers/kube-api/api-server.ts";
import { type KubeApiDouble, startDouble } from "../helpers/kube-api/double.ts";
import { type Relay, startRelay } from "../helpers/kube-api/relay.ts";
import { canUseKernel, type Netns } from "../helpers/netns.ts";
import { addressesOf, createPod, failureOf, type Pod, resultOf } from "../helpers/plugin.ts";

const PORT = 6443;
const NODE = "node-1";
const TAINT = "flatnet.dev/agent-not-ready";
const SUBNETS = ["10.84.1.0/24", "fd00:84:1::/64"];
const POOLS = { db: { ranges: ["10.84.1.192/29", "fd00:84:1::db:0/112"] } };
const SILENCE: Finished = { status: 0, stdout: "", stderr: "" };
const PODS = "/api/v1/namespaces/web/pods";

type Words = Readonly<Record<string, string>>;

/** A pod as Kubernetes has it, and its sandbox. */
interface Scheduled {
  readonly object: ApiObject;
  readonly pod: Pod;
}

class Site {
  readonly api: KubeApiDouble;
  readonly node: FlatnetNode;
  /** The node's way to the API server. */
  readonly relay: Relay;
  readonly #cleanup: Cleanup;

  constructor(parts: { api: KubeApiDouble; node: FlatnetNode; relay: Relay }, cleanup: Cleanup) {
    this.api = parts.api;
    this.node = parts.node;
    this.relay = parts.relay;
    this.#cleanup = cleanup;
  }

  /** A node with this Node object, whose daemon doesn't run yet. */
  static async open({ podCIDRs = SUBNETS, taints = [] as object[], config = {} } = {}): Promise<Site> {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const api = await startDouble({ tls: true });
    cleanup.add(() => api.close());
    const addresses = nodeAddresses(1).map((address) => ({ type: "InternalIP", address }));
    const spec = { podCIDR: podCIDRs[0], podCIDRs, taints };
    await api.admin.create("/api/v1/nodes", { metadata: { name: NODE }, spec, status: { addresses } });
    const node = await createNode("annotations", cleanup, { podCidrs: [], flags: ["--node-name", NODE] });
    cleanup.add(() => node.stop());
    const serviceAccountDir = join(node.directory, "serviceaccount");
    writeServiceAccount(serviceAccountDir, api);
    const kubernetes = { enabled: true, apiServer: `https://127.0.0.1:${PORT}`, serviceAccountDir };
    const whole = { kubernetes, node: { startupTaint: TAINT }, ...config };
    // JSON is YAML.
    writeFileSync(join(node.directory, "flatnetd.yaml"), JSON.stringify(whole));
    const fabric = await createFabric("10.96.0.1", cleanup);
    await fabric.join(node.netns, nodeAddresses(1));
    const relay = await startRelay({ netns: node.netns, address: "127.0.0.1", port: PORT }, api.url, cleanup);
    return new Site({ api, node, relay }, cleanup);
  }

  async start(): Promise<void> {
    await this.node.start("--config", join(this.node.directory, "flatnetd.yaml"));
  }

  /** @param nodeName another node's pod is one that the daemon hasn't been told of */
  async schedule(name: string, annotations: Words = {}, nodeName = NODE): Promise<Scheduled> {
    const object = await this.api.admin.create(PODS, { metadata: { name, annotations }, spec: { nodeName } });
    return { object, pod: await createPod(name, this.#cleanup) };
  }

  run(verb: string, { object, pod }: Scheduled, conf: object = {}): Promise<Finished> {
    const { name, uid } = object.metadata;
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=${name};K8S_POD_UID=${uid}`;
    return this.node.run(verb, pod, { env: { CNI_ARGS: args }, conf });
  }

  /** The Events about an object, as soon as there is one with this reason. */
  async event(name: string, reason: string): Promise<EventObject> {
    const find = () => {
      return this.#events().find((event) => event.involvedObject.name === name && event.reason === reason);
    };
    await waitFor(() => find() !== undefined, { timeoutMs: 60_000 }).catch(() => {});
    expect(find(), this.node.daemon.output()).toBeDefined();
    return find() as EventObject;
  }

  #events(): EventObject[] {
    return this.api.store.list(EVENTS, "") as unknown as EventObject[];
  }

  nodeObject(): Promise<ApiObject> {
    return this.api.admin.get(`/api/v1/nodes/${NODE}`);
  }
}

interface EventObject {
  readonly metadata: { readonly namespace: string };
  readonly involvedObject: { readonly kind: string; readonly name: string; readonly uid: string };
  readonly reason: string;
  readonly message: string;
  readonly count: number;
}

const EVENTS = {
  ...{ name: "Event", plural: "events", group: "", apiVersion: "v1", namespaced: true, statusApart: false },
};

async function rateOf(netns: Netns, dev: string): Promise<number | undefined> {
  const text = await run(netns.command("tc", "-json", "qdisc", "show", "dev", dev, "root"));
  const [qdisc]: { options: { rate?: number } }[] = JSON.parse(text);
  return qdisc?.options.rate;
}

async function mtuOf(netns: Netns, dev: string): Promise<number> {
  return JSON.parse(await netns.ip("-json", "link", "show", "dev", dev))[0].mtu;
}

describe.runIf(canUseKernel())("a pod's annotations", () => {
  test("give it its addresses, its MTU and its limits, which CHECK looks for", async () => {
    const { site, scheduled } = await withPod({
      "flatnet.dev/addresses": "10.84.1.77, fd00:84:1::77",
      "flatnet.dev/mtu": "1400",
      "kubernetes.io/ingress-bandwidth": "10M",
      "kubernetes.io/egress-bandwidth": "8M",
    });
    const { node } = site;
    const result = resultOf(await site.run("ADD", scheduled));
    expect(addressesOf(result)).toEqual(["10.84.1.77", "fd00:84:1::77"]);
    const hostEnd = result.interfaces[0]?.name ?? "";
    const { netns } = scheduled.pod;
    expect([await mtuOf(node.netns, hostEnd), await mtuOf(netns, "eth0")]).toEqual([1400, 1400]);
    // Bytes a second.
    expect([await rateOf(node.netns, hostEnd), await rateOf(netns, "eth0")]).toEqual([1_250_000, 1_000_000]);
    expect(await site.run("CHECK", scheduled, { prevResult: result })).toEqual(SILENCE);
    await run(netns.command("tc", "qdisc", "delete", "dev", "eth0", "root"));
    const { details } = failureOf(await site.run("CHECK", scheduled, { prevResult: result }));
    expect(details).toContain("egress limit on eth0: the root qdisc is noqueue, not tbf");
    expect(await site.run("DEL", scheduled)).toEqual(SILENCE);
    expect(await node.traces()).toEqual(NO_TRACES);
  });

  test("give it a pool, and the runtime's own request goes before all of them", async () => {
    const annotations = { "flatnet.dev/pool": "db", "kubernetes.io/egress-bandwidth": "8M" };
    const { site, scheduled } = await withPod(annotations);
    const inPool = addressesOf(resultOf(await site.run("ADD", scheduled)));
    expect(inPool[0]).toMatch(/^10\.84\.1\.19[2-9]$/);
    expect(inPool[1]).toMatch(/^fd00:84:1::db:/);

    const asking = await site.schedule("asking", { ...annotations, "flatnet.dev/addresses": "10.84.1.193" });
    const runtimeConfig = { ips: ["10.84.1.194"], bandwidth: { egressRate: 4_000_000 } };
    expect(addressesOf(resultOf(await site.run("ADD", asking, { runtimeConfig })))[0]).toBe("10.84.1.194");
    expect(await rateOf(asking.pod.netns, "eth0")).toBe(500_000);
  });

  test("are asked for where the watch hasn't told of the pod yet", async () => {
    const site = await Site.open();
    await site.start();
    const late = await site.schedule("late", { "flatnet.dev/addresses": "10.84.1.78" }, "node-2");
    expect(addressesOf(resultOf(await site.run("ADD", late)))[0]).toBe("10.84.1.78");
    // One whose uid is another is another pod, and has other wishes.
    const { object, pod } = await site.schedule("other", { "flatnet.dev/addresses": "10.84.1.79" }, "node-2");
    const stranger = { pod, object: { ...object, metadata: { ...object.metadata, uid: "of-another-life" } } };
    expect(addressesOf(resultOf(await site.run("ADD", stranger)))[0]).toBe("10.84.1.1");
  });

  test.each(["is away", "says nothing"])("wait for nobody when the API server %s", async (how) => {
    const { site, scheduled } = await withPod({ "flatnet.dev/addresses": "10.84.1.77" });
    if (how === "is away") await site.relay.stop();
    else site.relay.freeze();
    onTestFinished(() => site.relay.thaw());
    const unknown = await site.schedule("unknown", { "flatnet.dev/addresses": "10.84.1.78" });
    expect(addressesOf(resultOf(await site.run("ADD", scheduled)))[0]).toBe("10.84.1.77");
    expect(addressesOf(resultOf(await site.run("ADD", unknown)))[0]).toBe("10.84.1.1");
    const text = "a pod is added without what its annotations may ask for";
    await waitFor(() => site.node.log().some(({ msg, pod }) => msg === text && pod === "web/unknown"));
    // Who made it is told as soon as it can be.
    if (how === "is away") await site.relay.start();
    else site.relay.thaw();
    const { message } = await site.event("unknown", "NetworkAnnotationMissed");
    expect(message).toContain("flatnet.dev/addresses");
  });

  test.each([
    {
      annotations: { "flatnet.dev/mtu": "9000" },
      code: 7,
      says: 'annotation flatnet.dev/mtu is "9000"; it must be 1280 to 1500, as the node\'s links and its families of addresses have it',
    },
    {
      annotations: { "kubernetes.io/ingress-bandwidth": "fast" },
      code: 7,
      says: 'annotation kubernetes.io/ingress-bandwidth is "fast"; it must be bits a second, 1k to 1P: "10M"',
    },
    {
      annotations: { "flatnet.dev/pool": "gold" },
      code: 7,
      says: 'annotation flatnet.dev/pool: pool is "gold"; it must be one that this node has: default, db',
    },
    {
      annotations: { "flatnet.dev/addresses": "10.84.1.1" },
      code: 11,
      says: "annotation flatnet.dev/addresses: requested address 10.84.1.1 is held by",
    },
  ])("that can't be granted fail the ADD by name, leave nothing, and are an Event of the pod: $says", async (row) => {
    const { site, scheduled } = await withPod(row.annotations);
    const first = await site.schedule("first");
    resultOf(await site.run("ADD", first));
    const before = await site.node.traces();
    const failure = failureOf(await site.run("ADD", scheduled));
    expect(failure).toMatchObject({ code: row.code, details: expect.stringContaining(row.says) });
    expect(await site.node.traces()).toEqual(before);
    const event = await site.event("annotated", "NetworkAnnotationRefused");
    expect(event).toMatchObject({
      metadata: { namespace: "web" },
      involvedObject: { kind: "Pod", uid: scheduled.object.metadata.uid },
      type: "Warning",
      message: expect.stringContaining(row.says),
    });
  });
});

describe.runIf(canUseKernel())("a pod in containerd", () => {
  test("has what its annotations ask for, by the conflist that the daemon wrote, and is told what it can't have", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const directory = mkdtempSync(join(tmpdir(), "annotations-"));
    cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
    const cni = { binDir: join(directory, "bin"), confDir: join(directory, "net.d") };
    const site = await Site.open({ config: { cni } });
    const containerd = await startContainerd(
      { netns: site.node.netns, cni, plugins: { loopback: join(REFERENCE_PLUGINS, "loopback") } },
      cleanup,
    );
    await site.start();
    await waitFor(async () => (await containerd.cri.conditions()).every(({ status }) => status), { timeoutMs: 30_000 });

    const runPod = async (name: string, annotations: Words) => {
      const { metadata } = await site.api.admin.create(PODS, {
        metadata: { name, annotations },
        spec: { nodeName: NODE },
      });
      const config = containerd.sandboxConfig(name);
      return containerd.cri.runPodSandbox({
        ...config,
        metadata: { ...config.metadata, namespace: "web", uid: metadata.uid ?? "" },
        annotations,
      });
    };
    const id = await runPod("annotated", {
      "flatnet.dev/addresses": "10.84.1.77,fd00:84:1::77",
      "flatnet.dev/mtu": "1400",
      "kubernetes.io/ingress-bandwidth": "10M",
    });
    const { addresses } = await containerd.cri.podSandboxStatus(id);
    expect(addresses).toEqual(["10.84.1.77", "fd00:84:1::77"]);
    const links: { ifname: string; mtu: number }[] = JSON.parse(await site.node.netns.ip("-json", "link"));
    const hostEnd = links.find(({ ifname }) => ifname.startsWith("fl"));
    expect(hostEnd?.mtu).toBe(1400);
    expect(await rateOf(site.node.netns, hostEnd?.ifname ?? "")).toBe(1_250_000);

    await expect(runPod("refused", { "flatnet.dev/addresses": "10.84.1.77" })).rejects.toThrow(
      /annotation flatnet\.dev\/addresses: requested address 10\.84\.1\.77 is held by .*web\/annotated/,
    );
    await site.event("refused", "NetworkAnnotationRefused");
    await containerd.cri.stopPodSandbox(id);
    await containerd.cri.removePodSandbox(id);
    await waitFor(async () => (await site.node.traces()).records.length === 0);
  });
});

/** A site that serves, and a pod that its daemon knows. */
async function withPod(annotations: Words): Promise<{ site: Site; scheduled: Scheduled }> {
  const site = await Site.open({ config: { pools: POOLS } });
  const scheduled = await site.schedule("annotated", annotations);
  await site.start();
  // It has been in the list then.
  await waitFor(() => site.api.requests.some(({ verb, resource }) => verb === "watch" && resource === "pods"));
  return { site, scheduled };
}

describe.runIf(canUseKernel())("the cluster", () => {
  const conditionOf = ({ status }: ApiObject) => {
    const all = (status?.["conditions"] ?? []) as { type: string; status: string; reason: string }[];
    return all.filter(({ type }) => type === "NetworkUnavailable").map(({ status, reason }) => `${status} ${reason}`);
  };
  const taintsOf = ({ spec }: ApiObject) => ((spec?.["taints"] ?? []) as { key: string }[]).map(({ key }) => key);

  test("is told that a node has a network, and told again when somebody says otherwise", async () => {
    const taints = [TAINT, "example.com/gpu"].map((key) => ({ key, effect: "NoSchedule" }));
    const site = await Site.open({ taints });
    const path = `/api/v1/nodes/${NODE}`;
    const conditions = [
      { type: "Ready", status: "True", reason: "KubeletReady" },
      { type: "NetworkUnavailable", status: "True", reason: "NoRouteCreated" },
    ];
    await site.api.admin.patch(`${path}/status`, { status: { conditions } });
    await site.start();
    const inOrder = async () => {
      const object = await site.nodeObject();
      return conditionOf(object).join() === "False FlatnetIsUp" && taintsOf(object).join() === "example.com/gpu";
    };
    await waitFor(inOrder);
    expect((await site.nodeObject()).status?.["conditions"]).toContainEqual(conditions[0]);
    await site.api.admin.patch(`${path}/status`, { status: { conditions } });
    await site.api.admin.patch(path, { spec: { taints } });
    await waitFor(inOrder, { timeoutMs: 60_000 });
    // The daemon's end is not the network's.
    await site.node.stop();
    expect(await inOrder()).toBe(true);
  });

  test("is told of addresses that run out, and who has them", async () => {
    const site = await Site.open({ podCIDRs: ["10.84.2.0/30"] });
    await site.start();
    resultOf(await site.run("ADD", await site.schedule("a")));
    resultOf(await site.run("ADD", await site.schedule("b")));
    const late = await site.schedule("late");
    expect(failureOf(await site.run("ADD", late)).code).toBe(11);
    expect(await site.event(NODE, "SubnetExhausted")).toMatchObject({
      metadata: { namespace: "default" },
      involvedObject: { kind: "Node", uid: NODE },
      message: expect.stringMatching(/no IPv4 address is left in 10\.84\.2\.0\/30 .*held by: 2 web/),
    });
  });

  test("is told that a damaged database was repaired", async () => {
    const site = await Site.open();
    await site.start();
    await site.node.stop();
    rmSync(join(site.node.stateDir, "ipam.db", "CURRENT"));
    await site.start();
    expect(await site.event(NODE, "DatabaseRepaired")).toMatchObject({
      type: "Warning",
      involvedObject: { kind: "Node", uid: NODE },
      message: expect.stringMatching(
        /ipam\.db: the database is damaged: .*; it is repaired as far as it could be read/,
      ),
    });
  });

  test("is told what lasts: a foreign route where one of its own belongs, a node that doesn't answer", async () => {
    const site = await Site.open({ config: { probeSeconds: 1 } });
    const addresses = nodeAddresses(2).map((address) => ({ type: "InternalIP", address }));
    const spec = { podCIDR: "10.84.9.0/24", podCIDRs: ["10.84.9.0/24"] };
    await site.node.netns.ip("route", "add", "10.84.9.0/24", "dev", "lo");
    await site.api.admin.create("/api/v1/nodes", { metadata: { name: "node-2" }, spec, status: { addresses } });
    await site.start();
    const { message } = await site.event(NODE, "RouteConflict");
    expect(message).toContain("10.84.9.0/24 of node-2");
    const silent = await site.event(NODE, "PeerUnreachable");
    expect(silent.message).toContain(`node-2 does not answer at its address ${nodeAddresses(2)[0]}`);
  });
});
