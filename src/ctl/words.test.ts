// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { formatAge, formatTable, plural } from "./words.ts";

test.for([
  [-5_000, "0s"],
  [59_999, "59s"],
  [60_000, "1m"],
  [3_599_000, "59m"],
  [86_399_000, "23h"],
  [86_400_000 * 12, "12d"],
] as const)("an age of %d ms is %s", ([ms, text]) => {
  expect(formatAge(ms)).toBe(text);
});

test("one is not many", () => {
  expect([plural(1, "address", "addresses"), plural(65_534, "address", "addresses")]).toEqual([
    "1 address",
    "65,534 addresses",
  ]);
});

test("a table's columns are as wide as their widest cells, and no line ends in spaces", () => {
  expect(formatTable([["A", "LONG", "C"], ["aaa", "b", ""], ["a"]])).toEqual(["A    LONG  C", "aaa  b", "a"]);
});
