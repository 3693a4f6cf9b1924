// SPDX-License-Identifier: Apache-2.0
//
// A cluster: nodes with a real containerd each, whose only network is what the agent makes of what an API server says.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { type Cluster, type ClusterNode, startCluster } from "../helpers/cluster/cluster.ts";
import { probe, type Receiver, startReceiver } from "../helpers/containerd/probe.ts";
import { Cleanup, waitFor } from "../helpers/daemon.ts";
import { openMailbox, sendDatagrams } from "../helpers/datagrams.ts";
import { serverKinds } from "../helpers/kube-api/servers.ts";
import { canUseKernel } from "../helpers/netns.ts";

const CONFLIST = "10-flatnet.conflist";
/** Until an agent that was cut off has found its way back: its pauses between tries grow. */
const BACK_MS = 90_000;

describe.runIf(canUseKernel()).each(serverKinds())("a cluster by $name", ({ start }) => {
  const cleanup = new Cleanup();
  let cluster: Cluster;
  let nodes: [ClusterNode, ClusterNode, ClusterNode];

  beforeAll(async () => {
    cluster = await startCluster(await start(cleanup), cleanup);
    nodes = [await cluster.addNode(), await cluster.addNode(), await cluster.addNode()];
    for (const [i, node] of nodes.entries()) {
      await node.register(subnets(i + 1));
      await node.startAgent();
    }
    for (const node of nodes) await node.ready();
  });

  afterEach(async () => {
    for (const { containerd, removeSandbox } of nodes ?? []) {
      for (const id of await containerd.cri.listPodSandboxes()) await removeSandbox(id);
    }
    const { items } = await cluster.admin.request<{ items: { metadata: { name: string } }[] }>("GET", PODS);
    for (const { metadata } of items) await cluster.admin.delete(`${PODS}/${metadata.name}?gracePeriodSeconds=0`);
  });

  afterAll(() => cleanup.run());

  test("pods and nodes reach each other on all nodes, each seen as who it is", async () => {
    const pods = await Promise.all(nodes.map((node, i) => node.runPod(`flat-${i}`)));
    for (const [i, { addresses }] of pods.entries()) {
      expect(addresses).toEqual([expect.stringMatching(inSubnet(i + 1, 4)), expect.stringMatching(inSubnet(i + 1, 6))]);
    }
    await expectFlat([...pods, ...nodes.map(endOf)]);
  });

  test("a node that joins has no network before the cluster knows it; with it come the routes, and go when it leaves", async () => {
    const late = await cluster.addNode();
    onTestFinished(() => late.stopAgent());
    await late.startAgent();
    await waitFor(() => late.log().length > 0);
    // Long enough to write one, if it would.
    await sleep(1000);
    expect(readdirSync(late.confDir)).toEqual([]);

    await late.register(subnets(4));
    await late.ready();
    const [far, near] = [await late.runPod("late"), await nodes[0].runPod("resident")];
    await waitFor(async () => hasRoutes(await nodes[0].routesToNodes(), 4), { timeoutMs: BACK_MS });
    await expectFlat([near, far]);
    await waitFor(async () => (await conditionOf(cluster, late.name)) === "False");
    await late.removeSandbox(far.id);
    await late.stopAgent();
    await late.unregister();
    for (const node of nodes) {
      await waitFor(async () => (await node.routesToNodes()).length === 4, { timeoutMs: BACK_MS });
    }
    expect(hasRoutes(await nodes[0].routesToNodes(), 2)).toBe(true);
  });

  test("with the API server away pods come and go, agents start anew, and what it says later is heard", async () => {
    const [one, two] = nodes;
    const routes = await one.routesToNodes();
    await cluster.relay.stop();
    onTestFinished(() => cluster.relay.start());
    const [before, there] = [await one.runSandbox("before"), await two.runSandbox("there")];
    await expectFlat([before, there]);
    await one.removeSandbox(before.id);

    await one.stopAgent();
    await one.startAgent();
    await one.ready();
    const after = await one.runSandbox("after");
    await expectFlat([after, there, endOf(one), endOf(nodes[2])]);
    expect(await one.routesToNodes()).toEqual(routes);
    await one.removeSandbox(after.id);

    await addNodeObject(cluster, 8);
    onTestFinished(async () => void (await cluster.admin.delete("/api/v1/nodes/node-8")));
    await cluster.relay.start();
    for (const node of nodes) {
      await waitFor(async () => hasRoutes(await node.routesToNodes(), 8), { timeoutMs: BACK_MS });
    }
  });

  test("while the agent is replaced pods are made, removed and reached, and the node keeps its network", async () => {
    const [one, two] = nodes;
    const [near, far] = [await one.runPod("near"), await two.runPod("far")];
    const mailboxes = new Cleanup();
    onTestFinished(() => mailboxes.run());
    const mailbox = await openMailbox(far.netns, mailboxes);
    const sent: string[] = [];
    const made: string[] = [];
    let missing = 0;
    let rolled = false;
    const traffic = async () => {
      while (!rolled) {
        const [from, to] = [near.addresses[0] as string, far.addresses[0] as string];
        const text = `${sent.length}`;
        await sendDatagrams(near.netns, [{ from, to, port: mailbox.port, text }]);
        sent.push(text);
      }
    };
    const life = async () => {
      while (!rolled) {
        const { id } = await one.runSandbox(`pod-${made.length}`);
        made.push(id);
        await one.removeSandbox(id);
      }
    };
    const watch = async () => {
      for (; !rolled; await sleep(2)) if (!existsSync(join(one.confDir, CONFLIST))) missing++;
    };
    const roll = async () => {
      try {
        for (const signal of ["SIGTERM", "SIGKILL"] as const) {
          await one.stopAgent(signal);
          await one.startAgent();
          await waitFor(() => one.log().some(({ msg }) => msg === "serving"), { timeoutMs: 30_000 });
        }
      } finally {
        rolled = true;
      }
    };
    await Promise.all([traffic(), life(), watch(), roll()]);
    expect(missing).toBe(0);
    expect(made.length).toBeGreaterThan(0);
    await waitFor(() => mailbox.received().length === sent.length);
    expect(mailbox.received().map(({ text }) => text)).toEqual(sent);
  });

  test("a node that is deleted and made again with other subnets gives its next pods addresses of those", async () => {
    const [one, , three] = nodes;
    const old = await three.runPod("old");
    await three.unregister();
    await three.register(subnets(33));
    onTestFinished(async () => {
      await three.unregister();
      await three.register(subnets(3));
      await waitFor(async () => hasRoutes(await one.routesToNodes(), 3), { timeoutMs: BACK_MS });
    });
    for (const node of [one, nodes[1]]) {
      await waitFor(async () => hasRoutes(await node.routesToNodes(), 33), { timeoutMs: BACK_MS });
      expect(hasRoutes(await node.routesToNodes(), 3)).toBe(false);
    }
    const isNew = ({ addresses }: { addresses: readonly string[] }) => inSubnet(33, 4).test(addresses[0] as string);
    await waitFor(
      async () => {
        const next = await three.runSandbox("next");
        if (isNew(next)) return true;
        await three.removeSandbox(next.id);
        return false;
      },
      { timeoutMs: BACK_MS },
    );
    const next = await three.runPod("next-1");
    expect(isNew(next)).toBe(true);
    await expectFlat([next, await one.runPod("elsewhere"), endOf(one)]);
    // Who has an address keeps it, and is reached where its node's subnets don't matter.
    await expectFlat([old, endOf(three)]);
  });
});

const PODS = "/api/v1/namespaces/default/pods";

/** Of the n-th node. */
function subnets(n: number): [v4: string, v6: string] {
  return [`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`];
}

function inSubnet(n: number, family: 4 | 6): RegExp {
  return family === 4 ? new RegExp(`^10\\.244\\.${n}\\.\\d+$`) : new RegExp(`^fd00:10:244:${n}::`);
}

function hasRoutes(destinations: readonly string[], n: number): boolean {
  return subnets(n).every((subnet) => destinations.includes(subnet));
}

/** A node of which there is nothing but the object. */
async function addNodeObject({ admin }: Cluster, n: number): Promise<void> {
  const podCIDRs = subnets(n);
  await admin.create("/api/v1/nodes", {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node-${n}` },
    spec: { podCIDR: podCIDRs[0], podCIDRs },
    status: { addresses: [`192.0.2.${n}`, `2001:db8::${n}`].map((address) => ({ type: "InternalIP", address })) },
  });
}

/** Status of NetworkUnavailable; undefined where nobody has said anything. */
async function conditionOf({ admin }: Cluster, name: string): Promise<string | undefined> {
  const { status } = await admin.get(`/api/v1/nodes/${name}`);
  const conditions = (status?.["conditions"] ?? []) as readonly { type: string; status: string }[];
  return conditions.find(({ type }) => type === "NetworkUnavailable")?.status;
}

/** A sandbox or a node. */
interface End {
  readonly netns: string;
  /** IPv4 first. */
  readonly addresses: readonly string[];
}

function endOf({ netns, addresses }: ClusterNode): End {
  return { netns: netns.path, addresses };
}

/** Each reaches each other over TCP and UDP, by either family, and is seen with its own address. */
async function expectFlat(ends: readonly End[]): Promise<void> {
  const cleanup = new Cleanup();
  try {
    const receivers: Receiver[] = await Promise.all(ends.map(({ netns }) => startReceiver(netns, cleanup)));
    for (const [i, from] of ends.entries()) {
      const others = ends.flatMap((to, j) => (i === j ? [] : [{ to, ports: receivers[j] as Receiver }]));
      const questions = others.flatMap(({ to, ports }) =>
        to.addresses.flatMap((address) => [
          { protocol: "tcp" as const, address, port: ports.tcp },
          { protocol: "udp" as const, address, port: ports.udp },
        ]),
      );
      const answers = await probe(from.netns, questions);
      const told = questions.map(({ protocol, address }, q) => ({ protocol, address, ...answers[q] }));
      const expected = questions.map(({ protocol, address }) => {
        const local = from.addresses.find((own) => own.includes(":") === address.includes(":"));
        return { protocol, address, local, seen: local };
      });
      expect(told).toEqual(expected);
    }
  } finally {
    await cleanup.run();
  }
}
