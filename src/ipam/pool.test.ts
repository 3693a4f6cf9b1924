// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePrefix } from "../net/prefix.ts";
import { type Candidate, FRESH_FIRST, Pool, type Span, usableSpan } from "./pool.ts";

const REST = 120_000;
const NOW = 1_800_000_000_000;

function pool(cidr: string) {
  return new Pool([usableSpan(parsePrefix(cidr))], REST);
}

const fresh = (index: bigint): Candidate => ({
  index,
  releasedAtMs: undefined,
  readyAtMs: undefined,
  owner: undefined,
});

test.for([
  ["10.0.0.0/24", 1n, 254n],
  ["10.0.0.0/30", 1n, 2n],
  ["10.0.0.0/31", 0n, 2n],
  ["10.0.0.1/32", 0n, 1n],
  ["10.0.0.0/16", 1n, 65_534n],
  ["10.0.0.0/8", 1n, (1n << 24n) - 2n],
  ["0.0.0.0/0", 1n, (1n << 32n) - 2n],
  ["fd00::/48", 1n, (1n << 80n) - 1n],
  ["fd00::/64", 1n, (1n << 64n) - 1n],
  ["fd00::/112", 1n, 65_535n],
  ["fd00::/126", 1n, 3n],
  ["fd00::/127", 0n, 2n],
  ["fd00::1/128", 0n, 1n],
] as const)(
  "%s begins at position %i and has %i addresses to give, the last as good as the first",
  ([cidr, first, capacity]) => {
    const it = pool(cidr);
    const last = first + capacity - 1n;
    expect(it.available(NOW)).toEqual(fresh(first));
    expect(it.counts(NOW)).toEqual({ capacity, used: 0, cooling: 0, kept: 0, free: capacity });
    expect([first - 1n, first, last, last + 1n].map((index) => it.contains(index))).toEqual([false, true, true, false]);
    it.hold(last);
    expect(it.counts(NOW)).toMatchObject({ used: 1, free: capacity - 1n });
  },
);

test("a /16 is given out whole, every position once, before one is used again", () => {
  const it = pool("10.0.0.0/16");
  const seen = new Set<bigint>();
  for (let candidate = it.available(NOW); candidate !== undefined; candidate = it.available(NOW)) {
    expect(seen.has(candidate.index)).toBe(false);
    seen.add(candidate.index);
    it.hold(candidate.index);
    // Given back at once, each second one: resting is not free.
    if (candidate.index % 2n === 0n) it.release(candidate.index, NOW);
  }
  expect(seen.size).toBe(65_534);
});

test("of a /64 no more is remembered than it takes for a long rest: then what has rested goes first", () => {
  const it = pool("fd00::/64");
  for (let i = 1n; i <= FRESH_FIRST; i++) {
    const { index } = it.available(NOW) as Candidate;
    expect(index).toBe(i);
    it.hold(index);
    it.release(index, NOW + Number(i));
  }
  expect(it.available(NOW + FRESH_FIRST)).toEqual(fresh(BigInt(FRESH_FIRST) + 1n));
  expect(it.available(NOW + FRESH_FIRST + REST)).toMatchObject({ index: 1n });
});

test("a position that is spoken for is passed over", () => {
  const it = pool("10.0.0.0/29");
  it.hold(2n);
  expect(it.available(NOW, 1n)).toEqual(fresh(3n));
  expect(it.available(NOW)).toEqual(fresh(1n));
  for (const index of [1n, 3n, 4n, 5n, 6n]) it.hold(index);
  it.release(4n, NOW);
  it.release(5n, NOW + 1);
  expect(it.oldest(NOW + 1, 4n)).toMatchObject({ index: 5n, releasedAtMs: NOW + 1 });
  expect(it.available(NOW + REST, 4n)).toBeUndefined();
  expect(it.available(NOW + REST + 1, 4n)?.index).toBe(5n);
});

/** The same by looking at every position, every time. */
class Reference {
  readonly spans: readonly Span[];
  readonly positions: bigint[];
  readonly held = new Set<bigint>();
  readonly released = new Map<bigint, { releasedAtMs: number; readyAtMs: number; owner: string | undefined }>();
  readonly latest = new Map<string, bigint>();
  constructor(spans: readonly Span[]) {
    this.spans = spans;
    this.positions = spans.flatMap(({ first, end }) =>
      Array.from({ length: Number(end - first) }, (_, i) => first + BigInt(i)),
    );
  }
  at(index: bigint, nowMs: number): Candidate | undefined {
    if (this.held.has(index)) return undefined;
    const known = this.released.get(index);
    if (known === undefined) return fresh(index);
    return { index, ...known, owner: known.readyAtMs > nowMs ? known.owner : undefined };
  }
  #free(nowMs: number, except?: bigint): Candidate[] {
    return this.positions
      .filter((index) => index !== except)
      .map((index) => this.at(index, nowMs))
      .filter((one) => one !== undefined);
  }
  available(nowMs: number, except?: bigint) {
    const free = this.#free(nowMs, except);
    const ready = free.filter(({ readyAtMs = Infinity }) => readyAtMs <= nowMs);
    return free.find(({ readyAtMs }) => readyAtMs === undefined) ?? ready.sort(by("readyAtMs"))[0];
  }
  oldest(nowMs: number, except?: bigint) {
    const used = this.#free(nowMs, except).filter(({ readyAtMs }) => readyAtMs !== undefined);
    const ready = used.filter(({ readyAtMs = 0 }) => readyAtMs <= nowMs).sort(by("readyAtMs"));
    const cooling = used.filter(({ owner }) => owner === undefined).sort(by("releasedAtMs"));
    return ready[0] ?? cooling[0] ?? used.sort(by("releasedAtMs"))[0];
  }
  keptFor(owner: string, nowMs: number) {
    const index = this.latest.get(owner);
    const candidate = index === undefined ? undefined : this.at(index, nowMs);
    return candidate?.owner === owner ? candidate : undefined;
  }
  hold(index: bigint) {
    this.held.add(index);
    this.released.delete(index);
    for (const [owner, latest] of this.latest) if (latest === index) this.latest.delete(owner);
  }
  release(index: bigint, nowMs: number, keep?: { owner: string; ttlMs: number }) {
    this.held.delete(index);
    const readyAtMs = nowMs + Math.max(REST, keep?.ttlMs ?? 0);
    this.released.set(index, { releasedAtMs: nowMs, readyAtMs, owner: keep?.owner });
    if (keep !== undefined) this.latest.set(keep.owner, index);
  }
  nextReadyMs(nowMs: number) {
    const times = [...this.released.values()].map(({ readyAtMs }) => readyAtMs).filter((ms) => ms > nowMs);
    return times.length === 0 ? undefined : Math.min(...times);
  }
  counts(nowMs: number) {
    const states = this.positions.map((index) => this.at(index, nowMs));
    const resting = states.filter((one) => (one?.readyAtMs ?? 0) > nowMs);
    const kept = resting.filter((one) => one?.owner !== undefined).length;
    const used = this.held.size;
    const capacity = this.positions.length;
    const cooling = resting.length - kept;
    return {
      capacity: BigInt(capacity),
      used,
      cooling,
      kept,
      free: BigInt(capacity - used - cooling - kept),
    };
  }
}

function by(key: "readyAtMs" | "releasedAtMs") {
  return (a: Candidate, b: Candidate) => (a[key] ?? 0) - (b[key] ?? 0);
}

/** What decides about a candidate. Of several that got ready at once any will do. */
function shape(candidate: Candidate | undefined) {
  if (candidate === undefined) return undefined;
  const { index, releasedAtMs, readyAtMs, owner } = candidate;
  return readyAtMs === undefined ? { index } : { readyAtMs, releasedAtMs, owner };
}

test("any sequence of holds and releases leaves what looking at every position finds", () => {
  const spans: Span[] = [
    { first: 1n, end: 4n },
    { first: 6n, end: 7n },
    { first: 9n, end: 13n },
  ];
  const index = fc.nat({ max: 7 });
  const except = fc.option(fc.constantFrom(...[1, 2, 3, 6, 9, 12].map(BigInt)), { nil: undefined });
  const keep = fc.option(
    fc.record({ owner: fc.constantFrom("a", "b"), ttlMs: fc.constantFrom(1, 2 * REST, 5 * REST) }),
    { nil: undefined },
  );
  const step = fc.oneof(
    fc.record({ kind: fc.constant("hold" as const), index }),
    fc.record({ kind: fc.constant("take" as const), except }),
    fc.record({ kind: fc.constant("release" as const), index, keep }),
    fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 3 * REST }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), except, (steps, spoken) => {
      const it = new Pool(spans, REST);
      const reference = new Reference(spans);
      let now = NOW;
      for (const one of steps) {
        // Distinct times, so that "released longest ago" has one answer.
        now++;
        if (one.kind === "wait") now += one.ms;
        if (one.kind === "take") {
          const candidate = it.available(now, one.except) ?? it.oldest(now, one.except);
          const expected = reference.available(now, one.except) ?? reference.oldest(now, one.except);
          expect(shape(candidate)).toEqual(shape(expected));
          if (candidate !== undefined) for (const each of [it, reference]) each.hold(candidate.index);
        }
        if (one.kind === "hold") {
          const position = reference.positions[one.index] as bigint;
          if (!reference.held.has(position)) for (const each of [it, reference]) each.hold(position);
        }
        if (one.kind === "release") {
          const position = [...reference.held][one.index];
          if (position !== undefined) for (const each of [it, reference]) each.release(position, now, one.keep);
        }
        expect(it.counts(now)).toEqual(reference.counts(now));
        expect(it.nextReadyMs(now)).toBe(reference.nextReadyMs(now));
        expect(shape(it.available(now, spoken))).toEqual(shape(reference.available(now, spoken)));
        expect(shape(it.oldest(now, spoken))).toEqual(shape(reference.oldest(now, spoken)));
        for (const owner of ["a", "b"])
          expect(shape(it.keptFor(owner, now))).toEqual(shape(reference.keptFor(owner, now)));
        for (const position of reference.positions) {
          expect(shape(it.at(position, now))).toEqual(shape(reference.at(position, now)));
        }
      }
    }),
    { numRuns: 300 },
  );
});
