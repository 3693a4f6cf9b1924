// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { Backoff } from "./backoff.ts";

/** The waits of so many failures, each right after the wait before. */
function waits(count: number, random: number): number[] {
  const backoff = new Backoff();
  let nowMs = 0;
  return Array.from({ length: count }, () => {
    const waitMs = backoff.next(nowMs, random);
    nowMs += waitMs;
    return waitMs;
  });
}

test("waits double up to half a minute, and each is drawn from once to twice that", () => {
  expect(waits(8, 0)).toEqual([800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
  expect(waits(8, 0.5)).toEqual([1200, 2400, 4800, 9600, 19_200, 38_400, 45_000, 45_000]);
});

test("two minutes without a failure make the next wait a first one", () => {
  const backoff = new Backoff();
  for (let i = 0; i < 5; i++) backoff.next(0, 0);
  expect(backoff.next(0, 0)).toBe(25_600);
  expect(backoff.next(25_600 + 119_999, 0)).toBe(30_000);
  expect(backoff.next(25_600 + 119_999 + 30_000 + 120_000, 0)).toBe(800);
});

test("what the server asks for is waited at least", () => {
  expect(new Backoff().next(0, 0, 7000)).toBe(7000);
  expect(new Backoff().next(0, 0, 100)).toBe(800);
});
