// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { HandMade } from "../../test/helpers/collection.ts";
import type { KubeNode } from "../kube/objects.ts";
import { parseAddress } from "../net/address.ts";
import { parsePrefix } from "../net/prefix.ts";
import { KubernetesNodes } from "./kubernetes-nodes.ts";
import { OwnNode } from "./own-node.ts";

function node(n: number, more: Partial<KubeNode> = {}): KubeNode {
  return {
    name: `node-${n}`,
    uid: `uid-${n}`,
    podCIDRs: [`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`].map(parsePrefix),
    addresses: [`192.0.2.${n}`, `2001:db8::${n}`].map(parseAddress),
    annotations: {},
    taints: [],
    problem: undefined,
    ...more,
  };
}

const NOW = 1_000_000_000;
const THEN = "1970-01-12T13:45:39.999Z";

const plain = ({ name, addresses, podCIDRs }: KubeNode) => ({ name, addresses, podCIDRs });

function make(remembered?: KubeNode) {
  const nodes = new HandMade<KubeNode>();
  const own = new OwnNode("node-1", nodes, remembered);
  return { nodes, own, source: new KubernetesNodes(nodes, own, () => NOW) };
}

test("nodes aren't known before anything is known of them", async () => {
  const { nodes, source } = make();
  nodes.trouble("the API server can't be reached");
  expect(await source.read()).toEqual({ nodes: undefined, problem: "the API server can't be reached" });
});

test("restored nodes are all that is known, and said to be that, until there is a list", async () => {
  const { nodes, source } = make();
  nodes.set({ "node-1": node(1), "node-2": node(2) }, "restored");
  const known = [plain(node(1)), plain(node(2))];
  expect(await source.read()).toEqual({ nodes: known, restored: true, problem: undefined });
  nodes.set({}, "synced");
  expect(await source.read()).toEqual({ nodes: known, restored: false, problem: undefined });
});

test("what of a node matters to nobody leaves it the same object", async () => {
  const { nodes, source } = make();
  nodes.set({ "node-1": node(1), "node-2": node(2), "node-3": node(3) });
  const before = (await source.read()).nodes;
  nodes.set({ "node-2": node(2, { annotations: { "flatnet.dev/x": "1" }, taints: ["x"] }) });
  expect((await source.read()).nodes?.every((node, i) => node === before?.[i])).toBe(true);
  nodes.set({ "node-2": node(2, { addresses: [parseAddress("192.0.2.22")] }), "node-3": undefined });
  const after = (await source.read()).nodes;
  expect(after).toEqual([plain(node(1)), plain(node(2, { addresses: [parseAddress("192.0.2.22")] }))]);
  expect(after?.[0]).toBe(before?.[0]);
});

test("the same nodes are the same list", async () => {
  const { nodes, source } = make();
  nodes.set({ "node-1": node(1) });
  expect((await source.read()).nodes).toBe((await source.read()).nodes);
});

test("whoever watches hears of changes and of an API server that goes away", () => {
  const { nodes, source } = make();
  let heard = 0;
  const watching = source.watch(() => heard++);
  nodes.set({ "node-2": node(2) });
  expect(heard).toBe(1);
  nodes.trouble("gone");
  expect(heard).toBe(2);
  watching.close();
  nodes.trouble(undefined);
  expect(heard).toBe(2);
});

test("what is wrong is told: an API server that is away, this node missing, nodes with something unusable", async () => {
  const { nodes, source } = make();
  const problem = "flatnet.dev/node-addresses is wrong";
  nodes.set(Object.fromEntries([2, 3, 4, 5].map((n) => [`node-${n}`, node(n, { problem })])));
  nodes.confirmedAtMs = NOW - 60_001;
  nodes.trouble("connect ECONNREFUSED");
  expect((await source.read()).problem?.split("; ")).toEqual([
    `the API server has not been heard of since ${THEN}, and the nodes are those of then: connect ECONNREFUSED`,
    "this node, node-1, is not in Kubernetes",
    ...[2, 3, 4].map((n) => `node node-${n}: ${problem}`),
    "and 1 more nodes have something wrong",
  ]);
});

test("an API server that was heard of a moment ago is no news, but one that never was since the start is", async () => {
  const { nodes, source } = make();
  nodes.confirmedAtMs = NOW - 59_999;
  nodes.set({ "node-1": node(1) }, "restored");
  nodes.trouble("connect ECONNREFUSED");
  expect((await source.read()).problem).toContain("has not been heard of since");
  nodes.set({}, "synced");
  expect((await source.read()).problem).toBeUndefined();
});

test("this node keeps its subnets when its Node is deleted, or has none, and takes those of a later one", async () => {
  const { nodes, own, source } = make();
  nodes.set({ "node-1": node(1) });
  expect(own.node).toEqual(node(1));
  nodes.set({ "node-1": undefined });
  expect(own.node).toEqual(node(1));
  expect(own.problem).toBe("this node, node-1, is not in Kubernetes any more; it keeps the subnets it had");
  expect((await source.read()).nodes).toEqual([plain(node(1))]);
  nodes.set({ "node-1": node(1, { podCIDRs: [], uid: "later" }) });
  expect(own.node).toEqual(node(1));
  expect(own.problem).toBe("this node, node-1, has no podCIDRs in Kubernetes any more; it keeps the subnets it had");
  const later = node(1, { podCIDRs: [parsePrefix("10.244.9.0/24")], uid: "later" });
  nodes.set({ "node-1": later });
  expect(own.node).toEqual(later);
  expect(own.problem).toBeUndefined();
  expect((await source.read()).nodes).toEqual([plain(later)]);
});

test("a node that starts while its Node is away has the subnets that it remembers", async () => {
  const { nodes, own } = make(node(1));
  expect(own.node).toEqual(node(1));
  nodes.set({ "node-2": node(2) });
  expect(own.node).toEqual(node(1));
});

test("a node without subnets says what it waits for", () => {
  const { nodes, own } = make();
  expect(own.waitsFor).toBe("the API server has not answered yet");
  nodes.trouble("the API server can't be reached");
  expect(own.waitsFor).toBe("the API server can't be reached");
  nodes.trouble(undefined);
  nodes.set({ "node-2": node(2) });
  expect(own.waitsFor).toBe("this node, node-1, is not in Kubernetes");
  nodes.set({ "node-1": node(1, { podCIDRs: [] }) });
  expect(own.waitsFor).toBe("this node, node-1, has no podCIDRs in Kubernetes");
  expect(own.node).toBeUndefined();
});

test("of this node is told what is worth remembering", () => {
  const { nodes, own } = make();
  const told: unknown[] = [];
  own.subscribe((changes) => told.push(...changes));
  nodes.set({ "node-1": node(1, { podCIDRs: [] }), "node-2": node(2) });
  nodes.set({ "node-1": node(1) });
  nodes.set({ "node-1": undefined });
  expect(told).toEqual([{ key: "node-1", before: undefined, after: node(1) }]);
});
