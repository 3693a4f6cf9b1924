// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { type Cell, planCells } from "./cells.ts";
import { planTopology, withPodAddresses } from "./topology.ts";
import { describeCell, judge, judgeCell, type Outcome } from "./verdict.ts";

const topology = withPodAddresses(
  planTopology({ name: "lab", nodes: 2, pods: 2, family: "dual" }),
  new Map([
    ["node1-pod1", ["10.244.1.2", "fd00:10:244:1::2"]],
    ["node1-pod2", ["10.244.1.3", "fd00:10:244:1::3"]],
    ["node2-pod1", ["10.244.2.2", "fd00:10:244:2::2"]],
    ["node2-pod2", ["10.244.2.3", "fd00:10:244:2::3"]],
  ]),
);
const cells = planCells(topology);

function cell(from: string, to: string, family = 4, protocol = "tcp"): Cell {
  const found = cells.find(
    (one) => one.from.name === from && one.to.name === to && one.family === family && one.protocol === protocol,
  );
  if (found === undefined) throw new Error(`no cell ${from} ${to}`);
  return found;
}

/** What a flat network shows for node1-pod2 to node2-pod1, with what differs. */
function answered(differs: Partial<Extract<Outcome, { kind: "answered" }>> = {}): Outcome {
  return {
    kind: "answered",
    receiver: "node2-pod1",
    saw: "10.244.1.3",
    reachedAt: "10.244.2.2",
    local: "10.244.1.3",
    own: ["10.244.1.3", "fd00:10:244:1::3"],
    ...differs,
  };
}

describe("a cell", () => {
  const podToPod = cell("node1-pod2", "node2-pod1");

  test("holds when sender, receiver and ADD agree on both addresses", () => {
    expect(judgeCell(podToPod, answered())).toBeUndefined();
  });

  test.each([
    ["node1-pod2", "node2-pod1", "pods reach pods"],
    ["node1-pod2", "node2", "pods reach nodes"],
    ["node1", "node2-pod1", "nodes reach pods"],
    ["node1", "node2", "nodes reach nodes"],
  ])("without an answer from %s to %s breaks: %s", (from, to, requirement) => {
    const failure = judgeCell(cell(from, to), { kind: "failed", error: "no answer in 1000 ms" });
    expect(failure).toMatchObject({ requirement, detail: "no answer in 1000 ms" });
  });

  test("whose receiver sees another address than the sender's socket has is translated", () => {
    expect(judgeCell(podToPod, answered({ saw: "172.18.0.11" }))).toMatchObject({
      requirement: "no NAT: the receiver sees the sender's own address",
      detail: "node2-pod1 saw 172.18.0.11, the sender's socket has 10.244.1.3",
    });
  });

  test.each([
    ["another address", { reachedAt: "10.244.2.3" }, "it came to node2-pod1 at 10.244.2.3"],
    ["another end", { receiver: "node2-pod2" }, "it came to node2-pod2 at 10.244.2.2"],
  ])("that arrives at %s was redirected", (_, differs, detail) => {
    expect(judgeCell(podToPod, answered(differs))).toMatchObject({
      requirement: "no NAT: the packet reaches the address it was sent to",
      detail,
    });
  });

  test("from an address that ADD did not give breaks the pod's view of itself", () => {
    const other = { saw: "10.244.1.9", local: "10.244.1.9", own: ["10.244.1.9"] };
    expect(judgeCell(podToPod, answered(other))).toMatchObject({
      requirement: "a pod sees the address others see",
      detail: "ADD gave 10.244.1.3, node2-pod1 saw 10.244.1.9",
    });
  });

  test("from an address that no interface of the sender has breaks the pod's view of itself", () => {
    expect(judgeCell(podToPod, answered({ own: [] }))).toMatchObject({
      requirement: "a pod sees the address others see",
      detail: "node2-pod1 saw 10.244.1.3, node1-pod2 itself has no address",
    });
  });

  test("from a node may come from any address that the node has", () => {
    const outcome = answered({ saw: "192.0.2.1", local: "192.0.2.1", own: ["172.18.0.11", "192.0.2.1"] });
    expect(judgeCell(cell("node1", "node2-pod1"), outcome)).toBeUndefined();
  });
});

describe("the verdict", () => {
  const proof = { nodes: 2, pods: 4, sampled: false, cells, failures: [] };
  const failing = (from: string, to: string, outcome: Outcome, family?: number) => {
    const failure = judgeCell(cell(from, to, family), outcome);
    if (failure === undefined) throw new Error("the cell holds");
    return failure;
  };
  const silent: Outcome = { kind: "failed", error: "no answer in 1000 ms" };

  test("of a proof without failures is flat, with what was proven", () => {
    expect(judge(proof, [])).toEqual({
      flat: true,
      text: "FLAT: 4 pods on 2 nodes, 120 cells over IPv4 and IPv6, TCP and UDP: all reached, no NAT",
    });
  });

  test("says one of what there is one of", () => {
    const small = planTopology({ name: "lab", nodes: 1, pods: 1, family: "v6" });
    expect(judge({ nodes: 1, pods: 1, sampled: false, cells: planCells(small), failures: [] }, []).text).toBe(
      "FLAT: 1 pod on 1 node, 4 cells over IPv6, TCP and UDP: all reached, no NAT",
    );
  });

  test("says when not every pair of pods was proven", () => {
    expect(judge({ ...proof, sampled: true }, []).text).toContain("120 cells (pairs of pods sampled) over IPv4");
  });

  test("names requirement, pair, family and protocol of the only failure", () => {
    expect(judge({ ...proof, failures: [failing("node1-pod2", "node2-pod1", silent)] }, [])).toEqual({
      flat: false,
      text: "NOT FLAT: pods reach pods: node1-pod2 10.244.1.3 -> node2-pod1 10.244.2.2 (tcp, IPv4): no answer in 1000 ms",
    });
  });

  test("names the weightiest of several requirements, and how many more cells fail", () => {
    const failures = [
      failing("node1-pod2", "node2-pod1", answered({ saw: "172.18.0.11" })),
      failing("node1", "node2-pod1", silent),
      failing("node1-pod1", "node2", silent, 6),
    ];
    expect(judge({ ...proof, failures }, []).text).toBe(
      "NOT FLAT: pods reach nodes: node1-pod1 fd00:10:244:1::2 -> node2 fd00:18::12 (tcp, IPv6): no answer in 1000 ms (and 2 more of 120 cells)",
    );
  });

  test("of a flat network that DEL did not leave clean is not clean", () => {
    expect(judge(proof, ["DEL left link flabcdefghijk on node1", "DEL left route to 10.244.1.3 on node1"])).toEqual({
      flat: false,
      text: "NOT CLEAN: DEL left link flabcdefghijk on node1 (and 1 more)",
    });
  });

  test("of a network that is not flat says so even when DEL left something", () => {
    const failures = [failing("node1-pod2", "node2-pod1", silent)];
    expect(judge({ ...proof, failures }, ["DEL left link flx on node1"]).text).toMatch(/^NOT FLAT: /);
  });

  test("describes an end that got no address", () => {
    const bare = planCells(planTopology({ name: "lab", nodes: 1, pods: 1, family: "v4" }))[0] as Cell;
    expect(describeCell(bare)).toBe("node1-pod1 without address -> node1 172.18.0.11 (tcp, IPv4)");
  });
});
