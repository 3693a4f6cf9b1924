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
  const own = prefixes
    .filter((prefix) => prefix.family === family)
    .map((prefix) => ({ first: prefix.base, last: prefix.base + prefixSize(prefix) - 1n }))
    .sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const merged: Interval[] = [];
  for (const next of own) {
    const previous = merged.at(-1);
    if (previous === undefined || next.first > previous.last + 1n) merged.push(next);
    else if (next.last > previous.last) merged[merged.length - 1] = { first: previous.first, last: next.last };
  }
  return merged;
}

/** The last address of a family there is. */
export function lastAddress(family: Family): bigint {
  return (1n << BigInt(hostLength(family))) - 1n;
}
