// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../clock.ts";

/** A clock that stands still until a test moves it. */
export class VirtualClock implements Clock {
  #nowMs = Date.UTC(2027, 0, 15, 8);
  readonly #timers = new Set<{ readonly atMs: number; readonly callback: () => void }>();
  /** What random() says. */
  chance = 0.5;

  wallMs(): number {
    return this.#nowMs;
  }

  elapsedMs(): number {
    return this.#nowMs;
  }

  random(): number {
    return this.chance;
  }

  after(ms: number, callback: () => void): { cancel(): void } {
    const timer = { atMs: this.#nowMs + ms, callback };
    this.#timers.add(timer);
    return { cancel: () => this.#timers.delete(timer) };
  }

  /** In how many milliseconds the next timer is due; undefined when none is set. */
  get nextInMs(): number | undefined {
    const [first] = [...this.#timers].sort((a, b) => a.atMs - b.atMs);
    return first && first.atMs - this.#nowMs;
  }

  /** Goes on by so much, and calls back what is due until then, in its order. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const [first] = [...this.#timers].filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs);
      if (first === undefined) break;
      this.#timers.delete(first);
      this.#nowMs = Math.max(this.#nowMs, first.atMs);
      first.callback();
    }
    this.#nowMs = endMs;
  }
}
