// SPDX-License-Identifier: Apache-2.0
//
// The pod of an ADD, as Kubernetes has it: from what is known of this node's pods, or, for one that is so new that nobody has
// told yet, by one short question. An ADD never waits for an API server that is away.
import { setTimeout as sleep } from "node:timers/promises";
import type { PodName } from "../ipam/records.ts";
import type { Collection } from "../kube/collection.ts";
import { type KubePod, keyOf, type ObjectKey } from "../kube/objects.ts";
import type { Log } from "./log.ts";

/** Asks the API server for one pod; undefined when there is none. */
export type FetchPod = (namespace: string, name: string, signal: AbortSignal) => Promise<KubePod | undefined>;

export interface KnownPodsOptions {
  /** The pods of this node. */
  readonly pods: Collection<KubePod>;
  readonly fetchPod: FetchPod;
  readonly log: Log;
  /** How long an ADD waits for an answer, in milliseconds. */
  readonly deadlineMs?: number;
}

const DEADLINE_MS = 500;
/** Questions at once: a burst of ADDs that the watch has not told of yet is no burst of requests. */
const QUESTIONS_MAX = 8;
/** After a question that had no answer nobody asks for so long, in milliseconds: the next ADD should not wait as well. */
const HOLD_OFF_MS = 5_000;
/** An answer is kept so long, in milliseconds, for whoever else asks for the same ADD; by then the watch has told. */
const KEPT_MS = 5_000;

export class KnownPods {
  readonly #options: KnownPodsOptions;
  #asking = 0;
  /** Who waits for a question to end, the longest waiting first. */
  readonly #queue = new Set<() => void>();
  readonly #answers = new Map<ObjectKey, KubePod>();
  /** Until then, by performance.now(), nobody is asked. */
  #holdOffUntil = Number.NEGATIVE_INFINITY;

  constructor(options: KnownPodsOptions) {
    this.#options = options;
  }

  /** @returns undefined when there is no such pod, or nobody can say; a line in the log says which */
  async find(pod: PodName): Promise<KubePod | undefined> {
    const known = this.#known(pod);
    if (known !== undefined) return known;
    const reason = this.#whyNotAsk();
    if (reason !== undefined) return this.#unknown(pod, reason);
    try {
      const found = await this.#withinDeadline((signal) => this.#ask(pod, signal));
      if (found !== undefined && isSame(found, pod)) return this.#keep(found);
      // What the watch has told meanwhile is as good.
      return this.#known(pod) ?? this.#unknown(pod, "the API server has no such pod");
    } catch (err) {
      this.#holdOffUntil = performance.now() + HOLD_OFF_MS;
      return this.#known(pod) ?? this.#unknown(pod, err instanceof Error ? err.message : String(err));
    }
  }

  #known(pod: PodName): KubePod | undefined {
    const key = keyOf(pod);
    const { pods } = this.#options;
    return [pods.objects.get(key), this.#answers.get(key)].find((known) => known !== undefined && isSame(known, pod));
  }

  #keep(pod: KubePod): KubePod {
    const key = keyOf(pod);
    this.#answers.set(key, pod);
    setTimeout(() => {
      if (this.#answers.get(key) === pod) this.#answers.delete(key);
    }, KEPT_MS).unref();
    return pod;
  }

  #whyNotAsk(): string | undefined {
    const { problem } = this.#options.pods;
    if (problem !== undefined) return problem;
    return performance.now() < this.#holdOffUntil ? "the API server didn't answer a moment ago" : undefined;
  }

  /** When it is its turn. */
  async #ask(pod: PodName, signal: AbortSignal): Promise<KubePod | undefined> {
    if (this.#asking >= QUESTIONS_MAX) await this.#turn(signal);
    this.#asking++;
    try {
      const known = this.#known(pod);
      if (known !== undefined || signal.aborted) return known;
      const reason = this.#whyNotAsk();
      if (reason !== undefined) throw new Error(reason);
      return await this.#options.fetchPod(pod.namespace, pod.name, signal);
    } finally {
      this.#asking--;
      const [next] = this.#queue;
      next?.();
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const go = () => {
        this.#queue.delete(go);
        resolve();
      };
      this.#queue.add(go);
      signal.addEventListener("abort", go, { once: true });
    });
  }

  /** It holds whatever the work makes of its signal. */
  async #withinDeadline<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { deadlineMs = DEADLINE_MS } = this.#options;
    const over = new AbortController();
    const deadline = sleep(deadlineMs, undefined, { signal: over.signal }).then(() => {
      throw new Error(`the API server didn't answer within ${deadlineMs} ms`);
    });
    try {
      return await Promise.race([work(over.signal), deadline]);
    } finally {
      over.abort();
      deadline.catch(() => {});
    }
  }

  /** Later than the answer, as a log's disk may be slow. */
  #unknown({ namespace, name, uid }: PodName, reason: string): undefined {
    const fields = { pod: `${namespace}/${name}`, uid, reason };
    setImmediate(() => this.#options.log.warn(fields, "a pod is added without what its annotations may ask for"));
    return undefined;
  }
}

/** A pod that was deleted and made again under its name is another one. Not every runtime says which. */
function isSame(known: KubePod, { uid }: PodName): boolean {
  return uid === "" || known.uid === uid;
}
