// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parsePrefix } from "../net/prefix.ts";
import type { Finding } from "../probe/tracker.ts";
import { type NodeView, TroubleMemory, troublesOf } from "./troubles.ts";

const QUIET: NodeView = { strays: new Set(), ways: [], findings: undefined, sessions: undefined };
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

test("what lasts is told at the second look, once, and again before the cluster has forgotten it", () => {
  const memory = new TroubleMemory();
  const trouble = { reason: "RouteConflict", message: "a" };
  expect(memory.news([trouble], 0)).toEqual([]);
  expect(memory.news([trouble], 30_000)).toEqual([trouble]);
  expect(memory.news([trouble], HOUR / 2)).toEqual([]);
  expect(memory.news([trouble], HOUR)).toEqual([trouble]);
});

test("what changes is told anew, and what comes back begins anew", () => {
  const memory = new TroubleMemory();
  const [one, other] = ["a", "b"].map((message) => ({ reason: "RouteConflict", message })) as [
    { reason: string; message: string },
    { reason: string; message: string },
  ];
  memory.news([one], 0);
  memory.news([one], 1);
  expect(memory.news([other], 2)).toEqual([other]);
  expect(memory.news([], 3)).toEqual([]);
  expect(memory.news([other], 4)).toEqual([]);
  expect(memory.news([other], 5)).toEqual([other]);
});
