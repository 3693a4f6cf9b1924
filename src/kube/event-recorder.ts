// SPDX-License-Identifier: Apache-2.0
//
// Events (events.k8s.io/v1): what an operator must know, beside the object that it is about. The same again is the same
// Event with a higher count, and a source that never stops is held back, because each write is one of etcd's.
import { isKubeError, type RequestOptions, withDeadline } from "./client.ts";
import type { KubeWire } from "./http.ts";

/** What goes on for longer than this after it was last said is said anew, in milliseconds (client-go: 6 minutes a series). */
const SERIES_MS = 360_000;
/** A series is written at most so often, in milliseconds; in between it is only counted. */
const UPDATE_MS = 60_000;
/** So many Events may be written at once, and then one in this time (client-go's EventSourceObjectSpamFilter is 25 and 5 min). */
const BURST = 25;
const REFILL_MS = 60_000;
/** Most series remembered. */
const SERIES_MAX = 256;
/** The API's bounds of the texts (pkg/apis/core/validation/events.go). */
const NOTE_MAX_BYTES = 1024;
const WORD_MAX = 128;

/** core/v1 ObjectReference, as far as people need it. */
export interface Regarding {
  readonly kind: "Node" | "Pod" | "NetworkPolicy";
  readonly namespace?: string;
  readonly name: string;
  /** "kubectl describe" shows a node's Events by its name for a uid, and those of others by their uid. */
  readonly uid: string;
}

export interface EventFacts {
  readonly regarding: Regarding;
  readonly type: "Normal" | "Warning";
  /** Why, one word in CamelCase: "AddressesExhausted". */
  readonly reason: string;
  /** What was done or tried, one word in CamelCase: "AssignAddress". */
  readonly action: string;
  /** For people; cut off after 1024 bytes. */
  readonly note: string;
}

interface Series {
  readonly path: string;
  readonly name: string;
  count: number;
  seenAtMs: number;
  writtenAtMs: number;
}

export class EventRecorder {
  readonly #wire: KubeWire;
  readonly #source: EventSource;
  readonly #series = new Map<string, Series>();
  #tokens = BURST;
  #filledAtMs = Number.NEGATIVE_INFINITY;

  constructor(wire: KubeWire, source: EventSource) {
    this.#wire = wire;
    this.#source = source;
  }

  /**
   * Says it, if it isn't said too often already.
   * @returns whether it was written
   * @throws KubeError; what was not written is counted, and comes with the next one
   */
  async record(facts: EventFacts, options: RequestOptions = {}): Promise<boolean> {
    const nowMs = this.#source.nowMs();
    const key = JSON.stringify([facts.regarding, facts.type, facts.reason, facts.action, facts.note]);
    const series = this.#series.get(key);
    if (series === undefined || nowMs - series.seenAtMs > SERIES_MS) {
      if (!this.#mayWrite(nowMs)) return false;
      this.#remember(key, await this.#create(facts, nowMs, options));
      return true;
    }
    series.count++;
    series.seenAtMs = nowMs;
    if (nowMs - series.writtenAtMs < UPDATE_MS || !this.#mayWrite(nowMs)) return false;
    try {
      await this.#update(series, options);
    } catch (error) {
      // The API server forgets Events after an hour.
      if (!isKubeError(error, "KUBE_NOT_FOUND")) throw error;
      this.#remember(key, await this.#create(facts, nowMs, options));
    }
    return true;
  }

  async #create(
    { regarding, type, reason, action, note }: EventFacts,
    nowMs: number,
    options: RequestOptions,
  ): Promise<Series> {
    // Those about what has no namespace are in this one.
    const namespace = regarding.namespace ?? "default";
    const path = `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/events`;
    const name = `${regarding.name.slice(0, 200)}.${this.#source.unique()}`;
    const body = {
      apiVersion: "events.k8s.io/v1",
      kind: "Event",
      metadata: { name, namespace },
      eventTime: microTime(nowMs),
      reportingController: this.#source.controller,
      reportingInstance: this.#source.instance.slice(0, WORD_MAX),
      regarding: { apiVersion: API_VERSIONS[regarding.kind], ...regarding },
      type,
      reason: reason.slice(0, WORD_MAX),
      action: action.slice(0, WORD_MAX),
      note: cut(note),
    };
    await this.#wire.json({ method: "POST", path, body, ...withDeadline(options) });
    return { path, name, count: 1, seenAtMs: nowMs, writtenAtMs: nowMs };
  }

  async #update(series: Series, options: RequestOptions): Promise<void> {
    const { path, name, count, seenAtMs } = series;
    await this.#wire.json({
      method: "PATCH",
      path: `${path}/${encodeURIComponent(name)}`,
      contentType: "application/merge-patch+json",
      body: { series: { count, lastObservedTime: microTime(seenAtMs) } },
      ...withDeadline(options),
    });
    series.writtenAtMs = seenAtMs;
  }

  #remember(key: string, series: Series): void {
    this.#series.delete(key);
    this.#series.set(key, series);
    for (const oldest of this.#series.keys()) {
      if (this.#series.size <= SERIES_MAX) break;
      this.#series.delete(oldest);
    }
  }

  #mayWrite(nowMs: number): boolean {
    const since = Math.max(0, nowMs - this.#filledAtMs);
    this.#tokens = Math.min(BURST, this.#tokens + since / REFILL_MS);
    this.#filledAtMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

export interface EventSource {
  /** Who reports: "flatnet.dev/flatnetd". */
  readonly controller: string;
  /** Which of them: the node's name. */
  readonly instance: string;
  /** Milliseconds since 1970. */
  nowMs(): number;
  /** Another text each time, of hexadecimal digits. */
  unique(): string;
}

const API_VERSIONS = { Node: "v1", Pod: "v1", NetworkPolicy: "networking.k8s.io/v1" } as const;

/** meta/v1 MicroTime. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace("Z", "000Z");
}

function cut(note: string): string {
  const bytes = Buffer.from(note);
  if (bytes.length <= NOTE_MAX_BYTES) return note;
  // Half a character at the end becomes a replacement character, which has three bytes, as the ellipsis does.
  return `${bytes.subarray(0, NOTE_MAX_BYTES - 6).toString()}…`;
}
