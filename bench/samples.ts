// SPDX-License-Identifier: Apache-2.0
//
// What was measured, and what is said of it. Pure.

/** One figure of a case, measured for us and for the peer in turn in one run. */
export interface Row {
  /** "ADD: wall". */
  readonly what: string;
  readonly unit: "µs" | "ms" | "MB" | "/s" | "Gbit/s";
  /** At least one each, in the order in which they were taken. */
  readonly ours: readonly number[];
  readonly peer: readonly number[];
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
    min: at(0),
    max: at(sorted.length - 1),
  };
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
