// SPDX-License-Identifier: Apache-2.0
//
// When an attachment that differs from its record is repaired: at the second look that finds the same, because plugins
// behind us take things away for a moment; and ever later if it keeps differing, so that a pod that takes its own
// addresses away costs no more than one that doesn't. Pure.

/** Between two looks at the same attachment, in milliseconds. */
export const LOOK_AGAIN_MS = 200;

/** What an attachment has to wait for after a repair, in milliseconds: doubled each time, up to the longest. */
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 60_000;

/** Once nothing had to be repaired for so long, the next repair is the first again. */
const QUIET_MS = 120_000;

/** What is known of one attachment. Times are of a clock that is never set. */
export interface Pace {
  /** What the last look found; undefined when it found nothing that can be repaired. */
  readonly found: ReadonlySet<string> | undefined;
  /** Not looked at before. */
  readonly nextMs: number;
  readonly repairedMs: number;
  /** How long the next repair's wait will be. */
  readonly waitMs: number;
}

export const FRESH: Pace = {
  found: undefined,
  nextMs: Number.NEGATIVE_INFINITY,
  repairedMs: Number.NEGATIVE_INFINITY,
  waitMs: FIRST_WAIT_MS,
};

/**
 * What follows from a look.
 * @param found what differs and can be repaired, a sentence each
 * @returns what is to be repaired now, and the pace from now on; `again` says whether another look has to come
 */
export function judgeLook(
  before: Pace,
  found: readonly string[],
  nowMs: number,
): { readonly repair: ReadonlySet<string>; readonly pace: Pace; readonly again: boolean } {
  const repair = new Set(found.filter((text) => before.found?.has(text)));
  if (repair.size === 0) {
    const pace = { ...before, found: found.length === 0 ? undefined : new Set(found), nextMs: nowMs + LOOK_AGAIN_MS };
    return { repair, pace, again: found.length > 0 };
  }
  const waitMs = nowMs - before.repairedMs >= QUIET_MS ? FIRST_WAIT_MS : before.waitMs;
  const next = { nextMs: nowMs + waitMs, repairedMs: nowMs, waitMs: Math.min(2 * waitMs, LONGEST_WAIT_MS) };
  // What it needs besides is found after the wait, at two looks again.
  return { repair, pace: { found: undefined, ...next }, again: true };
}
