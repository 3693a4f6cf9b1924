// SPDX-License-Identifier: Apache-2.0
//
// Sets of addresses as intervals. Pure.
import { type Family, hostLength } from "./address.ts";
import { type Prefix, prefixSize } from "./prefix.ts";

/** From the first to the last address of a stretch, both in it, as numbers. */
export interface Interval {
  readonly first: bigint;
  readonly last: bigint;
}

/** The addresses that are in any of the family's prefixes, in ascending order; no two intervals overlap or touch. */
export function union(prefixes: readonly Prefix[], family: Family): Interval[] {
  return merge(
    prefixes
      .filter((prefix) => prefix.family === family)
      .map((prefix) => ({ first: prefix.base, last: prefix.base + prefixSize(prefix) - 1n })),
  );
}

/** What is in any of the intervals, in ascending order; no two overlap or touch. */
export function merge(intervals: readonly Interval[]): Interval[] {
  const own = [...intervals].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const merged: Interval[] = [];
  for (const next of own) {
    const previous = merged.at(-1);
    if (previous === undefined || next.first > previous.last + 1n) merged.push(next);
    else if (next.last > previous.last) merged[merged.length - 1] = { first: previous.first, last: next.last };
  }
  return merged;
}

/** What of an interval is in none of the holes, which neither overlap nor touch and are in ascending order. */
export function without({ first, last }: Interval, holes: readonly Interval[]): Interval[] {
  const left: Interval[] = [];
  let from = first;
  for (const hole of holes) {
    if (hole.last < from) continue;
    if (hole.first > last) break;
    if (hole.first > from) left.push({ first: from, last: hole.first - 1n });
    from = hole.last + 1n;
  }
  if (from <= last) left.push({ first: from, last });
  return left;
}

/** The last address of a family there is. */
export function lastAddress(family: Family): bigint {
  return (1n << BigInt(hostLength(family))) - 1n;
}
