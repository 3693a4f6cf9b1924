// SPDX-License-Identifier: Apache-2.0
//
// Network policies with the built programs: the API server is the double, packets are real.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { createFabric, type Fabric, nodeAddresses } from "../helpers/cluster/fabric.ts";
import { Cleanup, run, waitFor } from "../helpers/daemon.ts";
import { type Mailbox, openMailbox } from "../helpers/datagrams.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { flood } from "../helpers/flood.ts";
import { writeServiceAccount } from "../helpers/kube-api/api-server.ts";
import { type KubeApiDouble, startDouble } from "../helpers/kube-api/double.ts";
import { type Relay, startRelay } from "../helpers/kube-api/relay.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { addressesOf, createPod, type Pod, resultOf } from "../helpers/plugin.ts";

const PORT = 6443;
const NODE = "node-1";
const SUBNETS = ["10.85.0.0/16", "fd00:85:1::/64"];
/** How many pods the first packets of are tried; thousands now and then: FIRST_PACKET_PODS=3000. */
const FIRST_PACKET_PODS = Number(process.env["FIRST_PACKET_PODS"] ?? 100);

type Labels = Readonly<Record<string, string>>;

/** A pod that is there: as Kubernetes has it, its namespace and its addresses. */
interface RunningPod {
  readonly name: string;
  readonly uid: string;
  readonly pod: Pod;
  readonly addresses: readonly string[];
}

/** Denies everything, in both directions, to pods with the label. */
const CLOSED = {
  metadata: { name: "closed" },
  spec: { podSelector: { matchLabels: { app: "closed" } }, policyTypes: ["Ingress", "Egress"] },
};
/** Lets clients to the web. */
const WEB = {
  metadata: { name: "web" },
  spec: {
    podSelector: { matchLabels: { app: "web" } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: "client" } } }] }],
  },
};
const POLICIES = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
const CLUSTER_POLICIES = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";
const PODS = "/api/v1/namespaces/shop/pods";

class Site {
  readonly api: KubeApiDouble;
  readonly node: FlatnetNode;
  readonly relay: Relay;
  readonly fabric: Fabric;
  readonly cleanup: Cleanup;

  constructor(parts: Pick<Site, "api" | "node" | "relay" | "fabric" | "cleanup">) {
    this.api = parts.api;
    this.node = parts.node;
    this.relay = parts.relay;
    this.fabric = parts.fabric;
    this.cleanup = parts.cleanup;
  }

  static async open(config: object = {}): Promise<Site> {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const api = await startDouble({ tls: true });
    cleanup.add(() => api.close());
    const addresses = nodeAddresses(1).map((address) => ({ type: "InternalIP", address }));
    const spec = { podCIDR: SUBNETS[0], podCIDRs: SUBNETS };
    await api.admin.create("/api/v1/nodes", { metadata: { name: NODE }, spec, status: { addresses } });
    await api.admin.create("/api/v1/namespaces", { metadata: { name: "shop" } });
    const node = await createNode("policy", cleanup, { podCidrs: [], flags: ["--node-name", NODE] });
    cleanup.add(() => node.stop("SIGKILL"));
    const serviceAccountDir = join(node.directory, "serviceaccount");
    writeServiceAccount(serviceAccountDir, api);
    const kubernetes = { enabled: true, apiServer: `https://127.0.0.1:${PORT}`, serviceAccountDir };
    // JSON is YAML.
    writeFileSync(join(node.directory, "flatnetd.yaml"), JSON.stringify({ kubernetes, ...config }));
    const fabric = await createFabric("10.96.0.1", cleanup);
    await fabric.join(node.netns, nodeAddresses(1));
    const relay = await startRelay({ netns: node.netns, address: "127.0.0.1", port: PORT }, api.url, cleanup);
    return new Site({ api, node, relay, fabric, cleanup });
  }

  async start(): Promise<void> {
    await this.node.start("--config", join(this.node.directory, "flatnetd.yaml"));
  }

  /** The pod's object and its namespace, before there is a network. */
  async schedule(name: string, labels: Labels): Promise<{ name: string; uid: string; pod: Pod }> {
    const object = await this.api.admin.create(PODS, { metadata: { name, labels }, spec: { nodeName: NODE } });
    return { name, uid: object.metadata.uid ?? "", pod: await createPod(name, this.cleanup) };
  }

  async attach(scheduled: { name: string; uid: string; pod: Pod }): Promise<RunningPod> {
    const finished = await this.verb("ADD", scheduled);
    return { ...scheduled, addresses: addressesOf(resultOf(finished)) };
  }

  verb(verb: string, { name, uid, pod }: { name: string; uid: string; pod: Pod }) {
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${name};K8S_POD_UID=${uid}`;
    return this.node.run(verb, pod, { env: { CNI_ARGS: args } });
  }

  async run(name: string, labels: Labels): Promise<RunningPod> {
    return this.attach(await this.schedule(name, labels));
  }

  /** As kubelet does once a pod runs. */
  async report({ name, addresses }: RunningPod): Promise<void> {
    const status = { phase: "Running", podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) };
    await this.api.admin.patch(`${PODS}/${name}/status`, { status });
  }

  nft(...args: string[]): Promise<string> {
    return run(this.node.netns.command("nft", ...args));
  }
}

/** Which of the labels something was received of. */
function labelsIn(mailbox: Mailbox): string[] {
  return [...new Set(mailbox.received().map(({ text }) => text.split(" ")[0] as string))].sort();
}

function targetsOf(addresses: readonly string[], port: number, label: string) {
  return addresses.map((address) => ({ address, port, label: `${label}${address.includes(":") ? 6 : 4}` }));
}

describe.runIf(canUseKernel())("network policies", () => {
  test("let through what they allow and nothing else, and change while connections go on", async () => {
    const site = await Site.open();
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    const web = await site.run("web", { app: "web" });
    const client = await site.run("client", { app: "client" });
    const other = await site.run("other", { app: "other" });
    const inbox = await openMailbox(web.pod.netns.path, site.cleanup);
    const send = async (from: RunningPod, label: string) => {
      const targets = targetsOf(web.addresses, inbox.port, label);
      return flood(from.pod.netns.path, { targets, intervalUs: 2000 }, site.cleanup);
    };
    const floods = [await send(client, "client"), await send(other, "other")];
    await waitFor(() => labelsIn(inbox).length === 2);
    expect(labelsIn(inbox)).toEqual(["client4", "client6"]);
    // A label says who may.
    await site.api.admin.patch(`${PODS}/other`, { metadata: { labels: { app: "client" } } });
    await waitFor(() => labelsIn(inbox).length === 4);
    await site.api.admin.delete(`${POLICIES}/web`);
    await site.api.admin.create(POLICIES, { ...CLOSED, spec: { ...CLOSED.spec, podSelector: {} } });
    await waitFor(async () =>
      (await site.nft("list", "map", "inet", "flatnet_policy", "ingress4")).includes(web.addresses[0] as string),
    );
    await Promise.all(floods.map((one) => one.stop()));
  });

  test("of the whole cluster go before those of a namespace, where they are asked for", async () => {
    const site = await Site.open({ policy: { clusterPolicies: true } });
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    const web = await site.run("web", { app: "web" });
    const client = await site.run("client", { app: "client" });
    const inbox = await openMailbox(web.pod.netns.path, site.cleanup);
    const send = async (label: string) => {
      const targets = targetsOf(web.addresses, inbox.port, label);
      return flood(client.pod.netns.path, { targets, intervalUs: 2000 }, site.cleanup);
    };
    const before = await send("before");
    await waitFor(() => labelsIn(inbox).length === 2);
    await before.stop();
    await site.api.admin.create(CLUSTER_POLICIES, {
      metadata: { name: "nobody" },
      spec: {
        tier: "Admin",
        priority: 10,
        subject: { namespaces: {} },
        ingress: [{ action: "Deny", from: [{ namespaces: {} }] }],
      },
    });
    // The client has policies of its own then, which it hadn't.
    await waitFor(async () =>
      (await site.nft("list", "map", "inet", "flatnet_policy", "ingress4")).includes(client.addresses[0] as string),
    );
    const after = await send("after");
    await after.stop();
    expect(labelsIn(inbox)).toEqual(["before4", "before6"]);
    await site.api.admin.delete(`${CLUSTER_POLICIES}/nobody`);
    const again = await send("again");
    await waitFor(() => labelsIn(inbox).length === 4);
    await again.stop();
  });

  test("are in force before a pod's first packet, also when the daemon is killed and restarted meanwhile", async () => {
    const site = await Site.open();
    await site.api.admin.create(POLICIES, CLOSED);
    await site.start();
    const world = await openMailbox(site.fabric.netns.path, site.cleanup);
    const sink = await site.run("sink", { app: "sink" });
    const inbox = await openMailbox(sink.pod.netns.path, site.cleanup);
    const tryPod = async (name: string, app: string, kill: boolean) => {
      const scheduled = await site.schedule(name, { app });
      const targets = [
        ...targetsOf(sink.addresses, inbox.port, `${app}-pod`),
        ...targetsOf(["192.0.2.254", "2001:db8::fe"], world.port, `${app}-world`),
      ];
      const flooding = await flood(scheduled.pod.netns.path, { targets, intervalUs: 100 }, site.cleanup);
      const added = site.attach(scheduled);
      if (kill) {
        await site.node.stop("SIGKILL");
        await site.start();
      }
      const running = await added;
      const sent = await flooding.stop();
      expect(Object.values(sent).every((count) => count > 0)).toBe(true);
      expect((await site.verb("DEL", running)).status).toBe(0);
      await site.api.admin.delete(`${PODS}/${name}`);
    };
    for (let n = 0; n < FIRST_PACKET_PODS; n++) await tryPod(`closed-${n}`, "closed", n % 10 === 9);
    expect([...labelsIn(inbox), ...labelsIn(world)]).toEqual([]);
    // That the packets would have come.
    await tryPod("open", "open", false);
    await waitFor(() => labelsIn(inbox).length === 2);
    expect(labelsIn(inbox)).toEqual(["open-pod4", "open-pod6"]);
  }, 600_000);
});
