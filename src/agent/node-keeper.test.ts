// SPDX-License-Identifier: Apache-2.0
import { pino } from "pino";
import { expect, onTestFinished, test, vi } from "vitest";
import { HandMade } from "../../test/helpers/collection.ts";
import type { KubeNode } from "../kube/objects.ts";
import { NodeKeeper } from "./node-keeper.ts";

const TAINT = "flatnet.dev/agent-not-ready";
const NEW: KubeNode = {
  ...{ name: "node1", uid: "1", podCIDRs: [], addresses: [], annotations: {}, problem: undefined },
  taints: [TAINT, "node.kubernetes.io/not-ready"],
};

/** An API server that has one node, and a keeper of it. */
function keeping({ follows = true }: { follows?: boolean } = {}) {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const nodes = new HandMade<KubeNode>();
  const state = { ready: true, away: false, writes: 0 };
  const lines: string[] = [];
  const write = async (change: (node: KubeNode) => KubeNode) => {
    state.writes++;
    if (state.away) throw new Error("nobody is there");
    const node = nodes.objects.get("node1") as KubeNode;
    if (follows) nodes.set({ node1: change(node) });
    return true;
  };
  const keeper = NodeKeeper.start({
    nodeName: "node1",
    nodes,
    client: {
      setNodeCondition: (_, { status }) => write((node) => ({ ...node, networkUnavailable: status })),
      removeNodeTaint: (_, key) => write((node) => ({ ...node, taints: node.taints.filter((one) => one !== key) })),
    },
    startupTaint: TAINT,
    isReady: () => state.ready,
    log: pino({}, { write: (line: string) => void lines.push(JSON.parse(line).msg) }),
  });
  onTestFinished(() => keeper.stop());
  const node = () => nodes.objects.get("node1");
  return { nodes, state, lines, node, pass: (ms: number) => vi.advanceTimersByTimeAsync(ms) };
}

test("a node is left as it is until it is ready, and has its condition and no taint from then on", async () => {
  const { nodes, state, node, pass } = keeping();
  state.ready = false;
  nodes.set({ node1: NEW });
  await pass(60_000);
  expect(node()).toEqual(NEW);
  state.ready = true;
  await pass(5_000);
  expect(node()).toEqual({ ...NEW, networkUnavailable: "False", taints: ["node.kubernetes.io/not-ready"] });
  const { writes } = state;
  await pass(3_600_000);
  expect(state.writes).toBe(writes);
});

test("what is only remembered of the node is no reason to write", async () => {
  const { nodes, state, pass } = keeping();
  nodes.set({ node1: NEW }, "restored");
  await pass(60_000);
  expect(state.writes).toBe(0);
});

test("whoever changes it finds it restored", async () => {
  const { nodes, node, pass } = keeping();
  nodes.set({ node1: NEW });
  await pass(60_000);
  nodes.set({ node1: { ...(node() as KubeNode), networkUnavailable: "True", taints: [TAINT] } });
  await pass(10_000);
  expect(node()).toMatchObject({ networkUnavailable: "False", taints: [] });
});

test("whoever contradicts it all the time is answered ever less often", async () => {
  const { nodes, state, pass } = keeping();
  for (let second = 0; second < 3600; second++) {
    nodes.set({ node1: { ...NEW, networkUnavailable: "True" } });
    await pass(1_000);
  }
  expect(state.writes).toBeGreaterThan(4);
  expect(state.writes).toBeLessThan(40);
});

test("an API server that takes writes and doesn't show them is not written to all the time", async () => {
  const { nodes, state, pass } = keeping({ follows: false });
  nodes.set({ node1: NEW });
  await pass(60_000);
  expect(state.writes).toBeLessThan(10);
});

test("an API server that is away is told when it is back, and the log says so once", async () => {
  const { nodes, state, lines, node, pass } = keeping();
  state.away = true;
  nodes.set({ node1: NEW });
  await pass(600_000);
  expect(lines).toEqual(["the cluster can't be told that this node has a network; it is tried again"]);
  expect(state.writes).toBeLessThan(20);
  state.away = false;
  await pass(600_000);
  expect(node()).toMatchObject({ networkUnavailable: "False" });
});

test("another node with its name is told anew", async () => {
  const { nodes, node, pass } = keeping();
  nodes.set({ node1: NEW });
  await pass(60_000);
  nodes.set({ node1: undefined });
  await pass(60_000);
  nodes.set({ node1: { ...NEW, uid: "2" } });
  await pass(60_000);
  expect(node()).toMatchObject({ uid: "2", networkUnavailable: "False" });
});
