// SPDX-License-Identifier: Apache-2.0
//
// A node whose network policies are tried with the built programs: the API server is the double, the node stands on a link of its own.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { createFabric, type Fabric, nodeAddresses } from "../cluster/fabric.ts";
import { Cleanup, run } from "../daemon.ts";
import { createNode, type FlatnetNode } from "../flatnet-node.ts";
import { writeServiceAccount } from "../kube-api/api-server.ts";
import { type KubeApiDouble, startDouble } from "../kube-api/double.ts";
import { type Relay, startRelay } from "../kube-api/relay.ts";
import { addressesOf, createPod, type Pod, resultOf } from "../plugin.ts";

const PORT = 6443;
export const NODE = "node-1";
const SUBNETS = ["10.85.0.0/16", "fd00:85:1::/64"];

/** Where the objects of its one namespace are, and those of the cluster. */
export const POLICIES = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
export const CLUSTER_POLICIES = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";
export const PODS = "/api/v1/namespaces/shop/pods";

export type Labels = Readonly<Record<string, string>>;

/** A pod that is there: as Kubernetes has it, its namespace and its addresses. */
export interface RunningPod {
  readonly name: string;
  readonly uid: string;
  readonly pod: Pod;
  readonly addresses: readonly string[];
}

export class Site {
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

  async start(...flags: string[]): Promise<void> {
    await this.node.start("--config", join(this.node.directory, "flatnetd.yaml"), ...flags);
  }

  /** The pod's object and its namespace, before there is a network. */
  async schedule(
    name: string,
    labels: Labels,
    cleanup = this.cleanup,
    spec: object = {},
  ): Promise<{ name: string; uid: string; pod: Pod }> {
    const object = await this.api.admin.create(PODS, { metadata: { name, labels }, spec: { ...spec, nodeName: NODE } });
    return { name, uid: object.metadata.uid ?? "", pod: await createPod(name, cleanup) };
  }

  async attach(scheduled: { name: string; uid: string; pod: Pod }): Promise<RunningPod> {
    const finished = await this.verb("ADD", scheduled);
    return { ...scheduled, addresses: addressesOf(resultOf(finished)) };
  }

  verb(verb: string, { name, uid, pod }: { name: string; uid: string; pod: Pod }) {
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${name};K8S_POD_UID=${uid}`;
    return this.node.run(verb, pod, { env: { CNI_ARGS: args } });
  }

  async run(name: string, labels: Labels, spec?: object): Promise<RunningPod> {
    return this.attach(await this.schedule(name, labels, this.cleanup, spec));
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
