// SPDX-License-Identifier: Apache-2.0
//
// What a pod asks kubelet for beyond addresses, hostPorts and limits, on its way through a real runtime: containerd turns
// the CRI's port mappings and annotations into capabilities of the list. One node leaves them to the reference plugins
// behind flatnet, the other to flatnet alone; each is the machine that the other's hostPorts are reached from.

import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { hasCommand } from "../helpers/chain.ts";
import {
  type NetworkRequest,
  type Node,
  type NodeNetwork,
  type PodTraces,
  type Sandbox,
  startTwoNodes,
} from "../helpers/containerd/node.ts";
import { type ProbeAnswer, probe, startReceiver } from "../helpers/containerd/probe.ts";
import { Cleanup, run } from "../helpers/daemon.ts";
import { canUseKernel, inNetns } from "../helpers/netns.ts";

const NOTHING: PodTraces = { links: [], addresses: [], routes: [], neighbours: [], records: [] };

const CHAINED: NodeNetwork = {
  behind: [
    { type: "portmap", capabilities: { portMappings: true }, snat: true },
    { type: "bandwidth", capabilities: { bandwidth: true } },
  ],
};
const ALONE: NodeNetwork = { flatnet: { capabilities: { portMappings: true, bandwidth: true } } };

const HOST_PORT = 8080;
const CONTAINER_PORT = 10070;
/** A port that the pod's receiver does not have, and that no hostPort is asked for. */
const UNMAPPED_PORT = 10071;

const REQUEST: NetworkRequest = {
  portMappings: [
    { protocol: "TCP", containerPort: CONTAINER_PORT, hostPort: HOST_PORT },
    { protocol: "UDP", containerPort: CONTAINER_PORT, hostPort: HOST_PORT },
    { protocol: "TCP", containerPort: UNMAPPED_PORT, hostPort: 0 },
  ],
  annotations: { "kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "8M" },
};
/** The annotations' limits as `tc` has them, in bytes a second. */
const INGRESS = { kind: "tbf", rate: 1_250_000 };
const EGRESS = { kind: "tbf", rate: 1_000_000 };

interface Qdisc {
  readonly kind: string;
  readonly dev: string;
  readonly options: { readonly rate?: number };
}

/** Every queueing discipline in the network namespace of a file. */
async function qdiscs(netns: string): Promise<Qdisc[]> {
  return JSON.parse(await run(inNetns(netns, "tc", "-json", "qdisc", "show")));
}

/** Those that limit, without what a limit does not consist of. */
async function limits(netns: string): Promise<{ dev: string; kind: string; rate: number | undefined }[]> {
  const all = await qdiscs(netns);
  return all.filter(({ kind }) => kind === "tbf").map(({ dev, kind, options: { rate } }) => ({ dev, kind, rate }));
}

async function linkNames(node: Node): Promise<string[]> {
  const links: { ifname: string }[] = JSON.parse(await node.netns.ip("-json", "link"));
  return links.map(({ ifname }) => ifname);
}

async function iptables(node: Node, command: "iptables-save" | "ip6tables-save"): Promise<string> {
  return run(inNetns(node.netns.path, command, "-t", "nat"));
}

async function ownTable(node: Node): Promise<string> {
  return run(inNetns(node.netns.path, "nft", "-s", "list", "table", "inet", "flatnet"));
}

/** What an end, a sandbox or a node, gets for an answer at a port of each of a node's addresses, TCP first. */
async function ask(netns: string, addresses: readonly string[], port: number): Promise<ProbeAnswer[]> {
  const questions = (["tcp", "udp"] as const).flatMap((protocol) =>
    addresses.map((address) => ({ protocol, address, port })),
  );
  return probe(netns, questions);
}

/** The answers to `ask` when nothing on the way translates the one who asks. */
function seenAs(addresses: readonly string[]): ProbeAnswer[] {
  const answers = addresses.map((address) => ({ local: address, seen: address }));
  return [...answers, ...answers];
}

describe.runIf(canUseKernel() && hasCommand("iptables"))("a pod with hostPorts and limits in containerd", () => {
  const cleanup = new Cleanup();
  let chained: Node;
  let alone: Node;

  beforeAll(async () => {
    [chained, alone] = await startTwoNodes(cleanup, [CHAINED, ALONE]);
  });

  afterEach(async () => {
    for (const node of [chained, alone]) {
      for (const id of await node.containerd.cri.listPodSandboxes()) await node.removeSandbox(id);
    }
  });

  afterAll(() => cleanup.run());

  /** Runs the pod that asks for everything, with a receiver in it until the test ends. */
  async function runPod(node: Node): Promise<Sandbox> {
    const sandbox = await node.runSandbox("asking", REQUEST);
    const receiver = new Cleanup();
    onTestFinished(() => receiver.run());
    await startReceiver(sandbox.netns, receiver, CONTAINER_PORT);
    return sandbox;
  }

  /** The pod at its own addresses and at its node's hostPort, from the other node and from a pod there. */
  async function expectReachable(sandbox: Sandbox, node: Node, other: Node): Promise<void> {
    const far = await other.runSandbox("far");
    const ends = [
      { netns: other.netns.path, addresses: other.addresses },
      { netns: far.netns, addresses: far.addresses },
    ];
    for (const end of ends) {
      const direct = await ask(end.netns, sandbox.addresses, CONTAINER_PORT);
      const mapped = await ask(end.netns, node.addresses, HOST_PORT);
      expect({ direct, mapped }).toEqual({ direct: seenAs(end.addresses), mapped: seenAs(end.addresses) });
    }
  }

  async function expectUnreachable(node: Node, other: Node): Promise<void> {
    const questions = node.addresses.map((address) => ({ protocol: "tcp" as const, address, port: HOST_PORT }));
    const refused = { local: "", seen: expect.stringContaining("ECONNREFUSED") };
    expect(await probe(other.netns.path, questions)).toEqual([refused, refused]);
  }

  test("is served by portmap and bandwidth behind flatnet, and nothing of it stays", async () => {
    const before = await linkNames(chained);
    const sandbox = await runPod(chained);
    expect((await chained.podTraces()).records).toEqual(sandbox.addresses);
    const [link = ""] = (await chained.podTraces()).links;

    await expectReachable(sandbox, chained, alone);
    for (const command of ["iptables-save", "ip6tables-save"] as const) {
      const rules = await iptables(chained, command);
      expect(rules).toContain(`:${CONTAINER_PORT}`);
      expect(rules).not.toContain(String(UNMAPPED_PORT));
    }
    expect(await ownTable(chained)).not.toContain(String(HOST_PORT));

    // What the pod sends is limited where an ifb device sends it on.
    const [ifb = "", ...others] = (await linkNames(chained)).filter((name) => ![...before, link].includes(name));
    expect(others).toEqual([]);
    const found = await limits(chained.netns.path);
    expect(found).toHaveLength(2);
    expect(found).toEqual(
      expect.arrayContaining([
        { dev: link, ...INGRESS },
        { dev: ifb, ...EGRESS },
      ]),
    );
    expect(await limits(sandbox.netns)).toEqual([]);

    await chained.containerd.cri.stopPodSandbox(sandbox.id);
    expect(await chained.podTraces()).toEqual(NOTHING);
    expect(await linkNames(chained)).toEqual(before);
    expect(await limits(chained.netns.path)).toEqual([]);
    expect(await iptables(chained, "iptables-save")).not.toContain(String(HOST_PORT));
    expect(await iptables(chained, "ip6tables-save")).not.toContain(String(HOST_PORT));
    await expectUnreachable(chained, alone);
    await chained.containerd.cri.removePodSandbox(sandbox.id);
    expect(await chained.podTraces()).toEqual(NOTHING);
  });

  test("is served by flatnet alone, and nothing of it stays", async () => {
    const before = await linkNames(alone);
    const sandbox = await runPod(alone);
    const [link = ""] = (await alone.podTraces()).links;
    expect(await alone.allocations()).toMatchObject([
      {
        addresses: sandbox.addresses,
        portMappings: [
          { protocol: "tcp", hostPort: HOST_PORT, containerPort: CONTAINER_PORT },
          { protocol: "udp", hostPort: HOST_PORT, containerPort: CONTAINER_PORT },
        ],
      },
    ]);

    await expectReachable(sandbox, alone, chained);
    expect(await ownTable(alone)).toContain(String(HOST_PORT));
    expect(await limits(alone.netns.path)).toEqual([{ dev: link, ...INGRESS }]);
    expect(await limits(sandbox.netns)).toEqual([{ dev: "eth0", ...EGRESS }]);

    await alone.containerd.cri.stopPodSandbox(sandbox.id);
    expect(await alone.podTraces()).toEqual(NOTHING);
    expect(await linkNames(alone)).toEqual(before);
    expect(await limits(alone.netns.path)).toEqual([]);
    expect(await ownTable(alone)).not.toContain(String(HOST_PORT));
    await expectUnreachable(alone, chained);
    await alone.containerd.cri.removePodSandbox(sandbox.id);
    expect(await alone.podTraces()).toEqual(NOTHING);
  });
});
