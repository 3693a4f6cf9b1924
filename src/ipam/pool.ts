// SPDX-License-Identifier: Apache-2.0
//
// The addresses of one subnet: which are held, which rest, which were never used. Knows positions in the subnet only; who
// holds them is the allocator's business.
import { type Prefix, prefixSize } from "../net/prefix.ts";

/** How many positions a pool looks at, counted from the subnet's first, so that a /64 has bounded state. */
export const POOL_LIMIT = 65_536;

/** A position that can be given out now. */
export interface Candidate {
  readonly index: number;
  /** When it was last released, in milliseconds since 1970; undefined when it was never used. */
  readonly releasedAtMs: number | undefined;
}

/** Counts of one pool; capacity = used + cooling + free. */
export interface PoolCounts {
  readonly capacity: number;
  readonly used: number;
  readonly cooling: number;
  readonly free: number;
}

/**
 * Every operation but `counts` takes constant time (amortised: the search for a never-used position passes each position
 * once in a pool's life).
 */
export class Pool {
  readonly prefix: Prefix;
  readonly #cooldownMs: number;
  readonly #first: number;
  /** One after the last usable position. */
  readonly #end: number;
  readonly #held = new Set<number>();
  /** Position to release time, in the order of release, so the oldest comes first. Rested ones stay until they are used. */
  readonly #released = new Map<number, number>();
  /** Every usable position before this one is held or released. */
  #cursor: number;
  /** Upper bound of the times in #released. */
  #newestMs = 0;

  constructor(prefix: Prefix, cooldownMs: number) {
    this.prefix = prefix;
    this.#cooldownMs = cooldownMs;
    ({ first: this.#first, end: this.#end } = usableRange(prefix));
    this.#cursor = this.#first;
  }

  /** Whether the pool gives this position out at all: not reserved, and within the limit. */
  contains(index: bigint): boolean {
    return index >= BigInt(this.#first) && index < BigInt(this.#end);
  }

  /** The first position the pool gives out. */
  get first(): number {
    return this.#first;
  }

  /**
   * A position that was never used, or else the one that has rested longest and long enough.
   * @param except a position that is spoken for in the same decision; with one, time grows with what is held around it
   */
  available(nowMs: number, except?: number): Candidate | undefined {
    while (this.#cursor < this.#end && this.#isUsed(this.#cursor)) this.#cursor++;
    for (let index = this.#cursor; index < this.#end; index++) {
      if (index !== except && !this.#isUsed(index)) return { index, releasedAtMs: undefined };
    }
    const oldest = this.oldest(nowMs, except);
    return oldest !== undefined && this.hasRested(oldest, nowMs) ? oldest : undefined;
  }

  /** The position that was released longest ago, rested or not. @param except see `available` */
  oldest(nowMs: number, except?: number): Candidate | undefined {
    this.#noticeClock(nowMs);
    for (const [index, releasedAtMs] of this.#released) if (index !== except) return { index, releasedAtMs };
    return undefined;
  }

  /** This very position, which the pool contains, rested or not; undefined when it is held. */
  at(index: number, nowMs: number): Candidate | undefined {
    this.#noticeClock(nowMs);
    return this.#held.has(index) ? undefined : { index, releasedAtMs: this.#released.get(index) };
  }

  /** Whether a position was never used or has rested long enough. */
  hasRested({ releasedAtMs }: Candidate, nowMs: number): boolean {
    return releasedAtMs === undefined || nowMs - releasedAtMs >= this.#cooldownMs;
  }

  /** Marks a position as held; the caller knows that nobody holds it. */
  hold(index: number): void {
    this.#released.delete(index);
    this.#held.add(index);
  }

  /** Marks a position as given back: the youngest of those that rest. */
  release(index: number, nowMs: number): void {
    this.#noticeClock(nowMs);
    this.#held.delete(index);
    this.#released.delete(index);
    this.#released.set(index, nowMs);
    this.#newestMs = Math.max(this.#newestMs, nowMs);
  }

  counts(nowMs: number): PoolCounts {
    this.#noticeClock(nowMs);
    const capacity = this.#end - this.#first;
    const used = this.#held.size;
    let rested = 0;
    for (const releasedAtMs of this.#released.values()) {
      // They are in the order of their times, so the first that still rests ends the search.
      if (nowMs - releasedAtMs < this.#cooldownMs) break;
      rested++;
    }
    const cooling = this.#released.size - rested;
    return { capacity, used, cooling, free: capacity - used - cooling };
  }

  /** The positions that rest, the longest released first, each with the end of its rest. Takes time in the released ones. */
  resting(nowMs: number): { readonly index: number; readonly releasedAtMs: number; readonly restsUntilMs: number }[] {
    this.#noticeClock(nowMs);
    return [...this.#released]
      .filter(([, releasedAtMs]) => nowMs - releasedAtMs < this.#cooldownMs)
      .map(([index, releasedAtMs]) => ({ index, releasedAtMs, restsUntilMs: releasedAtMs + this.#cooldownMs }));
  }

  #isUsed(index: number): boolean {
    return this.#held.has(index) || this.#released.has(index);
  }

  /**
   * A release time in the future means that the clock was set back since. Such an address counts as released now: it
   * rests once more at most, and not until the clock has caught up. Also keeps the times in ascending order.
   */
  #noticeClock(nowMs: number): void {
    if (this.#newestMs <= nowMs) return;
    for (const [index, releasedAtMs] of this.#released) if (releasedAtMs > nowMs) this.#released.set(index, nowMs);
    this.#newestMs = nowMs;
  }
}

/** The positions a pool may give out, `end` excluded. */
function usableRange(prefix: Prefix): { first: number; end: number } {
  const size = prefixSize(prefix);
  const end = size > BigInt(POOL_LIMIT) ? POOL_LIMIT : Number(size);
  // No room for reserved addresses: RFC 3021 (IPv4 /31), RFC 6164 (IPv6 /127), and single hosts.
  if (size <= 2n) return { first: 0, end };
  // IPv6 has no broadcast; its first address is the subnet-router anycast address (RFC 4291, section 2.6.1).
  if (prefix.family === 6) return { first: 1, end };
  return { first: 1, end: BigInt(end) === size ? end - 1 : end };
}
