// SPDX-License-Identifier: Apache-2.0
//
// Addresses of one subnet that are given out together: which are held, which rest, which are kept for an owner, which were
// never used. Knows positions in the subnet only; who holds them is the allocator's business.
//
// What was ever used is remembered as runs of neighbouring positions, so the next one that never was is one look-up away,
// however many are held around it. What was given back waits in queues, each in the order in which it gets ready.
import type { Prefix } from "../net/prefix.ts";
import { prefixSize } from "../net/prefix.ts";
import { type Resting, RestQueue } from "./rest-queue.ts";

/**
 * As long as fewer positions than this are held or were given back, never-used ones go first, so that an address rests as
 * long as can be. Above it those that have rested go first, so that what is remembered of a /64 stays bounded.
 */
export const FRESH_FIRST = 65_536;

/** Neighbouring positions, `end` excluded. */
export interface Span {
  readonly first: bigint;
  readonly end: bigint;
}

/** A position that can be given out now. */
export interface Candidate {
  readonly index: bigint;
  /** When it was last released, in milliseconds since 1970; undefined when it was never used. */
  readonly releasedAtMs: number | undefined;
  /** When anybody may have it, in milliseconds since 1970; undefined when it was never used. */
  readonly readyAtMs: number | undefined;
  /** Whom it is kept for until then, if anybody. */
  readonly owner: string | undefined;
}

/** Whom a position is kept for when it is given back, and how long in milliseconds; at least as long as any rests. */
export interface Keep {
  readonly owner: string;
  readonly ttlMs: number;
}

/** Counts of one pool; capacity = used + cooling + kept + free. */
export interface PoolCounts {
  readonly capacity: bigint;
  readonly used: number;
  /** Resting, and not kept for anybody. */
  readonly cooling: number;
  readonly kept: number;
  readonly free: bigint;
}

/**
 * Every operation takes constant time, amortised over the releases, and memory in the number of positions that are held
 * or were given back: neither depends on the size of the subnet. (Both grow with the number of spans and of different
 * times to live, which come from configurations.) Times given to one pool never go back.
 */
export class Pool {
  readonly #spans: readonly Span[];
  readonly #cooldownMs: number;
  readonly #capacity: bigint;
  readonly #held = new Set<bigint>();
  readonly #released = new Map<bigint, Resting>();
  readonly #cooling = new RestQueue();
  readonly #rested = new RestQueue();
  /** By time to live: in one queue what came earlier gets ready earlier. */
  readonly #kept = new Map<number, RestQueue>();
  #keptSize = 0;
  /** The latest that is kept for each owner. */
  readonly #owners = new Map<string, Resting>();
  /** Longest runs of positions that are held or released: first position to the one after the last, and the other way round. */
  readonly #runs = new Map<bigint, bigint>();
  readonly #runEnds = new Map<bigint, bigint>();
  /** The first span that may have a position that was never used. */
  #span = 0;

  /** @param spans what the pool gives out, in ascending order, none touching another */
  constructor(spans: readonly Span[], cooldownMs: number) {
    this.#spans = spans;
    this.#cooldownMs = cooldownMs;
    this.#capacity = spans.reduce((sum, { first, end }) => sum + (end - first), 0n);
  }

  /** Whether the pool gives this position out at all. */
  contains(index: bigint): boolean {
    return this.#spans.some(({ first, end }) => index >= first && index < end);
  }

  /** The first position the pool gives out; undefined when it gives out none. */
  get first(): bigint | undefined {
    return this.#spans[0]?.first;
  }

  /**
   * One that anybody may have: never used, or else the one that got ready first.
   * @param except a position that is spoken for in the same decision
   */
  available(nowMs: number, except?: bigint): Candidate | undefined {
    this.#settle(nowMs);
    const fresh = this.#fresh(except);
    if (fresh !== undefined && this.#held.size + this.#released.size < FRESH_FIRST) return fresh;
    return this.#rested.first(except) ?? fresh;
  }

  /**
   * What to give when nothing is available: of those that rest the one released longest ago; when none does, of those that
   * are kept for others. @param except see `available`
   */
  oldest(nowMs: number, except?: bigint): Candidate | undefined {
    this.#settle(nowMs);
    const resting = this.#rested.first(except) ?? this.#cooling.first(except);
    if (resting !== undefined) return resting;
    let oldest: Resting | undefined;
    for (const queue of this.#kept.values()) {
      const first = queue.first(except);
      if (first !== undefined && (oldest === undefined || first.releasedAtMs < oldest.releasedAtMs)) oldest = first;
    }
    return oldest;
  }

  /** This very position, which the pool contains, rested or not; undefined when it is held. */
  at(index: bigint, nowMs: number): Candidate | undefined {
    this.#settle(nowMs);
    return this.#held.has(index) ? undefined : (this.#released.get(index) ?? fresh(index));
  }

  /** What is kept for this owner: of several the latest. */
  keptFor(owner: string, nowMs: number): Candidate | undefined {
    this.#settle(nowMs);
    return this.#owners.get(owner);
  }

  /** Marks a position as held; the caller knows that nobody holds it. */
  hold(index: bigint): void {
    const resting = this.#released.get(index);
    if (resting === undefined) this.#touch(index);
    else {
      this.#unqueue(resting);
      this.#released.delete(index);
    }
    this.#held.add(index);
  }

  /** Marks a position as given back: the youngest of those that rest, or of those that are kept as long. */
  release(index: bigint, nowMs: number, keep?: Keep): void {
    const known = this.#released.get(index);
    if (known !== undefined) this.#unqueue(known);
    else if (!this.#held.delete(index)) this.#touch(index);
    const restMs = Math.max(this.#cooldownMs, keep?.ttlMs ?? 0);
    const resting: Resting = {
      index,
      releasedAtMs: nowMs,
      readyAtMs: nowMs + restMs,
      owner: keep?.owner,
      queue: undefined,
      previous: undefined,
      next: undefined,
    };
    this.#released.set(index, resting);
    if (keep === undefined) {
      this.#cooling.push(resting);
      return;
    }
    const queue = this.#kept.get(restMs) ?? new RestQueue();
    this.#kept.set(restMs, queue);
    queue.push(resting);
    this.#keptSize++;
    this.#owners.set(keep.owner, resting);
  }

  counts(nowMs: number): PoolCounts {
    this.#settle(nowMs);
    const used = this.#held.size;
    const cooling = this.#cooling.size;
    const kept = this.#keptSize;
    return { capacity: this.#capacity, used, cooling, kept, free: this.#capacity - BigInt(used + cooling + kept) };
  }

  /** When the next of those that aren't ready for anybody will be, in milliseconds since 1970; undefined when none waits. */
  nextReadyMs(nowMs: number): number | undefined {
    this.#settle(nowMs);
    const times = [this.#cooling, ...this.#kept.values()].flatMap((queue) => queue.first()?.readyAtMs ?? []);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** What isn't ready for anybody, the longest released first. Takes time in the released ones. */
  resting(nowMs: number): (Candidate & { readonly releasedAtMs: number; readonly readyAtMs: number })[] {
    this.#settle(nowMs);
    return [...this.#released.values()].filter(({ readyAtMs }) => readyAtMs > nowMs);
  }

  /** The first position that was never used. */
  #fresh(except: bigint | undefined): Candidate | undefined {
    for (let i = this.#span; i < this.#spans.length; i++) {
      const { first, end } = this.#spans[i] as Span;
      let index = this.#runs.get(first) ?? first;
      // No run crosses the end of a span, and none begins at the end of another.
      if (index === end && i === this.#span) this.#span++;
      if (index === except) index = this.#runs.get(index + 1n) ?? index + 1n;
      if (index < end) return fresh(index);
    }
    return undefined;
  }

  /** Joins a position that was never used to the runs on both its sides. */
  #touch(index: bigint): void {
    const first = this.#runEnds.get(index) ?? index;
    const end = this.#runs.get(index + 1n) ?? index + 1n;
    this.#runEnds.delete(index);
    this.#runs.delete(index + 1n);
    this.#runs.set(first, end);
    this.#runEnds.set(end, first);
  }

  /** Moves what has got ready to those that anybody may have, in the order in which it did. */
  #settle(nowMs: number): void {
    for (;;) {
      let due = ready(this.#cooling, nowMs);
      for (const queue of this.#kept.values()) {
        const first = ready(queue, nowMs);
        if (first !== undefined && (due === undefined || first.readyAtMs < due.readyAtMs)) due = first;
      }
      if (due === undefined) return;
      this.#unqueue(due);
      const rested = { ...due, owner: undefined };
      this.#released.set(due.index, rested);
      this.#rested.push(rested);
    }
  }

  /** Takes it out of the queue it waits in, and from its owner. */
  #unqueue(resting: Resting): void {
    const { queue, owner } = resting;
    queue?.remove(resting);
    if (owner === undefined) return;
    this.#keptSize--;
    const restMs = resting.readyAtMs - resting.releasedAtMs;
    if (queue?.size === 0) this.#kept.delete(restMs);
    if (this.#owners.get(owner) === resting) this.#owners.delete(owner);
  }
}

function ready(queue: RestQueue, nowMs: number): Resting | undefined {
  const first = queue.first();
  return first !== undefined && first.readyAtMs <= nowMs ? first : undefined;
}

function fresh(index: bigint): Candidate {
  return { index, releasedAtMs: undefined, readyAtMs: undefined, owner: undefined };
}

/** The positions of a subnet that may be given out at all. */
export function usableSpan(prefix: Prefix): Span {
  const end = prefixSize(prefix);
  // No room for reserved addresses: RFC 3021 (IPv4 /31), RFC 6164 (IPv6 /127), and single hosts.
  if (end <= 2n) return { first: 0n, end };
  // IPv6 has no broadcast; its first address is the subnet-router anycast address (RFC 4291, section 2.6.1).
  return { first: 1n, end: prefix.family === 6 ? end : end - 1n };
}
