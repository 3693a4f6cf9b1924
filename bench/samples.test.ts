// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Budget, type Row, ratio, summarize, tail, withinBudget } from "./samples.ts";

const row = (ours: number[], peer: number[], budget?: Budget): Row => ({
  what: "ADD: wall",
  unit: "ms",
  ours,
  peer,
  peerName: "ptp",
  ...(budget && { budget }),
});

test("the median is the middle, or between the two middle ones", () => {
  expect(summarize([3, 1, 2])).toEqual({ median: 2, p99: 3, min: 1, max: 3, p1: 1 });
  expect(summarize([4, 1, 2, 3]).median).toBe(2.5);
  expect(summarize([7])).toEqual({ median: 7, p99: 7, min: 7, max: 7, p1: 7 });
});

test("of 1,000 values ten are above the p99, and ten below the p1", () => {
  fc.assert(
    fc.property(fc.shuffledSubarray([...Array(1000).keys()], { minLength: 1000 }), (values) => {
      expect(summarize(values)).toMatchObject({ p99: 989, p1: 10 });
    }),
  );
});

test("the tail is of the bad samples, and of few samples there is none", () => {
  const values = [...Array(1000).keys()];
  expect(tail(values, "ms")).toBe(989);
  expect(tail(values, "/s")).toBe(10);
  expect(tail(values, "Gbit/s")).toBe(10);
  expect(tail(values.slice(0, 20), "ms")).toBe(19);
  expect(tail(values.slice(0, 19), "ms")).toBeUndefined();
});

test("the ratio is ours over the peer's", () => {
  expect(ratio(row([1, 2, 3], [4]))).toBe(0.5);
});

test.for<[budget: Budget | undefined, kept: boolean | undefined]>([
  [undefined, undefined],
  [{ atMost: 0.5 }, true],
  [{ atMost: 0.49 }, false],
  [{ atLeast: 0.5 }, true],
  [{ atLeast: 0.51 }, false],
  [{ oursAtMost: 2 }, true],
  [{ oursAtMost: 1.9 }, false],
  [{ oursAtLeast: 2 }, true],
  [{ oursAtLeast: 2.1 }, false],
])("a budget of %j is kept by 2 against 4: %j", ([budget, kept]) => {
  expect(withinBudget(row([1, 2, 3], [4], budget))).toBe(kept);
});
