// SPDX-License-Identifier: Apache-2.0

/** Time and chance, given so that an hour without an API server takes no hour in a test. */
export interface Clock {
  /** Milliseconds since 1970. */
  wallMs(): number;
  /** Milliseconds of a clock that is never set. */
  elapsedMs(): number;
  /** At least 0, less than 1. */
  random(): number;
  /** Calls back once, unless it is cancelled before. */
  after(ms: number, callback: () => void): { cancel(): void };
}

/** The machine's own. */
export const REAL_CLOCK: Clock = {
  wallMs: Date.now,
  elapsedMs: () => performance.now(),
  random: Math.random,
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};
