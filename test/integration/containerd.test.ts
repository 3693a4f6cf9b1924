// SPDX-License-Identifier: Apache-2.0
//
// A real runtime drives the built plugin: Debian's containerd over its CRI, as kubelet does, on two nodes.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { parseAddress } from "../../src/net/address.ts";
import { indexOf, parsePrefix } from "../../src/net/prefix.ts";
import { startContainerd } from "../helpers/containerd/containerd.ts";
import {
  type KernelTraces,
  type Node,
  type PodTraces,
  REFERENCE_PLUGINS,
  runSandbox,
  startTwoNodes,
} from "../helpers/containerd/node.ts";
import { probe, type Receiver, startReceiver } from "../helpers/containerd/probe.ts";
import { CriError } from "../helpers/cri/client.ts";
import { Cleanup, runToEnd } from "../helpers/daemon.ts";
import { canUseKernel, createNetns, listAddresses } from "../helpers/netns.ts";
import { PAUSE_IMAGE } from "../helpers/pause/image.ts";
import { built, cniEnvironment, createPod, runPlugin } from "../helpers/plugin.ts";

const hasKernel = canUseKernel();

const NOTHING_IN_KERNEL: KernelTraces = { links: [], addresses: [], routes: [], neighbours: [] };
const NOTHING: PodTraces = { ...NOTHING_IN_KERNEL, records: [] };

describe.runIf(hasKernel)("containerd on the reference plugins", () => {
  test("a sandbox runs from the pause image, gets its address, and takes a container in", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const leases = mkdtempSync(join(tmpdir(), "host-local-"));
    cleanup.add(() => rmSync(leases, { recursive: true, force: true }));
    const netns = await createNetns("reference", cleanup);
    const plugins = ["ptp", "host-local", "loopback"].map((name) => [name, join(REFERENCE_PLUGINS, name)] as const);
    const ipam = { type: "host-local", dataDir: leases, ranges: [[{ subnet: "10.244.9.0/24" }]] };
    const conflist = { cniVersion: "1.0.0", name: "reference", plugins: [{ type: "ptp", ipam }] };
    const containerd = await startContainerd({ netns, conflist, plugins: Object.fromEntries(plugins) }, cleanup);

    expect(await containerd.cri.version()).toMatchObject({ runtimeName: "containerd", runtimeApiVersion: "v1" });
    const sandbox = await runSandbox(containerd, "pod");
    expect(sandbox.addresses).toEqual(["10.244.9.2"]);
    expect(await listAddresses(sandbox.netns, "eth0")).toContainEqual(
      expect.objectContaining({ local: "10.244.9.2", prefixlen: 24 }),
    );
    const { tcp: port } = await startReceiver(sandbox.netns, cleanup);
    const question = { protocol: "tcp", address: "10.244.9.2", port } as const;
    expect(await probe(netns.path, [question])).toEqual([{ local: "10.244.9.1", seen: "10.244.9.1" }]);
    const config = containerd.sandboxConfig("pod");
    const container = await containerd.cri.startContainer(sandbox.id, "container", PAUSE_IMAGE, config);
    expect(await containerd.cri.containerState(container)).toBe("CONTAINER_RUNNING");
  });
});

describe.runIf(hasKernel)("containerd on flatnet", () => {
  const cleanup = new Cleanup();
  let one: Node;
  let two: Node;

  beforeAll(async () => {
    [one, two] = await startTwoNodes(cleanup);
  });

  afterEach(async () => {
    for (const node of [one, two]) {
      for (const id of await node.containerd.cri.listPodSandboxes()) await node.removeSandbox(id);
    }
  });

  afterAll(() => cleanup.run());

  test("a sandbox gets one address of each of its node's subnets, and has it on eth0 for itself alone", async () => {
    for (const node of [one, two]) {
      const sandbox = await node.runSandbox("pod");
      expect(sandbox.addresses.map((address, i) => isWithin(node.podCidrs[i], address))).toEqual([true, true]);
      const global = (await listAddresses(sandbox.netns, "eth0")).filter(({ scope }) => scope === "global");
      expect(global.map(({ local, prefixlen }) => `${local}/${prefixlen}`)).toEqual([
        `${sandbox.addresses[0]}/32`,
        `${sandbox.addresses[1]}/128`,
      ]);
    }
  });

  test("the daemon's record of a sandbox names its pod and the addresses that the runtime reports", async () => {
    const sandbox = await one.runSandbox("recorded");
    expect(await one.allocations()).toMatchObject([
      {
        attachment: { network: "flatnet", containerId: sandbox.id, ifname: "eth0" },
        pod: { namespace: "default", name: "recorded" },
        addresses: sandbox.addresses,
      },
    ]);
  });

  test("pods and nodes reach each other over TCP and UDP, each seen as who it is", async () => {
    const [near, beside, far] = await Promise.all([
      one.runSandbox("near"),
      one.runSandbox("beside"),
      two.runSandbox("far"),
    ]);
    const node = { netns: one.netns.path, addresses: one.addresses };
    const otherNode = { netns: two.netns.path, addresses: two.addresses };
    const receivers = new Map<End, Receiver>();
    for (const end of [near, far, beside, node, otherNode]) receivers.set(end, await listenIn(end));
    const pairs: [string, End, End][] = [
      ["a pod to a pod of its node", near, beside],
      ["a pod to a pod of another node", near, far],
      ["a pod of the other node back", far, near],
      ["a node to its pod", node, near],
      ["a node to a pod of another node", node, far],
      ["a pod to its node", near, node],
      ["a pod to another node", near, otherNode],
    ];
    for (const [what, from, to] of pairs) {
      const { tcp, udp } = receivers.get(to) as Receiver;
      const answers = await probe(from.netns, [
        ...to.addresses.map((address) => ({ protocol: "tcp" as const, address, port: tcp })),
        ...to.addresses.map((address) => ({ protocol: "udp" as const, address, port: udp })),
      ]);
      const [v4, v6] = from.addresses.map((address) => ({ local: address, seen: address }));
      expect({ what, answers }).toEqual({ what, answers: [v4, v6, v4, v6] });
    }
  });

  test("a sandbox that was stopped and removed leaves no link, route, address or record", async () => {
    const sandbox = await one.runSandbox("pod");
    expect((await one.podTraces()).records).toEqual(sandbox.addresses);
    expect((await one.podTraces()).links).toHaveLength(1);
    await one.containerd.cri.stopPodSandbox(sandbox.id);
    expect(await one.podTraces()).toEqual(NOTHING);
    await one.containerd.cri.removePodSandbox(sandbox.id);
    expect(await one.podTraces()).toEqual(NOTHING);
  });

  test("a sandbox can be stopped and removed twice", async () => {
    const { id } = await one.runSandbox("pod");
    await one.containerd.cri.stopPodSandbox(id);
    await one.containerd.cri.stopPodSandbox(id);
    await one.containerd.cri.removePodSandbox(id);
    await one.containerd.cri.removePodSandbox(id);
    expect(await one.podTraces()).toEqual(NOTHING);
  });

  test("a sandbox whose network namespace lost its path stops cleanly", async () => {
    const { id } = await one.runSandbox("pod");
    const { netns } = await one.containerd.cri.podSandboxStatus(id);
    await one.containerd.inside("umount", netns);
    await one.containerd.inside("rm", netns);
    await one.removeSandbox(id);
    expect(await one.podTraces()).toEqual(NOTHING);
  });

  test("a sandbox whose network namespace is gone with its process stops cleanly", async () => {
    const { id } = await one.runSandbox("pod");
    const { netns, pid } = await one.containerd.cri.podSandboxStatus(id);
    await one.containerd.inside("umount", netns);
    await one.containerd.inside("rm", netns);
    await one.containerd.inside("kill", "-KILL", String(pid));
    await one.removeSandbox(id);
    expect(await one.podTraces()).toEqual(NOTHING);
  });

  test("eight sandboxes that start at once get eight addresses of each family", async () => {
    const sandboxes = await Promise.all(Array.from({ length: 8 }, (_, i) => one.runSandbox(`pod-${i}`)));
    expect(new Set(sandboxes.flatMap(({ addresses }) => addresses)).size).toBe(16);
    await Promise.all(sandboxes.map(({ id }) => one.removeSandbox(id)));
    expect(await one.podTraces()).toEqual(NOTHING);
  });

  test("a sandbox with the daemon down fails and says why, leaves nothing, and runs once the daemon is back", async () => {
    await one.stopFlatnetd();
    onTestFinished(() => one.startFlatnetd());
    const refused: unknown = await one.runSandbox("pod").catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(CriError);
    expect((refused as CriError).message).toMatch(/plugin type="flatnet".* failed \(add\): /);
    expect((refused as CriError).message).toContain(one.socket);
    expect(await one.podTracesInKernel()).toEqual(NOTHING_IN_KERNEL);
    await one.startFlatnetd();
    expect(await one.podTraces()).toEqual(NOTHING);
    expect(await one.containerd.cri.listPodSandboxes()).toEqual([]);
    const sandbox = await one.runSandbox("pod");
    expect(sandbox.addresses).toHaveLength(2);
  });

  test("a sandbox stopped with the daemon down loses its link then, and its record once the daemon is back", async () => {
    const { id } = await one.runSandbox("pod");
    await one.stopFlatnetd();
    onTestFinished(() => one.startFlatnetd());
    await one.removeSandbox(id);
    expect(await one.podTracesInKernel()).toEqual(NOTHING_IN_KERNEL);
    await one.startFlatnetd();
    expect(await one.podTraces()).toEqual(NOTHING);
  });

  test("flatnetctl says which records are of pods that the runtime doesn't have", async () => {
    await one.runSandbox("pod");
    const flags = ["--socket", one.socket, "--runtime-endpoint", `unix://${one.containerd.endpoint}`];
    const check = () => runToEnd([built("flatnetctl"), "ipam", "check", ...flags]);
    expect(await check()).toMatchObject({ status: 0, stdout: "1 attachment and 1 host link agree.\n" });
    const foreign = await createPod("foreign", cleanup);
    const conf = JSON.stringify({ cniVersion: "1.0.0", name: "flatnet", type: "flatnet", socket: one.socket });
    const added = await runPlugin(one.netns, cniEnvironment("ADD", foreign), conf);
    onTestFinished(() => runPlugin(one.netns, cniEnvironment("DEL", foreign), conf).then(() => {}));
    expect(added.status).toBe(0);
    const { status, stdout } = await check();
    expect(status).toBe(1);
    expect(stdout.split("\n")[0]).toMatch(
      new RegExp(`^runtime-unknown {2}flatnet/${foreign.containerId}/eth0 .*: the runtime has no such pod`),
    );
    expect(stdout).toContain("1 difference between 2 attachments and 2 host links.");
  });

  test("sandboxes stay reachable and keep their records when the daemon is killed and started again", async () => {
    const [near, far] = await Promise.all([one.runSandbox("near"), two.runSandbox("far")]);
    const before = await one.allocations();
    await one.stopFlatnetd("SIGKILL");
    onTestFinished(() => one.startFlatnetd());
    const { tcp: port } = await listenIn(near);
    const questions = near.addresses.map((address) => ({ protocol: "tcp" as const, address, port }));
    const answers = far.addresses.map((address) => ({ local: address, seen: address }));
    expect(await probe(far.netns, questions)).toEqual(answers);
    await one.startFlatnetd();
    expect(await one.allocations()).toEqual(before);
    expect(await probe(far.netns, questions)).toEqual(answers);
    const next = await one.runSandbox("next");
    expect(next.addresses.filter((address) => near.addresses.includes(address))).toEqual([]);
  });
});

/** One end of a probe: a sandbox or a node. */
interface End {
  /** File of the network namespace. */
  readonly netns: string;
  readonly addresses: readonly string[];
}

/** Starts a receiver for the rest of the test. */
async function listenIn({ netns }: End): Promise<Receiver> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  return startReceiver(netns, cleanup);
}

function isWithin(cidr: string | undefined, address: string): boolean {
  return cidr !== undefined && indexOf(parsePrefix(cidr), parseAddress(address)) !== undefined;
}
