// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { judge, type LinkSight, type NetnsSight, type Sight } from "./retire-rules.ts";

const GRACE = 60_000;
const NOW = 1_000_000;
const CONFIRMED = 1_800_000_000_000;

/** Whether an attachment that always looked like this is given up after many passes. */
function isRetired(sight: Sight, ofThisBoot: boolean): boolean {
  const candidate = { ofThisBoot, confirmedAtMs: CONFIRMED };
  const first = judge(candidate, sight, undefined, NOW, GRACE);
  // One look is never enough.
  expect(first.kind).not.toBe("retire");
  if (first.kind !== "suspect") return false;
  return judge(candidate, sight, first.suspicion, NOW + GRACE, GRACE).kind === "retire";
}

test.for<[title: string, link: LinkSight, netns: NetnsSight, inThisBoot: boolean, inAnother: boolean]>([
  ["a link that is there, at a living namespace", "present", "namespace", false, false],
  ["a link that is there, at a path that is missing", "present", "missing", false, false],
  ["a link that is there, at a path that isn't visible", "present", "hidden", false, false],
  ["a link that is gone from a living namespace", "gone", "namespace", false, false],
  ["a link that is gone and a path that is missing", "gone", "missing", true, true],
  ["a link that is gone and a path that isn't visible", "gone", "hidden", true, true],
  ["a link that is gone and a path that couldn't be looked at", "gone", "unknown", false, false],
  ["a link that is gone and a path that is another namespace's now", "gone", "another", true, true],
  ["a link that is there, at a path that is another namespace's now", "present", "another", false, false],
  ["no link of ours and a path that is another namespace's now", "none", "another", true, true],
  ["a link that couldn't be asked for", "unknown", "missing", false, false],
  ["no link of ours and a living namespace", "none", "namespace", false, false],
  ["no link of ours and a path that is missing", "none", "missing", true, true],
  ["no link of ours and a path that isn't visible", "none", "hidden", false, true],
  ["no link of ours and a path that couldn't be looked at", "none", "unknown", false, false],
])("%s: given up is right", ([, link, netns, inThisBoot, inAnother]) => {
  expect(isRetired({ link, netns }, true)).toBe(inThisBoot);
  expect(isRetired({ link, netns }, false)).toBe(inAnother);
});

const DEAD: Sight = { link: "gone", netns: "missing" };
const candidate = { ofThisBoot: true, confirmedAtMs: CONFIRMED };
const suspicion = { confirmedAtMs: CONFIRMED, sinceMs: NOW };

test("within the grace period a suspicion stays as old as it is", () => {
  expect(judge(candidate, DEAD, suspicion, NOW + GRACE - 1, GRACE)).toEqual({ kind: "suspect", suspicion });
  expect(judge(candidate, DEAD, suspicion, NOW + GRACE, GRACE)).toEqual({ kind: "retire" });
});

test("a sign of life in between begins the grace period anew", () => {
  expect(judge(candidate, { link: "present", netns: "missing" }, suspicion, NOW + 10, GRACE)).toEqual({ kind: "keep" });
  expect(judge(candidate, DEAD, undefined, NOW + GRACE, GRACE)).toMatchObject({ suspicion: { sinceMs: NOW + GRACE } });
});

test("an ADD in between begins the grace period anew", () => {
  const again = { ...candidate, confirmedAtMs: CONFIRMED + 5 };
  expect(judge(again, DEAD, suspicion, NOW + GRACE, GRACE)).toEqual({
    kind: "suspect",
    suspicion: { confirmedAtMs: CONFIRMED + 5, sinceMs: NOW + GRACE },
  });
});

test("what was added in another boot is given up in the next pass", () => {
  expect(judge({ ...candidate, ofThisBoot: false }, DEAD, suspicion, NOW + 1, GRACE)).toEqual({ kind: "retire" });
});

test("whatever is seen, nothing is given up while its link or a namespace is there, nor before the grace period is over", () => {
  const sight = fc.record({
    link: fc.constantFrom<LinkSight>("none", "present", "gone", "unknown"),
    netns: fc.constantFrom<NetnsSight>("namespace", "hidden", "missing", "unknown"),
  });
  const pass = fc.record({ sight, afterMs: fc.integer({ min: 1, max: GRACE }) });
  fc.assert(
    fc.property(fc.array(pass, { maxLength: 20 }), (passes) => {
      let before: { confirmedAtMs: number; sinceMs: number } | undefined;
      let now = NOW;
      let lastSignOfLife = NOW;
      for (const one of passes) {
        now += one.afterMs;
        const alive = one.sight.link === "present" || one.sight.netns === "namespace";
        const verdict = judge(candidate, one.sight, before, now, GRACE);
        if (alive) expect(verdict.kind).toBe("keep");
        if (alive) lastSignOfLife = now;
        if (verdict.kind === "retire") {
          expect(now - lastSignOfLife).toBeGreaterThan(GRACE);
          return;
        }
        before = verdict.kind === "suspect" ? verdict.suspicion : undefined;
      }
    }),
  );
});
