// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { isSampled, MAX_PODS_IN_FULL, planCells } from "./cells.ts";
import { endsOf, planTopology } from "./topology.ts";

test("every ordered pair of ends is proven for each family and protocol, up to the size that is proven in full", () => {
  const topology = planTopology({ name: "lab", nodes: 3, pods: 4, family: "dual" });
  const cells = planCells(topology);
  const keys = new Set(cells.map((cell) => `${cell.from.name} ${cell.to.name} ${cell.family} ${cell.protocol}`));
  expect(cells).toHaveLength(15 * 14 * 4);
  expect(keys.size).toBe(cells.length);
  expect(cells.some((cell) => cell.from.name === cell.to.name)).toBe(false);
});

test("a single-stack lab has cells of its family only", () => {
  const cells = planCells(planTopology({ name: "lab", nodes: 2, pods: 1, family: "v6" }));
  expect(cells.every((cell) => cell.family === 6)).toBe(true);
  expect(cells).toHaveLength(4 * 3 * 2);
});

test("pairs of pods come first, pairs of nodes last", () => {
  const cells = planCells(planTopology({ name: "lab", nodes: 2, pods: 2, family: "v4" }));
  const kinds = [...new Set(cells.map((cell) => `${cell.from.kind} ${cell.to.kind}`))];
  expect(kinds).toEqual(["pod pod", "pod node", "node pod", "node node"]);
});

test("sampled, every pod still sends to and receives from every node, and everything with a node is complete", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 2, max: 60 }), (nodes, pods) => {
      fc.pre(nodes * pods > MAX_PODS_IN_FULL && nodes * pods <= 250);
      const topology = planTopology({ name: "lab", nodes, pods, family: "v4" });
      expect(isSampled(topology)).toBe(true);
      const cells = planCells(topology).filter((cell) => cell.protocol === "tcp");
      const between = cells.filter((cell) => cell.from.kind === "pod" && cell.to.kind === "pod");
      expect(between).toHaveLength(nodes * pods * nodes);
      expect(between.some((cell) => cell.from.name === cell.to.name)).toBe(false);
      const sends = new Set(between.map((cell) => `${cell.from.name} ${cell.to.node}`));
      const receives = new Set(between.map((cell) => `${cell.from.node} ${cell.to.name}`));
      expect(sends.size).toBe(nodes * pods * nodes);
      expect(receives.size).toBe(nodes * pods * nodes);
      const ends = endsOf(topology).length;
      expect(cells.length - between.length).toBe(ends * (ends - 1) - nodes * pods * (nodes * pods - 1));
    }),
    { numRuns: 20 },
  );
});
