// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { planCells } from "./cells.ts";
import { COLOURED, drawMatrix, drawTopology } from "./drawing.ts";
import type { LabUnderlay } from "./options.ts";
import { planTopology, type Topology, withPodAddresses } from "./topology.ts";
import type { Failure } from "./verdict.ts";

function lab(nodes: number, pods: number, family: "v4" | "dual" = "dual", underlay: LabUnderlay = "l2"): Topology {
  const planned = planTopology({ name: "lab", nodes, pods, family, underlay });
  const addresses = planned.nodes.flatMap((node, n) =>
    node.pods.map((pod, p): [string, string[]] => {
      const v4 = `10.244.${n + 1}.${p + 2}`;
      return [pod.name, family === "v4" ? [v4] : [v4, `fd00:10:244:${n + 1}::${p + 2}`]];
    }),
  );
  return withPodAddresses(planned, new Map(addresses));
}

/** All cells for which `broken` holds, as failures. */
function failing(topology: Topology, broken: (from: string, to: string, family: number) => boolean): Failure[] {
  return planCells(topology)
    .filter((cell) => broken(cell.from.name, cell.to.name, cell.family))
    .map((cell) => ({ cell, requirement: "pods reach pods", detail: "no answer in 1000 ms" }));
}

test("the topology shows subnets, nodes and pods with their addresses", () => {
  expect(drawTopology(lab(2, 2))).toEqual([
    "  underlay 172.18.0.0/24  fd00:18::/64",
    "  ├─ node1  172.18.0.11  fd00:18::11  pods in 10.244.1.0/24  fd00:10:244:1::/64",
    "  │   ├─ node1-pod1  10.244.1.2  fd00:10:244:1::2",
    "  │   └─ node1-pod2  10.244.1.3  fd00:10:244:1::3",
    "  └─ node2  172.18.0.12  fd00:18::12  pods in 10.244.2.0/24  fd00:10:244:2::/64",
    "      ├─ node2-pod1  10.244.2.2  fd00:10:244:2::2",
    "      └─ node2-pod2  10.244.2.3  fd00:10:244:2::3",
  ]);
});

test("a topology with a router shows each link with the nodes on it", () => {
  expect(drawTopology(lab(3, 1, "v4", "routed"))).toEqual([
    "  rack1 172.18.1.0/24  router 172.18.1.1",
    "  ├─ node1  172.18.1.11  pods in 10.244.1.0/24",
    "  │   └─ node1-pod1  10.244.1.2",
    "  └─ node2  172.18.1.12  pods in 10.244.2.0/24",
    "      └─ node2-pod1  10.244.2.2",
    "  rack2 172.18.2.0/24  router 172.18.2.1",
    "  └─ node3  172.18.2.13  pods in 10.244.3.0/24",
    "      └─ node3-pod1  10.244.3.2",
  ]);
});

test("a node with many pods lists the first and counts the rest", () => {
  const lines = drawTopology(lab(1, 12, "v4"));
  expect(lines.slice(-3)).toEqual([
    "      ├─ node1-pod6  10.244.1.7",
    "      ├─ node1-pod7  10.244.1.8",
    "      └─ and 5 more",
  ]);
});

test("a flat lab's matrix has a sign for every ordered pair", () => {
  const topology = lab(2, 3);
  expect(drawMatrix(topology, planCells(topology), [], 80)).toEqual([
    "  from \\ to   node1  node2",
    "              N123   N123",
    "  node1       -●●●   ●●●●",
    "  node1-pod1  ●-●●   ●●●●",
    "  node1-pod2  ●●-●   ●●●●",
    "  node1-pod3  ●●●-   ●●●●",
    "  node2       ●●●●   -●●●",
    "  node2-pod1  ●●●●   ●-●●",
    "  node2-pod2  ●●●●   ●●-●",
    "  node2-pod3  ●●●●   ●●●-",
    "  N the node, 1… its pods; ● all of TCP and UDP over every family",
  ]);
});

test("a broken pair shows which family fails", () => {
  const topology = lab(2, 1);
  const failures = failing(
    topology,
    (from, to, family) =>
      (from === "node1-pod1" && to === "node2-pod1" && family === 4) ||
      (from === "node2-pod1" && to === "node1-pod1" && family === 6) ||
      (from === "node2" && to === "node1-pod1"),
  );
  expect(drawMatrix(topology, planCells(topology), failures, 80)).toEqual([
    "  from \\ to   node1  node2",
    "              N1     N1",
    "  node1       -●     ●●",
    "  node1-pod1  ●-     ●4",
    "  node2       ●✗     -●",
    "  node2-pod1  ●6     ●-",
    "  N the node, 1… its pods; ● all of TCP and UDP over every family",
    "  4 or 6 that family fails, ✗ more than one or all fail",
  ]);
});

test("in a single-stack lab a broken pair has no family to tell", () => {
  const topology = lab(1, 2, "v4");
  const failures = failing(topology, (from, to) => from === "node1-pod1" && to === "node1-pod2");
  expect(drawMatrix(topology, planCells(topology), failures, 80)[3]).toBe("  node1-pod1  ●-✗");
});

test("a sampled matrix shows what was not probed", () => {
  const topology = lab(1, 51, "v4");
  const lines = drawMatrix(topology, planCells(topology), [], 120);
  expect(lines[3]).toBe(`  node1-pod1   ●-●${"·".repeat(49)}`);
  expect(lines.at(-1)).toBe("  · not probed");
});

test("a matrix that is too wide or too long is drawn node by node", () => {
  const topology = lab(3, 4);
  const failures = failing(topology, (from, to) => from.startsWith("node1-") && to.startsWith("node2-"));
  expect(drawMatrix(topology, planCells(topology), failures, 30)).toEqual([
    "  from \\ to    1   2   3",
    "  node1        ● ✗64   ●",
    "  node2        ●   ●   ●",
    "  node3        ●   ●   ●",
    "  between all ends of two nodes: ● every cell holds, ✗n so many fail",
  ]);
  const long = lab(2, 40, "v4");
  expect(drawMatrix(long, planCells(long), [], 1000)).toHaveLength(4);
});

test("colours change no column", () => {
  const topology = lab(3, 4);
  const cells = planCells(topology);
  const failures = failing(topology, (from) => from === "node1");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is to be taken away
  const bare = (lines: string[]) => lines.map((line) => line.replace(/\x1b\[[0-9;]*m/g, "").trimEnd());
  expect(bare(drawTopology(topology, COLOURED))).toEqual(drawTopology(topology));
  for (const width of [30, 120]) {
    const plain = drawMatrix(topology, cells, failures, width);
    expect(bare(drawMatrix(topology, cells, failures, width, COLOURED))).toEqual(plain);
  }
});
