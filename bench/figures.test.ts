// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { number, times } from "./figures.ts";

test.for([
  [0.5249, "0.52"],
  [12.345, "12.35"],
  [0.0021, "0.002"],
  [0.00034, "0.0003"],
  [0, "0.00"],
  [Number.POSITIVE_INFINITY, "–"],
  [Number.NaN, "–"],
] as const)("a ratio of %d is %s", ([value, words]) => {
  expect(times(value)).toBe(words);
});

test.for([
  [12_345.6, "12,346"],
  [99.94, "99.9"],
  [1.234, "1.2"],
  [0.01234, "0.012"],
] as const)("%d is %s", ([value, words]) => {
  expect(number(value)).toBe(words);
});
