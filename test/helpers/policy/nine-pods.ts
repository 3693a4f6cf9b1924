// SPDX-License-Identifier: Apache-2.0
//
// The nine pods of the scenarios in a cluster of three nodes with the built programs, and an API server that can be told what
// there is. Beside them each node has a mark: a pod that tells when the node has heard of everything that was said before.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createFabric, type Fabric, nodeAddresses } from "../cluster/fabric.ts";
import type { Cleanup } from "../daemon.ts";
import { createNode, type FlatnetNode } from "../flatnet-node.ts";
import { KUBERNETES_SERVICE_ADDRESS, writeServiceAccount } from "../kube-api/api-server.ts";
import { type KubeApiDouble, startDouble } from "../kube-api/double.ts";
import { startRelay } from "../kube-api/relay.ts";
import { addressesOf, createPod, resultOf } from "../plugin.ts";
import type { PolicyObject, TestCluster } from "./evaluator.ts";
import { Packets, type SentFlow } from "./packets.ts";
import { clusterOf, POD_NAMES, type PodName, type Step } from "./scenarios.ts";

export const FAMILIES = ["IPv4", "IPv6"] as const;
export type FamilyName = (typeof FAMILIES)[number];

const PORT = 6443;
const NODES = [1, 2, 3].map((n) => ({ name: `node-${n}`, addresses: nodeAddresses(n) }));
const MARKS = "marks";
const MARK_PORT = 1000;
const NOTHING: Step = { policies: [], tries: [], reaches: () => true };

type Labels = Readonly<Record<string, string>>;
type Addresses = Readonly<Record<FamilyName, string>>;

function byFamily([IPv4 = "", IPv6 = ""]: readonly string[]): Addresses {
  return { IPv4, IPv6 };
}

/** The ports of a node that lead to a pod, of each protocol: the node's number and the pod's. */
export interface HostPort {
  readonly hostPort: number;
  readonly containerPort: number;
}

export class NinePods {
  readonly packets: Packets;
  readonly nodes: readonly FlatnetNode[];
  readonly fabric: Fabric;
  readonly #api: KubeApiDouble;
  readonly #cleanup: Cleanup;
  readonly #addresses = new Map<string, Addresses>();
  /** What the API server has, as JSON by path. */
  readonly #objects = new Map<string, string>();
  readonly #labels = new Map<string, string>();
  #marked = 0;

  private constructor(api: KubeApiDouble, nodes: readonly FlatnetNode[], fabric: Fabric, cleanup: Cleanup) {
    this.#api = api;
    this.nodes = nodes;
    this.fabric = fabric;
    this.#cleanup = cleanup;
    this.packets = new Packets(cleanup);
  }

  /** @param hostPorts of pods that have some */
  static async open(cleanup: Cleanup, hostPorts: Partial<Record<PodName, HostPort>> = {}): Promise<NinePods> {
    const api = await startDouble({ tls: true });
    cleanup.add(() => api.close());
    const fabric = await createFabric(KUBERNETES_SERVICE_ADDRESS, cleanup);
    await startRelay({ netns: fabric.netns, address: KUBERNETES_SERVICE_ADDRESS, port: PORT }, api.url, cleanup);
    const nodes: FlatnetNode[] = [];
    for (const [i, { name, addresses }] of NODES.entries()) {
      const podCIDRs = [`10.85.${i + 1}.0/24`, `fd00:85:${i + 1}::/64`];
      const spec = { podCIDR: podCIDRs[0], podCIDRs };
      const internal = addresses.map((address) => ({ type: "InternalIP", address }));
      await api.admin.create("/api/v1/nodes", { metadata: { name }, spec, status: { addresses: internal } });
      const node = await createNode("nine", cleanup, { podCidrs: [], flags: ["--node-name", name] });
      cleanup.add(() => node.stop("SIGKILL"));
      const serviceAccountDir = join(node.directory, "serviceaccount");
      writeServiceAccount(serviceAccountDir, api);
      const apiServer = `https://${KUBERNETES_SERVICE_ADDRESS}:${PORT}`;
      // JSON is YAML.
      const config = JSON.stringify({ kubernetes: { enabled: true, apiServer, serviceAccountDir } });
      writeFileSync(join(node.directory, "flatnetd.yaml"), config);
      await fabric.join(node.netns, addresses);
      nodes.push(node);
    }
    const site = new NinePods(api, nodes, fabric, cleanup);
    await site.#start(hostPorts);
    return site;
  }

  async #start(hostPorts: Partial<Record<PodName, HostPort>>): Promise<void> {
    const create = (path: string, object: object) => this.#api.admin.create(path, object);
    const { namespaces, pods } = clusterOf(NOTHING, () => [], NODES);
    for (const { name, labels } of [...namespaces, { name: MARKS, labels: {} }]) {
      await create("/api/v1/namespaces", { metadata: { name, labels } });
    }
    await create(policiesOf(MARKS), {
      metadata: { name: "closed" },
      spec: { podSelector: {}, policyTypes: ["Ingress"] },
    });
    const marks = NODES.map(({ name }) => ({ namespace: MARKS, name, node: name, labels: {}, ports: [] }));
    const outside = nodeAddresses(254);
    await this.packets.open(this.fabric.netns.path, outside, nodeAddresses(1));
    for (const [i, node] of this.nodes.entries()) {
      await node.start("--config", join(node.directory, "flatnetd.yaml"));
      await this.packets.open(node.netns.path, nodeAddresses(i + 1), outside);
    }
    await Promise.all(
      [...pods, ...marks].map(async (pod) => {
        const full = `${pod.namespace}/${pod.name}`;
        const ports = pod.ports.map(({ name, protocol, port }) => ({ name, protocol, containerPort: port }));
        const object = await create(podsOf(pod.namespace), {
          metadata: { name: pod.name, labels: pod.labels },
          spec: { nodeName: pod.node, containers: [{ name: "serve", ports }] },
        });
        await this.#attach(full, pod.node, object.metadata.uid ?? "", hostPorts[full as PodName]);
      }),
    );
  }

  async #attach(full: string, nodeName: string, uid: string, hostPort: HostPort | undefined): Promise<void> {
    const [namespace = "", name = ""] = full.split("/");
    const number = NODES.findIndex((one) => one.name === nodeName);
    const node = this.nodes[number] as FlatnetNode;
    const pod = await createPod(name, this.#cleanup);
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name};K8S_POD_UID=${uid}`;
    const portMappings = ["tcp", "udp", "sctp"].map((protocol) => ({ ...hostPort, protocol }));
    const conf = hostPort === undefined ? {} : { runtimeConfig: { portMappings } };
    const addresses = addressesOf(resultOf(await node.run("ADD", pod, { env: { CNI_ARGS: args }, conf })));
    this.#addresses.set(full, byFamily(addresses));
    const status = { phase: "Running", podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) };
    await this.#api.admin.patch(`${podsOf(namespace)}/${name}/status`, { status });
    await this.packets.open(pod.netns.path, addresses, nodeAddresses(number + 1));
  }

  addressOf(pod: PodName | "outside", family: FamilyName): string {
    if (pod === "outside") return byFamily(nodeAddresses(254))[family];
    return this.#addresses.get(pod)?.[family] ?? "";
  }

  /** Of the node that the pod is on. */
  nodeAddressOf(pod: PodName, family: FamilyName): string {
    const { node } = this.#cluster(NOTHING).pods[POD_NAMES.indexOf(pod)] ?? {};
    return byFamily(NODES.find(({ name }) => name === node)?.addresses ?? [])[family];
  }

  /** Tells the API server what there is now, and nodes nothing: they hear of it. */
  async apply(step: Step): Promise<void> {
    const { namespaces, pods, policies } = this.#cluster(step);
    for (const { name, labels } of namespaces) await this.#label(`/api/v1/namespaces/${name}`, labels);
    for (const { namespace, name, labels } of pods) await this.#label(`${podsOf(namespace)}/${name}`, labels);
    await this.#policies(policies);
    await this.#mark();
  }

  #cluster(step: Step): TestCluster {
    return clusterOf(step, (pod) => Object.values(this.#addresses.get(pod) ?? {}), NODES);
  }

  /** Policies are changed as by kubectl: those that are there still are replaced, and never away. */
  async #policies(policies: readonly PolicyObject[]): Promise<void> {
    const { admin } = this.#api;
    const wanted = new Map(
      policies.map((policy) => [`${policiesOf(policy.metadata.namespace)}/${policy.metadata.name}`, policy]),
    );
    for (const path of [...this.#objects.keys()].filter((one) => !wanted.has(one))) {
      await admin.delete(path);
      this.#objects.delete(path);
    }
    for (const [path, policy] of wanted) {
      const [before, text] = [this.#objects.get(path), JSON.stringify(policy)];
      if (before === text) continue;
      if (before === undefined) await admin.create(policiesOf(policy.metadata.namespace), policy);
      else await admin.request("PUT", path, policy);
      this.#objects.set(path, text);
    }
  }

  async #label(path: string, labels: Labels): Promise<void> {
    const text = JSON.stringify(labels);
    const before = this.#labels.get(path);
    if (before === text) return;
    this.#labels.set(path, text);
    const gone = Object.keys(before === undefined ? {} : JSON.parse(before)).map((key) => [key, null]);
    await this.#api.admin.patch(path, { metadata: { labels: { ...Object.fromEntries(gone), ...labels } } });
  }

  /** Says the last of everything: whoever has heard of it has heard of what was said before. */
  async #mark(): Promise<void> {
    this.#marked++;
    const labels = { step: `${this.#marked}` };
    await this.#label(`/api/v1/namespaces/${MARKS}`, labels);
    for (const { name } of NODES) await this.#label(`${podsOf(MARKS)}/${name}`, labels);
    const spec = {
      podSelector: { matchLabels: labels },
      ingress: [
        {
          from: [{ podSelector: { matchLabels: labels }, namespaceSelector: { matchLabels: labels } }],
          ports: [{ protocol: "UDP", port: MARK_PORT + this.#marked }],
        },
      ],
    };
    const policy = { metadata: { namespace: MARKS, name: "mark" }, spec };
    const path = `${policiesOf(MARKS)}/mark`;
    if (this.#marked === 1) await this.#api.admin.create(policiesOf(MARKS), policy);
    else await this.#api.admin.request("PUT", path, policy);
  }

  /** Packets of which all arrive as soon as every node has heard of what was applied last. */
  marks(): SentFlow[] {
    return NODES.flatMap(({ name }, i) =>
      FAMILIES.map((family): SentFlow => {
        const to = NODES[(i + 1) % NODES.length]?.name ?? "";
        const [source = "", destination = ""] = [name, to].map(
          (one) => this.#addresses.get(`${MARKS}/${one}`)?.[family],
        );
        return { source, destination, protocol: "UDP", port: MARK_PORT + this.#marked };
      }),
    );
  }
}

function policiesOf(namespace: string): string {
  return `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`;
}

function podsOf(namespace: string): string {
  return `/api/v1/namespaces/${namespace}/pods`;
}
