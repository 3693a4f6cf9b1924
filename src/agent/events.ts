// SPDX-License-Identifier: Apache-2.0
//
// What the daemon tells the cluster's operators: Events of Kubernetes, written in the background. Whoever tells something
// never waits, and never fails for it; with the API server away it waits in memory, and what is lost then is counted.
import type { KubeEvent } from "../kube/events.ts";
import { type Due, EventLedger, type Notice } from "./event-ledger.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";

/** Where Events go. Both throw for what may work later. */
export interface EventSink {
  /** @returns false when it never will: refused for what it is */
  create(event: KubeEvent): Promise<boolean>;
  /** Brings count, last time and message up to date. @returns false when there is no such Event */
  update(event: KubeEvent): Promise<boolean>;
}

export interface EventsOptions {
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Makes names unique: characters of a DNS name. */
  readonly newId: () => string;
}

/** Where Events are that are about what is in no namespace itself (client-go, tools/record: makeEvent). */
const NODE_EVENTS = "default";
/** Longest message of an Event that newer versions of the API take, in bytes (events.k8s.io/v1, note). */
const MESSAGE_MAX = 1024;
/** A DNS name has 253 characters at most (RFC 1123). */
const NAME_MAX = 253;
const SETTLE_MS = 500;
/** Between looks at what waits for its turn, and after a failure, in milliseconds. */
const INTERVAL_MS = 10_000;
const RETRY_MS = 15_000;

export class Events {
  readonly #ledger = new EventLedger();
  readonly #options: EventsOptions;
  readonly #loop: Loop;
  #sink: EventSink | undefined;
  #droppedCount = 0;
  /** Since an Event could be written last. */
  #failing = false;

  constructor(options: EventsOptions) {
    this.#options = options;
    this.#loop = new Loop(() => this.#pass(), {
      name: "Events",
      waitsForOthers: true,
      settleMs: SETTLE_MS,
      intervalMs: INTERVAL_MS,
      retryMs: RETRY_MS,
      onError: (err) => this.#failed(err),
    });
  }

  /** How many notices were given up since the start: too many waited, or the API server refused them. */
  get dropped(): number {
    return this.#droppedCount;
  }

  /** From now on Events are written. What was told before is not lost. */
  connect(sink: EventSink): void {
    this.#sink = sink;
    this.#loop.request();
  }

  /** Takes a notice in, at once. */
  tell(notice: Notice): void {
    this.#droppedCount += this.#ledger.note(shortened(notice), this.#options.now());
    if (this.#sink !== undefined) this.#loop.request();
  }

  /** What still waits is lost; the log has it all. */
  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #pass(): Promise<void> {
    const { now } = this.#options;
    for (let due = this.#due(); due !== undefined; due = this.#due()) {
      const event = this.#toEvent(due);
      const sink = this.#sink as EventSink;
      if (due.existing !== undefined) {
        if (await sink.update(event)) this.#ledger.written(due, event.name, now());
        else this.#ledger.gone(due);
      } else if (await sink.create(event)) this.#ledger.written(due, event.name, now());
      else {
        this.#droppedCount += this.#ledger.dropped(due);
        const { reason, message } = due.notice;
        this.#options.log.warn({ reason, message }, "the API server refuses an Event");
      }
      this.#failing = false;
    }
  }

  #due(): Due | undefined {
    return this.#sink === undefined ? undefined : this.#ledger.due(this.#options.now());
  }

  /** A line for each outage, not for each try. */
  #failed(err: unknown): void {
    if (this.#failing) return;
    this.#failing = true;
    this.#options.log.warn({ err }, "Events can't be written now; they wait");
  }

  #toEvent({ notice, existing, count, firstMs, lastMs }: Due): KubeEvent {
    const { subject } = notice;
    const namespace = subject.namespace === "" ? NODE_EVENTS : subject.namespace;
    const id = this.#options.newId();
    const name = existing ?? `${subject.name.slice(0, NAME_MAX - id.length - 1).replace(/[-.]+$/, "")}.${id}`;
    return { ...notice, namespace, name, count, firstMs, lastMs };
  }
}

function shortened(notice: Notice): Notice {
  if (Buffer.byteLength(notice.message) <= MESSAGE_MAX) return notice;
  const cut = Buffer.from(notice.message)
    .subarray(0, MESSAGE_MAX - 4)
    .toString();
  // A character that was cut in two is one that nobody wrote.
  return { ...notice, message: `${cut.replace(/\uFFFD+$/, "")}…` };
}
