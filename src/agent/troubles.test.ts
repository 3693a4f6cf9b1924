// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parsePrefix } from "../net/prefix.ts";
import type { Finding } from "../probe/tracker.ts";
import { type NodeView, TroubleMemory, troublesOf } from "./troubles.ts";

const QUIET: NodeView = { nodes: 1, strays: new Set(), ways: [], findings: undefined, sessions: undefined };
const HOUR = 3_600_000;

function way(node: string, subnet: string, state: NodeView["ways"][number]["state"], why?: string) {
  return { node, prefix: parsePrefix(subnet), state, why };
}

function finding(peer: string, state: Finding["state"]): Finding {
  return { peer, kind: "node", address: `172.18.0.${peer.at(-1)}`, state, rttMs: undefined, misses: 3 };
}

test("a node in order has no troubles", () => {
  const ways = [way("node2", "10.244.2.0/24", "installed")];
  expect(
    troublesOf({
      ...QUIET,
      ways,
      findings: [finding("node2", "reachable"), finding("node3", "unknown")],
      sessions: [],
    }),
  ).toEqual([]);
});

test("each kind of trouble is one, names what it is about, and counts what it doesn't name", () => {
  const troubles = troublesOf({
    nodes: 9,
    strays: new Set(["10.244.9.5", "10.244.9.4", "10.244.9.3", "10.244.9.2", "10.244.9.1"]),
    ways: [
      way("node5", "10.244.5.0/24", "conflict", "there is one that isn't flatnet's"),
      way("node4", "10.244.4.0/24", "diverted", "the kernel doesn't use it"),
      way("node3", "10.244.3.0/24", "refused", "node7 has it too"),
      way("", "10.244.6.0/24", "behind-router", "172.18.0.6 is behind the router 172.18.0.1"),
      way("node2", "10.244.2.0/24", "installed"),
    ],
    findings: [finding("node2", "unreachable"), finding("node3", "reachable")],
    sessions: [
      { id: "node2_ipv4", established: false, info: "Active Socket: Connection refused" },
      { id: "node3_ipv4", established: true, info: "Established" },
    ],
  });
  expect(troubles).toEqual([
    {
      reason: "StrayAddresses",
      message:
        "addresses are held that are in no subnet of this node any more, and other nodes have no route to them: " +
        "10.244.9.1, 10.244.9.2, 10.244.9.3, and 2 more",
    },
    { reason: "PeerUnreachable", message: "node2 does not answer at its address 172.18.0.2" },
    { reason: "BgpSessionDown", message: "node2_ipv4: Active Socket: Connection refused" },
    {
      reason: "RouteConflict",
      message:
        "10.244.4.0/24 of node4: the kernel doesn't use it; 10.244.5.0/24 of node5: there is one that isn't flatnet's",
    },
    { reason: "RouteRefused", message: "10.244.3.0/24 of node3: node7 has it too" },
    { reason: "RouteFailed", message: "10.244.6.0/24: 172.18.0.6 is behind the router 172.18.0.1" },
  ]);
});

const trouble = (message: string) => ({ reason: "RouteConflict", message });

/** A memory in a cluster of so many nodes, with a die of the test's own. */
function remembering(nodes = 1, random = () => 0) {
  const memory = new TroubleMemory();
  return (found: readonly { reason: string; message: string }[], nowMs: number) => {
    return memory.news(found, nowMs, nodes, random).map(({ message }) => message);
  };
}

test("what lasts is told at the second look, once, and again before the cluster has forgotten it", () => {
  const news = remembering();
  expect(news([trouble("a")], 0)).toEqual([]);
  expect(news([trouble("a")], 30_000)).toEqual(["a"]);
  expect(news([trouble("a")], HOUR / 2)).toEqual([]);
  expect(news([trouble("a")], HOUR)).toEqual(["a"]);
});

test("what changes is told anew, and what comes back begins anew", () => {
  const news = remembering();
  news([trouble("a")], 0);
  news([trouble("a")], 1);
  expect(news([trouble("b")], 2)).toEqual(["b"]);
  expect(news([], 3)).toEqual([]);
  expect(news([trouble("b")], 4)).toEqual([]);
  expect(news([trouble("b")], 5)).toEqual(["b"]);
});

test("what all nodes of a large cluster see they don't tell at once, and what changes meanwhile is told as it is then", () => {
  const news = remembering(5000, () => 0.5);
  expect(news([trouble("a")], 0)).toEqual([]);
  expect(news([trouble("a")], 499_000)).toEqual([]);
  expect(news([trouble("b")], 500_000)).toEqual(["b"]);
  expect(news([trouble("c")], 600_000)).toEqual([]);
  expect(news([trouble("d")], 1_099_000)).toEqual([]);
  expect(news([trouble("d")], 1_100_000)).toEqual(["d"]);
});

test("a clock that is set back tells it again", () => {
  const news = remembering();
  news([trouble("a")], HOUR);
  news([trouble("a")], HOUR);
  expect(news([trouble("a")], 0)).toEqual(["a"]);
});
