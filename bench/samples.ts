// SPDX-License-Identifier: Apache-2.0
//
// What was measured, and what is said of it. Pure.

/** What was taken of us and of the peer in turn in one run, in that order. */
export interface Pairs<Sample> {
  readonly ours: readonly Sample[];
  readonly peer: readonly Sample[];
}

/** One figure of a case. At least one sample each. */
export interface Row extends Pairs<number> {
  /** "ADD: wall". */
  readonly what: string;
  readonly unit: "µs" | "ms" | "MB" | "/s" | "Gbit/s";
  /** Who the peer is: "ptp + host-local". */
  readonly peerName: string;
  readonly budget?: Budget;
}

/** What the design allows (section 6), of the medians: a bound of the ratio, or of our own figure in the row's unit. */
export type Budget =
  | { readonly atMost: number }
  | { readonly atLeast: number }
  | { readonly oursAtMost: number }
  | { readonly oursAtLeast: number };

export interface Summary {
  readonly median: number;
  /** The value that 99 of 100 don't exceed (nearest rank). */
  readonly p99: number;
  /** The value that 99 of 100 reach. */
  readonly p1: number;
  readonly min: number;
  readonly max: number;
}

/** @param values at least one, in any order */
export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number) => sorted[index] as number;
  const middle = sorted.length >> 1;
  return {
    median: sorted.length % 2 === 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2,
    p99: at(Math.ceil(sorted.length * 0.99) - 1),
    p1: at(Math.floor(sorted.length * 0.01)),
    min: at(0),
    max: at(sorted.length - 1),
  };
}

/** With fewer samples nothing is said of the bad ones. */
const ENOUGH = 20;

/**
 * What 99 of 100 samples are better than or as good as: the p99, or the p1 of what is better the more it is. Undefined of few
 * samples; of fewer than 100 it is the worst one.
 */
export function tail(values: readonly number[], unit: Row["unit"]): number | undefined {
  if (values.length < ENOUGH) return undefined;
  const { p1, p99 } = summarize(values);
  return unit.endsWith("/s") ? p1 : p99;
}

/** Ours over the peer's, of the medians. */
export function ratio({ ours, peer }: Row): number {
  return summarize(ours).median / summarize(peer).median;
}

/** Whether the budget is kept; undefined where there is none. */
export function withinBudget(row: Row): boolean | undefined {
  const { budget } = row;
  if (budget === undefined) return undefined;
  if ("atMost" in budget) return ratio(row) <= budget.atMost;
  if ("atLeast" in budget) return ratio(row) >= budget.atLeast;
  const { median } = summarize(row.ours);
  return "oursAtMost" in budget ? median <= budget.oursAtMost : median >= budget.oursAtLeast;
}
