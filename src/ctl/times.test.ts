// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { formatTime, parseTime } from "./times.ts";

/** Noon, wherever the test runs. */
const NOON = new Date(2026, 10, 23, 12, 0, 0).getTime();
const at = (day: number, hours: number, minutes: number, seconds = 0) =>
  new Date(2026, 10, day, hours, minutes, seconds).getTime();

test.for<[text: string, ms: number]>([
  ["11:03", at(23, 11, 3)],
  ["9:03:20", at(23, 9, 3, 20)],
  ["12:00", at(23, 12, 0)],
  ["14:03", at(22, 14, 3)],
  ["2026-11-20 14:03", at(20, 14, 3)],
  ["2026-11-20T14:03:20", at(20, 14, 3, 20)],
  ["2026-11-20", at(20, 0, 0)],
  ["2026-11-20T14:03:20Z", Date.UTC(2026, 10, 20, 14, 3, 20)],
  ["2026-11-20 14:03:20+02:00", Date.UTC(2026, 10, 20, 12, 3, 20)],
])("at noon of the 23rd %s is a time", ([text, ms]) => {
  expect(parseTime(text, NOON)).toBe(ms);
});

test.for(["", "1", "24:00", "11:60", "yesterday", "2026-13-01", "2026-11-20T25:00", "14:03 UTC"])(
  "%s is no time",
  (text) => {
    expect(() => parseTime(text, NOON)).toThrow(/is no time like 14:03/);
  },
);

test("a time is told as it can be said again", () => {
  expect(formatTime(at(3, 4, 5, 6))).toBe("2026-11-03 04:05:06");
  expect(parseTime(formatTime(at(3, 4, 5, 6)), NOON)).toBe(at(3, 4, 5, 6));
});
