// SPDX-License-Identifier: Apache-2.0
//
// Which Events are to be written to the cluster, and when: one for each thing and reason, whose count grows, and few enough
// that a daemon in trouble is no trouble to the API server. Pure but for its state; time is an argument.

import type { EventSubject } from "../kube/events.ts";

/** Something that an operator should know. */
export interface Notice {
  readonly subject: EventSubject;
  readonly type: "Normal" | "Warning";
  /** One word of the kind that programs look for: "SubnetExhausted". */
  readonly reason: string;
  /** For people. */
  readonly message: string;
}

/** An Event to be written now: made anew, or the one that is there brought up to date. */
export interface Due {
  readonly key: string;
  readonly notice: Notice;
  /** Name of the Event that is there. */
  readonly existing: string | undefined;
  /** How often it has happened, and when first and last, in milliseconds since 1970. */
  readonly count: number;
  readonly firstMs: number;
  readonly lastMs: number;
}

/** Things that are told at once while the API server is away; more of them push the oldest out. */
const WAITING_MAX = 256;
/** Events that are remembered to be brought up to date. */
const WRITTEN_MAX = 512;
/** An API server keeps an Event for an hour (--event-ttl), by default. */
const REMEMBERED_MS = 3_600_000;
/** Between two writes of one Event: twelve an hour. */
const REST_MS = 300_000;
/** Writes of the whole daemon: so many at once, and then one each so many milliseconds. */
const BURST = 25;
const REFILL_MS = 10_000;

interface Waiting {
  readonly notice: Notice;
  readonly count: number;
  readonly firstMs: number;
  readonly lastMs: number;
}

interface Written {
  readonly name: string;
  readonly count: number;
  readonly firstMs: number;
  readonly writtenMs: number;
}

export class EventLedger {
  /** The longest waiting first. */
  readonly #waiting = new Map<string, Waiting>();
  /** The longest ago written first. */
  readonly #written = new Map<string, Written>();
  #tokens = BURST;
  #refilledMs: number | undefined;

  /** Takes a notice in. @returns how many that were waiting are lost for it */
  note(notice: Notice, nowMs: number): number {
    const key = keyOf(notice);
    const waiting = this.#waiting.get(key);
    const { count = 0, firstMs = nowMs } = waiting ?? {};
    this.#waiting.set(key, { notice, count: count + 1, firstMs, lastMs: nowMs });
    if (this.#waiting.size <= WAITING_MAX) return 0;
    const [oldest, { count: lost }] = this.#waiting.entries().next().value as [string, Waiting];
    this.#waiting.delete(oldest);
    return lost;
  }

  /** What is to be written now, the longest waiting first. Each is asked for again until `written` or `dropped`. */
  due(nowMs: number): Due | undefined {
    this.#refill(nowMs);
    if (this.#tokens < 1) return undefined;
    for (const [key, { notice, count, firstMs, lastMs }] of this.#waiting) {
      const before = this.#written.get(key);
      const age = before === undefined ? Number.POSITIVE_INFINITY : nowMs - before.writtenMs;
      // A clock that was set back must not silence it for ever.
      if (age >= 0 && age < REST_MS) continue;
      if (before === undefined || age > REMEMBERED_MS || age < 0) {
        return { key, notice, existing: undefined, count, firstMs, lastMs };
      }
      return { key, notice, existing: before.name, count: before.count + count, firstMs: before.firstMs, lastMs };
    }
    return undefined;
  }

  /** `due` is there under this name. What was noted since waits on. */
  written({ key, count, firstMs, existing }: Due, name: string, nowMs: number): void {
    this.#tokens--;
    const waiting = this.#waiting.get(key);
    const told = existing === undefined ? count : count - (this.#written.get(key)?.count ?? 0);
    this.#waiting.delete(key);
    if (waiting !== undefined && waiting.count > told) {
      this.#waiting.set(key, { ...waiting, count: waiting.count - told, firstMs: waiting.lastMs });
    }
    this.#written.delete(key);
    this.#written.set(key, { name, count, firstMs, writtenMs: nowMs });
    const [oldest = ""] = this.#written.keys();
    if (this.#written.size > WRITTEN_MAX) this.#written.delete(oldest);
  }

  /** The Event that was written before is there no more: the next one is made anew. */
  gone({ key }: Due): void {
    this.#written.delete(key);
  }

  /** It can't be written, now or ever. @returns how many are lost */
  dropped({ key }: Due): number {
    this.#tokens--;
    const lost = this.#waiting.get(key)?.count ?? 0;
    this.#waiting.delete(key);
    return lost;
  }

  #refill(nowMs: number): void {
    const passed = nowMs - (this.#refilledMs ?? nowMs);
    // A clock that was set gives nothing, and takes nothing.
    this.#tokens = Math.min(BURST, this.#tokens + Math.max(0, passed) / REFILL_MS);
    this.#refilledMs = nowMs;
  }
}

function keyOf({ subject: { kind, namespace, name, uid }, reason }: Notice): string {
  return [kind, namespace, name, uid, reason].join("/");
}
