// SPDX-License-Identifier: Apache-2.0

/** Requests that keep coming put a pass off for this many settling times and no longer. */
const MOST_SETTLES = 10;
/** A pass that is asked for again and again rests this many times as long as it took, but no longer than that in milliseconds. */
const REST_FACTOR = 3;
const REST_MAX_MS = 500;

/** The passes of the process that have begun and not ended, and wait for nobody else. */
const underWay = new Set<{ readonly name: string; readonly begun: number }>();

/** Names of the loops whose pass has been running for longer than this, in milliseconds, at `now` by performance.now(). */
export function stuckLoops(now: number, longerThanMs: number): string[] {
  return [...underWay].filter(({ begun }) => now - begun > longerThanMs).map(({ name }) => name);
}

/**
 * Runs one pass at a time: soon after it is asked, again at intervals, and sooner again after a failure. Any number of
 * requests that come while a pass runs are one more pass, after a rest, so that a storm of them leaves the daemon time for others.
 */
export class Loop {
  readonly #pass: () => Promise<void>;
  readonly #options: LoopOptions;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  /** When the first request came that no pass has begun after, by performance.now(). */
  #askedAt: number | undefined;
  /** Before this, by performance.now(), no request is worth another pass. */
  #restsUntil = 0;
  #stopped = false;

  constructor(pass: () => Promise<void>, options: LoopOptions) {
    this.#pass = pass;
    this.#options = options;
  }

  /** Asks for a pass. Events only say "look again", so nothing is passed on. */
  request(): void {
    const now = performance.now();
    this.#askedAt ??= now;
    const { settleMs } = this.#options;
    const settled = Math.min(settleMs, this.#askedAt + MOST_SETTLES * settleMs - now);
    this.#schedule(Math.max(0, settled, this.#restsUntil - now));
  }

  /** Ends the loop once the pass that runs, if any, is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #schedule(afterMs: number): void {
    if (this.#stopped || this.#running !== undefined) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#running = this.#run();
    }, afterMs);
  }

  async #run(): Promise<void> {
    this.#askedAt = undefined;
    const begun = performance.now();
    const pass = { name: this.#options.name, begun };
    if (this.#options.waitsForOthers !== true) underWay.add(pass);
    let nextMs = this.#options.intervalMs;
    try {
      await this.#pass();
    } catch (error) {
      nextMs = this.#options.retryMs;
      this.#options.onError(error);
    }
    underWay.delete(pass);
    this.#running = undefined;
    const now = performance.now();
    const restMs = Math.min(REST_MAX_MS, REST_FACTOR * (now - begun));
    this.#restsUntil = now + restMs;
    this.#schedule(this.#askedAt !== undefined ? Math.max(this.#options.settleMs, restMs) : nextMs);
  }
}

export interface LoopOptions {
  /** What it looks after, for people. */
  readonly name: string;
  /** Its passes wait for other machines: one that has no end is their fault, and no sign that this process is stuck. */
  readonly waitsForOthers?: true;
  /** How long to wait after a request for more of them, in milliseconds. */
  readonly settleMs: number;
  /** Time between passes that nobody asked for. */
  readonly intervalMs: number;
  /** Time to the next pass after one that threw. */
  readonly retryMs: number;
  readonly onError: (error: unknown) => void;
}
