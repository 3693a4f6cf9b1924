// SPDX-License-Identifier: Apache-2.0
//
// A Kubernetes cluster without kubelets: an API server, nodes in namespaces, on each a real containerd and flatnetd as its
// agent. What kubelets and controllers would do at the API server is done by these functions.
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Containerd, startContainerd } from "../containerd/containerd.ts";
import { REFERENCE_PLUGINS, runSandbox, type Sandbox } from "../containerd/node.ts";
import { type Cleanup, CommandError, type Daemon, startDaemon, waitFor } from "../daemon.ts";
import { type LogLine, parseLog } from "../flatnet-node.ts";
import type { Admin } from "../kube-api/admin.ts";
import { KUBERNETES_SERVICE_ADDRESS, writeServiceAccount } from "../kube-api/api-server.ts";
import { type Relay, startRelay } from "../kube-api/relay.ts";
import type { Server } from "../kube-api/servers.ts";
import { createNetns, type Netns } from "../netns.ts";
import { built } from "../plugin.ts";
import { createFabric, type Fabric, nodeAddresses } from "./fabric.ts";

export interface Cluster {
  readonly admin: Admin;
  /** The way of all nodes to the API server. */
  readonly relay: Relay;
  /** A further node, with containerd running and nothing else: no agent, no Node object. */
  addNode(): Promise<ClusterNode>;
}

export interface ClusterNode {
  readonly name: string;
  readonly netns: Netns;
  /** Its own addresses, IPv4 first. */
  readonly addresses: readonly string[];
  readonly containerd: Containerd;
  /** Where containerd looks for networks, and the agent writes. */
  readonly confDir: string;
  /** Makes its Node object as kubelet does, with subnets as the controller gives them. */
  register(podCIDRs: readonly string[]): Promise<void>;
  unregister(): Promise<void>;
  /** Starts the agent's process; doesn't wait for it to serve. */
  startAgent(): Promise<void>;
  /** Does nothing if it doesn't run. */
  stopAgent(signal?: NodeJS.Signals): Promise<void>;
  /** What the agent has logged since it was started. */
  log(): LogLine[];
  /** Waits until containerd has a network. */
  ready(): Promise<void>;
  /** A sandbox, whether or not there is a Pod object. */
  runSandbox(podName: string): Promise<Sandbox>;
  /** Makes the Pod object, runs its sandbox, and reports its addresses. */
  runPod(podName: string): Promise<Sandbox>;
  removeSandbox(id: string): Promise<void>;
  /** Destinations of its routes by way of other nodes, of either family. */
  routesToNodes(): Promise<string[]>;
}

/** Of the manifests: it keeps pods off a node until its agent takes it away. */
export const STARTUP_TAINT = "flatnet.dev/agent-not-ready";

export async function startCluster(server: Server, cleanup: Cleanup): Promise<Cluster> {
  const fabric = await createFabric(KUBERNETES_SERVICE_ADDRESS, cleanup);
  const at = { netns: fabric.netns, address: KUBERNETES_SERVICE_ADDRESS, port: 443 };
  const relay = await startRelay(at, server.url, cleanup);
  let count = 0;
  return { admin: server.admin, relay, addNode: () => startNode(++count, server, fabric, cleanup) };
}

async function startNode(n: number, server: Server, fabric: Fabric, cleanup: Cleanup): Promise<ClusterNode> {
  const name = `node-${n}`;
  const { admin } = server;
  const addresses = nodeAddresses(n);
  const netns = await createNetns(name, cleanup);
  await fabric.join(netns, addresses);
  const directory = mkdtempSync(join(tmpdir(), `${name}-`));
  cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
  const inside = (path: string) => join(directory, path);
  const cni = { binDir: inside("bin"), confDir: inside("net.d") };
  const containerd = await startContainerd(
    { netns, cni, plugins: { loopback: join(REFERENCE_PLUGINS, "loopback") } },
    cleanup,
  );

  const serviceAccountDir = inside("serviceaccount");
  writeServiceAccount(serviceAccountDir, { ca: server.ca, token: await server.agentToken(name) });
  // JSON is YAML.
  const config = {
    nodeName: name,
    stateDir: inside("state"),
    socket: inside("flatnetd.sock"),
    kubernetes: { enabled: true, serviceAccountDir },
    cni: { ...cni },
    node: { startupTaint: STARTUP_TAINT },
  };
  writeFileSync(inside("config.yaml"), JSON.stringify(config));
  let daemon: Daemon | undefined;
  const stopAgent = async (signal?: NodeJS.Signals) => {
    await daemon?.stop(signal);
    daemon = undefined;
  };
  cleanup.add(() => stopAgent());

  const running = () => {
    if (daemon === undefined) throw new CommandError(`the agent of ${name} does not run`);
    return daemon;
  };
  return {
    ...{ name, netns, addresses, containerd, confDir: cni.confDir, stopAgent },
    register: (podCIDRs) => register(admin, name, addresses, podCIDRs),
    unregister: async () => void (await admin.delete(`/api/v1/nodes/${name}`)),
    async startAgent() {
      daemon ??= await startDaemon({
        argv: netns.command(built("flatnetd"), "--config", inside("config.yaml"), "--log-level", "debug"),
        env: { KUBERNETES_SERVICE_HOST: KUBERNETES_SERVICE_ADDRESS, KUBERNETES_SERVICE_PORT: "443" },
        ready: () => true,
      });
    },
    log: () => parseLog(running().output()),
    ready: () =>
      waitFor(
        async () => {
          running();
          return (await containerd.cri.conditions()).every(({ status }) => status);
        },
        { timeoutMs: 30_000 },
      ),
    runSandbox: (podName) => runSandbox(containerd, podName),
    runPod: (podName) => runPod(admin, name, containerd, podName),
    async removeSandbox(id) {
      await containerd.cri.stopPodSandbox(id);
      await containerd.cri.removePodSandbox(id);
    },
    routesToNodes: async () => {
      const list = async (family: string) =>
        JSON.parse((await netns.ip(family, "-N", "-json", "route", "show", "proto", "70")) || "[]");
      const routes: { dst: string; gateway?: string }[] = [...(await list("-4")), ...(await list("-6"))];
      return routes.filter(({ gateway }) => gateway !== undefined).map(({ dst }) => dst);
    },
  };
}

async function register(
  admin: Admin,
  name: string,
  addresses: readonly string[],
  podCIDRs: readonly string[],
): Promise<void> {
  await admin.create("/api/v1/nodes", {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/hostname": name } },
    spec: { podCIDR: podCIDRs[0], podCIDRs },
    status: { addresses: addresses.map((address) => ({ type: "InternalIP", address })) },
  });
}

async function runPod(admin: Admin, nodeName: string, containerd: Containerd, name: string): Promise<Sandbox> {
  const pods = "/api/v1/namespaces/default/pods";
  const { metadata } = await admin.create(pods, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default" },
    spec: { nodeName, containers: [{ name: "pause", image: "pause" }] },
  });
  const config = containerd.sandboxConfig(name);
  const uid = metadata.uid ?? randomUUID();
  const id = await containerd.cri.runPodSandbox({ ...config, metadata: { ...config.metadata, uid } });
  const { addresses, netns } = await containerd.cri.podSandboxStatus(id);
  const podIPs = addresses.map((ip) => ({ ip }));
  await admin.patch(`${pods}/${name}/status`, { status: { phase: "Running", podIP: addresses[0], podIPs } });
  return { id, addresses, netns: containerd.hostPath(netns) };
}
