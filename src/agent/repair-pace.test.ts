// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { FRESH, judgeLook, LOOK_AGAIN_MS, type Pace } from "./repair-pace.ts";

const LOST = ["no address", "no route"];
const MINUTE_MS = 60_000;

test("what two looks find is repaired, and not what only one of them finds", () => {
  const first = judgeLook(FRESH, LOST, 0);
  expect(first).toMatchObject({ repair: new Set(), again: true, pace: { nextMs: LOOK_AGAIN_MS } });
  const second = judgeLook(first.pace, ["no route", "no neighbour"], LOOK_AGAIN_MS);
  expect(second).toMatchObject({ repair: new Set(["no route"]), again: true });
});

test("what was taken away for a moment is left alone", () => {
  const { pace } = judgeLook(FRESH, LOST, 0);
  const second = judgeLook(pace, [], LOOK_AGAIN_MS);
  expect(second).toMatchObject({ repair: new Set(), again: false });
  expect(judgeLook(second.pace, LOST, 2 * LOOK_AGAIN_MS).repair).toEqual(new Set());
});

/** Loses everything again right after each repair, for so long; the times of the repairs. */
function flap(forMs: number): number[] {
  const repairs: number[] = [];
  let pace: Pace = FRESH;
  for (let now = 0; now < forMs; now = Math.max(now + LOOK_AGAIN_MS, pace.nextMs)) {
    const { repair, pace: next } = judgeLook(pace, LOST, now);
    if (repair.size > 0) repairs.push(now);
    pace = next;
  }
  return repairs;
}

test("one that keeps losing what it has is repaired ever more rarely, but never given up", () => {
  const repairs = flap(60 * MINUTE_MS);
  expect(repairs.filter((at) => at < MINUTE_MS).length).toBeLessThan(10);
  const gaps = repairs.slice(1).map((at, i) => at - (repairs[i] as number));
  expect(gaps).toEqual([...gaps].sort((a, b) => a - b));
  expect(gaps.at(-1)).toBeLessThan(2 * MINUTE_MS);
});

test("one that was quiet for long is repaired at once again", () => {
  let pace = judgeLook(judgeLook(FRESH, LOST, 0).pace, LOST, 200).pace;
  pace = judgeLook(judgeLook(pace, LOST, 1_000).pace, LOST, 1_200).pace;
  const later = 1_200 + 3 * MINUTE_MS;
  const { pace: after } = judgeLook(judgeLook(pace, LOST, later).pace, LOST, later + 200);
  expect(after.nextMs - (later + 200)).toBe(judgeLook(judgeLook(FRESH, LOST, 0).pace, LOST, 200).pace.nextMs - 200);
});

test("nothing is repaired that wasn't found, and a look that finds something is never the last", () => {
  const looks = fc.array(fc.tuple(fc.subarray(["a", "b", "c"]), fc.nat(100_000)), { maxLength: 30 });
  fc.assert(
    fc.property(looks, (all) => {
      let pace: Pace = FRESH;
      let now = 0;
      for (const [found, after] of all) {
        now = Math.max(now + after, pace.nextMs);
        const { repair, pace: next, again } = judgeLook(pace, found, now);
        expect(found).toEqual(expect.arrayContaining([...repair]));
        expect(again).toBe(found.length > 0);
        expect(next.nextMs).toBeGreaterThan(now);
        pace = next;
      }
    }),
  );
});
