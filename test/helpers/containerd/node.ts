// SPDX-License-Identifier: Apache-2.0
//
// A node of a cluster of two: a network namespace with an uplink, one real flatnetd, and one real containerd whose
// sandboxes get their network from the built plugin.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { credentials, makeGenericClientConstructor } from "@grpc/grpc-js";
import {
  type Allocation,
  IpamServiceDefinition,
  ListAllocationsRequest,
  ListAllocationsResponse,
} from "../../../src/gen/flatnet/ipam/v1/ipam.ts";
import { parseAddress } from "../../../src/net/address.ts";
import { LINK_PREFIX } from "../../../src/net/names.ts";
import { indexOf, parsePrefix } from "../../../src/net/prefix.ts";
import type { PluginEntry } from "../chain.ts";
import type { SandboxConfig } from "../cri/client.ts";
import { type Cleanup, CommandError, type Daemon, startDaemon } from "../daemon.ts";
import { type CableEnd, createNetns, joinByCable, type Netns } from "../netns.ts";
import { type Containerd, startContainerd } from "./containerd.ts";

/** Debian's reference plugins (package containernetworking-plugins). */
export const REFERENCE_PLUGINS = "/usr/lib/cni";

/** How a node's network configuration list differs from one with flatnet alone, without capabilities. */
export interface NodeNetwork {
  /** What flatnet's entry says further. */
  readonly flatnet?: object;
  /** The entries behind it, of reference plugins. */
  readonly behind?: readonly PluginEntry[];
}

/** What a pod may ask its node's network for. */
export type NetworkRequest = Pick<SandboxConfig, "portMappings" | "annotations">;

export interface Sandbox {
  readonly id: string;
  /** IPv4 first. */
  readonly addresses: readonly string[];
  /** File of its network namespace, for nsenter. */
  readonly netns: string;
}

/** What of a node's pods is in its kernel. All empty on a node without pods. */
export interface KernelTraces {
  readonly links: string[];
  readonly addresses: string[];
  readonly routes: string[];
  readonly neighbours: string[];
}

/** The same, and what is in its daemon's store. */
export interface PodTraces extends KernelTraces {
  /** The addresses that are given out. */
  readonly records: string[];
}

export interface Node {
  readonly name: string;
  readonly netns: Netns;
  readonly socket: string;
  /** Its own addresses, IPv4 first. */
  readonly addresses: readonly string[];
  /** Its pods' subnets, IPv4 first. */
  readonly podCidrs: readonly string[];
  readonly containerd: Containerd;
  /** Starts it and waits until it serves. Does nothing if it runs. */
  startFlatnetd(): Promise<void>;
  /** Does nothing if it does not run. */
  stopFlatnetd(signal?: NodeJS.Signals): Promise<void>;
  /** Runs a sandbox, and returns it as the runtime describes it. */
  runSandbox(podName: string, request?: NetworkRequest): Promise<Sandbox>;
  removeSandbox(id: string): Promise<void>;
  /** What the daemon has given out, ordered by container. */
  allocations(): Promise<Allocation[]>;
  podTraces(): Promise<PodTraces>;
  podTracesInKernel(): Promise<KernelTraces>;
}

interface Plan {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly podCidrs: readonly string[];
}

const PLANS: readonly [Plan, Plan] = [
  {
    name: "node-1",
    addresses: ["192.0.2.1", "2001:db8::1"],
    podCidrs: ["10.244.1.0/24", "fd00:10:244:1::/64"],
  },
  {
    name: "node-2",
    addresses: ["192.0.2.2", "2001:db8::2"],
    podCidrs: ["10.244.2.0/24", "fd00:10:244:2::/64"],
  },
];

/** Starts two nodes, joined by a cable, that know each other. `cleanup` ends them. */
export async function startTwoNodes(
  cleanup: Cleanup,
  networks: readonly [NodeNetwork, NodeNetwork] = [{}, {}],
): Promise<[Node, Node]> {
  const [one, two] = PLANS;
  const first = await createNetns(one.name, cleanup);
  const second = await createNetns(two.name, cleanup);
  await joinByCable(uplink(one, first), uplink(two, second));
  return [await startNode(one, networks[0], first, cleanup), await startNode(two, networks[1], second, cleanup)];
}

function uplink(plan: Plan, netns: Netns): CableEnd {
  const withLength = (address: string) => `${address}/${address.includes(":") ? 64 : 24}`;
  return { netns, ifname: "uplink", addresses: plan.addresses.map(withLength) };
}

async function startNode(plan: Plan, network: NodeNetwork, netns: Netns, cleanup: Cleanup): Promise<Node> {
  const directory = mkdtempSync(join(tmpdir(), `${plan.name}-`));
  cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, "flatnetd.sock");
  const stateDir = join(directory, "state");
  const peers = join(directory, "peers.yaml");
  // JSON is YAML.
  writeFileSync(
    peers,
    JSON.stringify({
      nodes: PLANS.map(({ name, addresses, podCidrs }) => ({ name, addresses, podCIDRs: podCidrs })),
    }),
  );

  let daemon: Daemon | undefined;
  const stopFlatnetd = async (signal?: NodeJS.Signals) => {
    await daemon?.stop(signal);
    daemon = undefined;
  };
  const startFlatnetd = async () => {
    daemon ??= await startDaemon({
      argv: netns.command(built("flatnetd"), ...flatnetdFlags(plan, stateDir, socket, peers)),
      ready: async (output) => output.includes('"serving"') && (await listAllocations(socket)) !== undefined,
    });
  };
  await startFlatnetd();
  cleanup.add(() => stopFlatnetd());

  const behind = network.behind ?? [];
  const reference = ["loopback", ...behind.map(({ type }) => type)];
  // Shorter than a person would want, so that a test with the daemon down need not wait.
  const own = { type: "flatnet", socket, journalDir: join(stateDir, "journal"), connectWaitMs: 1000 };
  const containerd = await startContainerd(
    {
      netns,
      plugins: {
        flatnet: built("flatnet"),
        ...Object.fromEntries(reference.map((type) => [type, join(REFERENCE_PLUGINS, type)])),
      },
      conflist: {
        cniVersion: "1.0.0",
        name: "flatnet",
        plugins: [{ ...own, ...network.flatnet }, ...behind],
      },
    },
    cleanup,
  );

  return {
    ...plan,
    netns,
    socket,
    containerd,
    startFlatnetd,
    stopFlatnetd,
    runSandbox: (podName, request) => runSandbox(containerd, podName, request),
    removeSandbox: async (id) => {
      await containerd.cri.stopPodSandbox(id);
      await containerd.cri.removePodSandbox(id);
    },
    allocations: () => listAllocations(socket),
    podTraces: async () => ({
      ...(await kernelTraces(plan, netns)),
      records: (await listAllocations(socket)).flatMap((allocation) => allocation.addresses),
    }),
    podTracesInKernel: () => kernelTraces(plan, netns),
  };
}

function flatnetdFlags(plan: Plan, stateDir: string, socket: string, peers: string): string[] {
  const flags = ["--node-name", plan.name, "--state-dir", stateDir, "--socket", socket, "--peers", peers];
  return [...flags, ...plan.podCidrs.flatMap((cidr) => ["--pod-cidr", cidr]), "--log-level", "info"];
}

/** A program of `npm run build`. */
function built(name: string): string {
  const path = new URL(`../../../dist/${name}`, import.meta.url).pathname;
  if (!existsSync(path)) throw new CommandError(`dist/${name} is missing: run \`npm run build\` first`);
  return path;
}

/** Runs a sandbox on any containerd, whatever its network, and returns it as the runtime describes it. */
export async function runSandbox(
  containerd: Containerd,
  podName: string,
  request: NetworkRequest = {},
): Promise<Sandbox> {
  const id = await containerd.cri.runPodSandbox({ ...containerd.sandboxConfig(podName), ...request });
  const { addresses, netns } = await containerd.cri.podSandboxStatus(id);
  return { id, addresses, netns: containerd.hostPath(netns) };
}

async function listAllocations(socket: string): Promise<Allocation[]> {
  const Client = makeGenericClientConstructor({}, "IpamService");
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  const path = `/${IpamServiceDefinition.fullName}/${IpamServiceDefinition.methods.listAllocations.name}`;
  try {
    const allocations = await new Promise<Allocation[]>((resolve, reject) => {
      client.makeUnaryRequest(
        path,
        (request: ListAllocationsRequest) => Buffer.from(ListAllocationsRequest.encode(request).finish()),
        (bytes) => ListAllocationsResponse.decode(bytes),
        {},
        { deadline: Date.now() + 10_000 },
        (error, response) => (error === null ? resolve(response?.allocations ?? []) : reject(error)),
      );
    });
    const container = ({ attachment }: Allocation) => attachment?.containerId ?? "";
    return allocations.sort((a, b) => container(a).localeCompare(container(b)));
  } finally {
    client.close();
  }
}

async function kernelTraces(plan: Plan, netns: Netns): Promise<KernelTraces> {
  const list = async (...args: string[]) => JSON.parse((await netns.ip("-json", ...args)) || "[]");
  const subnets = plan.podCidrs.map(parsePrefix);
  const isPods = (address: string) => subnets.some((subnet) => indexOf(subnet, parseAddress(address)) !== undefined);
  const isOurs = (ifname: string | undefined) => ifname?.startsWith(LINK_PREFIX) ?? false;

  const links: { ifname: string; addr_info: { local: string }[] }[] = await list("address");
  const routes: { dst: string; dev?: string }[] = [
    ...(await list("-4", "route", "show", "table", "all")),
    ...(await list("-6", "route", "show", "table", "all")),
  ];
  const neighbours: { dst: string; dev: string }[] = await list("neighbour", "show", "nud", "all");
  return {
    links: links.map(({ ifname }) => ifname).filter(isOurs),
    addresses: links.flatMap(({ addr_info }) => addr_info.map(({ local }) => local)).filter(isPods),
    // A route to one address has no prefix length in what ip prints.
    routes: routes
      .filter(({ dst, dev }) => isOurs(dev) || (/^[0-9a-f.:]+$/.test(dst) && isPods(dst)))
      .map(({ dst }) => dst),
    neighbours: neighbours.filter(({ dst, dev }) => isOurs(dev) || isPods(dst)).map(({ dst }) => dst),
  };
}
