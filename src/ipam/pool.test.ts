// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parsePrefix } from "../net/prefix.ts";
import { POOL_LIMIT, Pool } from "./pool.ts";

const REST = 120_000;
const NOW = 1_800_000_000_000;

function pool(cidr: string) {
  return new Pool(parsePrefix(cidr), REST);
}

test.for([
  ["10.0.0.0/24", 1, 254],
  ["10.0.0.0/30", 1, 2],
  ["10.0.0.0/31", 0, 2],
  ["10.0.0.1/32", 0, 1],
  // 65,536 addresses, both reserved ones among them.
  ["10.0.0.0/16", 1, 65_534],
  // The broadcast address is beyond the limit.
  ["10.0.0.0/8", 1, 65_535],
  ["0.0.0.0/0", 1, 65_535],
  ["fd00::/64", 1, 65_535],
  ["fd00::/112", 1, 65_535],
  ["fd00::/126", 1, 3],
  ["fd00::/127", 0, 2],
  ["fd00::1/128", 0, 1],
] as const)("%s begins at position %i and has %i addresses to give", ([cidr, first, capacity]) => {
  const it = pool(cidr);
  expect(it.available(NOW)).toEqual({ index: first, releasedAtMs: undefined });
  expect(it.counts(NOW)).toEqual({ capacity, used: 0, cooling: 0, free: capacity });
  expect(it.contains(BigInt(first))).toBe(true);
  expect(it.contains(BigInt(first - 1))).toBe(false);
  expect(it.contains(BigInt(first + capacity - 1))).toBe(true);
  expect(it.contains(BigInt(first + capacity))).toBe(false);
});

test("a pool hands out every one of its positions exactly once before it uses one again", () => {
  const it = pool("fd00::/64");
  const seen = new Set<number>();
  for (let candidate = it.available(NOW); candidate !== undefined; candidate = it.available(NOW)) {
    expect(seen.has(candidate.index)).toBe(false);
    seen.add(candidate.index);
    it.hold(candidate.index);
    // Given back at once, each second one: resting is not free.
    if (candidate.index % 2 === 0) it.release(candidate.index, NOW);
  }
  expect(seen.size).toBe(POOL_LIMIT - 1);
});

test("after the never-used positions come the rested ones, longest rested first", () => {
  const it = pool("10.0.0.0/29");
  for (const index of [1, 2, 3, 4, 5, 6]) it.hold(index);
  it.release(4, NOW);
  it.release(2, NOW + 10);
  expect(it.available(NOW + REST - 1)).toBeUndefined();
  expect(it.counts(NOW + REST - 1)).toEqual({ capacity: 6, used: 4, cooling: 2, free: 0 });
  expect(it.available(NOW + REST)).toEqual({ index: 4, releasedAtMs: NOW });
  expect(it.counts(NOW + REST)).toEqual({ capacity: 6, used: 4, cooling: 1, free: 1 });
  it.hold(4);
  expect(it.available(NOW + REST)).toBeUndefined();
  expect(it.available(NOW + REST + 10)).toEqual({ index: 2, releasedAtMs: NOW + 10 });
});

test("a position that is spoken for is passed over", () => {
  const it = pool("10.0.0.0/29");
  it.hold(2);
  expect(it.available(NOW, 1)).toEqual({ index: 3, releasedAtMs: undefined });
  expect(it.available(NOW)).toEqual({ index: 1, releasedAtMs: undefined });
  for (const index of [1, 3, 4, 5, 6]) it.hold(index);
  it.release(4, NOW);
  it.release(5, NOW + 1);
  expect(it.oldest(NOW + 1, 4)).toEqual({ index: 5, releasedAtMs: NOW + 1 });
  expect(it.available(NOW + REST, 4)).toBeUndefined();
  expect(it.available(NOW + REST + 1, 4)?.index).toBe(5);
  expect(it.oldest(NOW, 4)?.index).toBe(5);
});

test("one position is told by itself: never used, resting, rested or held", () => {
  const it = pool("10.0.0.0/29");
  expect(it.at(3, NOW)).toEqual({ index: 3, releasedAtMs: undefined });
  it.hold(3);
  expect(it.at(3, NOW)).toBeUndefined();
  it.release(3, NOW);
  const resting = { index: 3, releasedAtMs: NOW };
  expect(it.at(3, NOW + 1)).toEqual(resting);
  expect([it.hasRested(resting, NOW + REST - 1), it.hasRested(resting, NOW + REST)]).toEqual([false, true]);
  expect(it.hasRested({ index: 4, releasedAtMs: undefined }, NOW)).toBe(true);
});

test("the oldest is told whether it has rested or not", () => {
  const it = pool("10.0.0.0/31");
  it.hold(0);
  it.hold(1);
  expect(it.oldest(NOW)).toBeUndefined();
  it.release(1, NOW);
  it.release(0, NOW + 1);
  expect(it.available(NOW + 2)).toBeUndefined();
  expect(it.oldest(NOW + 2)).toEqual({ index: 1, releasedAtMs: NOW });
});

test("after the clock was set back an address rests once more, and no longer", () => {
  const it = pool("10.0.0.0/31");
  const year = 365 * 24 * 3_600_000;
  it.hold(0);
  it.hold(1);
  it.release(0, NOW + year);
  it.release(1, NOW + year + 5);
  // Somebody looks once after the clock was set back; both count from then on.
  expect(it.available(NOW)).toBeUndefined();
  expect(it.counts(NOW + REST - 1)).toMatchObject({ cooling: 2 });
  expect(it.available(NOW + REST)?.index).toBe(0);
  it.hold(0);
  expect(it.available(NOW + REST)?.index).toBe(1);
});
