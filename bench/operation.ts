// SPDX-License-Identifier: Apache-2.0
//
// What the worker is told to run, and what it tells of it. Plain data: it goes between two processes.

/** One plugin run for one verb, as a runtime runs it. */
export interface Step {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** The configuration; the worker puts in `prevResult`. */
  readonly conf: object;
}

/** What a runtime does for one call of its own: a plugin, or all plugins of a chain one after the other. */
export interface Operation {
  readonly steps: readonly Step[];
  /** What the first step gets as prevResult; of each further one it is what the step before printed, if it printed anything. */
  readonly prevResult?: object;
}

export interface Measured {
  readonly wallMs: number;
  /** User and system time of all steps. */
  readonly cpuMs: number;
  /** What the last step printed. */
  readonly output: string;
  /** Absent when every step succeeded: what the one printed that didn't. */
  readonly failure?: string;
}

export interface Batch {
  readonly operations: readonly Operation[];
  /** How many run at once. */
  readonly inFlight: number;
}

export interface BatchResult {
  /** From the first start to the last end. */
  readonly wallMs: number;
  readonly measured: readonly Measured[];
}
