// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { planNode, WritePace } from "./node-plan.ts";

const TAINT = "flatnet.dev/agent-not-ready";

test("a new node that is ready is said to have a network, and loses its start-up taint", () => {
  const node = { taints: ["node.kubernetes.io/not-ready", TAINT], networkUnavailable: undefined };
  expect(planNode(node, TAINT)).toEqual([{ kind: "condition" }, { kind: "taint", key: TAINT }]);
});

test.each(["True", "Unknown"])("a condition that is %s is set", (networkUnavailable) => {
  expect(planNode({ taints: [], networkUnavailable }, undefined)).toEqual([{ kind: "condition" }]);
});

test("a node that is as it should be is left alone, whatever other taints it has", () => {
  expect(planNode({ taints: [`${TAINT}-2`], networkUnavailable: "False" }, TAINT)).toEqual([]);
  expect(planNode({ taints: [TAINT], networkUnavailable: "False" }, undefined)).toEqual([]);
});

test("the first write needs no wait, and one that somebody contradicts again and again gets ever rarer", () => {
  const pace = new WritePace();
  const written: number[] = [];
  for (let second = 0; second < 7200; second++) {
    if (!pace.mayWrite(second * 1000)) continue;
    pace.wrote(second * 1000);
    written.push(second);
  }
  expect(written.slice(0, 5)).toEqual([0, 10, 30, 70, 150]);
  expect(written.length).toBeLessThan(20);
});

test("after a quiet time the next contradiction is answered at once again, and so is the one after ten seconds", () => {
  const pace = new WritePace();
  for (const second of [0, 10, 30, 70]) pace.wrote(second * 1000);
  const later = 7_200_000;
  expect(pace.mayWrite(later)).toBe(true);
  pace.wrote(later);
  expect(pace.mayWrite(later + 9_999)).toBe(false);
  expect(pace.mayWrite(later + 10_000)).toBe(true);
});
