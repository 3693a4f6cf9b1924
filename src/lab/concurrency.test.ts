// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { inParallel } from "./concurrency.ts";

test("results are in the items' order and no more than the width are under way", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 20 }),
      fc.integer({ min: 1, max: 6 }),
      async (items, width) => {
        let now = 0;
        let most = 0;
        const results = await inParallel(items, width, async (turns, index) => {
          most = Math.max(most, ++now);
          for (let i = 0; i < turns; i++) await turn();
          now--;
          return index;
        });
        expect(results).toEqual(items.map((_, index) => index));
        expect(most).toBe(Math.min(width, items.length));
      },
    ),
    { numRuns: 30 },
  );
});

test("after a failure nothing is begun, what is under way ends, and the failure is thrown", async () => {
  const begun: number[] = [];
  const ended: number[] = [];
  const work = inParallel([0, 1, 2, 3, 4], 2, async (item) => {
    begun.push(item);
    if (item === 1) throw new Error("broken");
    await turn();
    ended.push(item);
  });
  await expect(work).rejects.toThrow("broken");
  expect(begun).toEqual([0, 1]);
  expect(ended).toEqual([0]);
});
