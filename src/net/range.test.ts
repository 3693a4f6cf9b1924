// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parseRange, rangesMeet } from "./range.ts";

test.for([
  ["10.0.0.16/28", 4, 0x0a000010n, 0x0a00001fn, "10.0.0.16/28"],
  ["10.0.0.7", 4, 0x0a000007n, 0x0a000007n, "10.0.0.7"],
  ["10.0.0.7-10.0.0.9", 4, 0x0a000007n, 0x0a000009n, "10.0.0.7-10.0.0.9"],
  ["10.0.0.7 - 10.0.0.7", 4, 0x0a000007n, 0x0a000007n, "10.0.0.7"],
  ["fd00:0::1-fd00::a", 6, (0xfdn << 120n) + 1n, (0xfdn << 120n) + 10n, "fd00::1-fd00::a"],
] as const)("%s is a range", ([text, family, first, last, shown]) => {
  expect(parseRange(text)).toEqual({ family, first, last, text: shown });
});

test.for([
  ["10.0.0.9-10.0.0.7", "ends before it begins"],
  ["10.0.0.9-fd00::1", "has ends of two families"],
  ["10.0.0.1-10.0.0.2-10.0.0.3", "has more than two ends"],
  ["10.0.0.1/28", "is not a subnet, an address or a range"],
  ["ten", "is not a subnet, an address or a range"],
  ["", "is not a subnet, an address or a range"],
] as const)("%j is none: it %s", ([text, why]) => {
  expect(() => parseRange(text)).toThrow(`${JSON.stringify(text)} ${why}`);
});

test("ranges of one family meet where they share an address", () => {
  const meet = (a: string, b: string) => rangesMeet(parseRange(a), parseRange(b));
  expect(meet("10.0.0.0/30", "10.0.0.3-10.0.0.9")).toBe(true);
  expect(meet("10.0.0.0/30", "10.0.0.4")).toBe(false);
  // The same number in the other family.
  expect(meet("10.0.0.1", "::a00:1")).toBe(false);
});
