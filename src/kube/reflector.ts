// SPDX-License-Identifier: Apache-2.0
//
// The objects of one kind, kept as the API server has them: listed once, then watched, for ever (Kubernetes documentation,
// "Efficient detection of changes"). It asks no more often than client-go's reflector does (tools/cache/reflector.go):
// the same first list from the API server's cache, the same length of a watch, the same waits after failures; and
// where that one lists again after most failures, this one goes on from the version that it knows.
import { isDeepStrictEqual } from "node:util";
import { Backoff } from "./backoff.ts";
import { type Clock, REAL_CLOCK } from "./clock.ts";
import type { Change, Collection } from "./collection.ts";
import { KubeError } from "./errors.ts";
import { type KubeWire, statusError } from "./http.ts";
import { type ListEnd, ListItems } from "./list-items.ts";
import { isVersionError, listQuery, watchQuery } from "./list-watch-query.ts";
import { keyOf, type ObjectKey } from "./objects.ts";
import { fieldsOf, textOf } from "./raw.ts";
import { WatchLines } from "./watch-lines.ts";

/** Most items of a page, where the API server makes pages. */
const PAGE_ITEMS = 500;
/** How long a watch is asked for, in seconds: once to twice that, so that those of many nodes don't end together. */
const WATCH_SECONDS = 300;
/**
 * A watch that says so long nothing, not even a bookmark, which the API server sends about every minute, is dead without
 * anybody having told us: it is given up and begun again from the last version. In milliseconds.
 */
const SILENCE_MS = 180_000;
/** Where no bookmark has ever come a quiet watch may be a live one, up to its end and this much. */
const OVERTIME_MS = 30_000;
/** Where an API isn't served, so long later somebody may have installed it, in milliseconds. */
const NOT_SERVED_MS = 30_000;
/** A watch that ends sooner and without an event was none. */
const SHORT_WATCH_MS = 1000;

export interface KubeObject {
  readonly namespace?: string;
  readonly name: string;
  readonly uid?: string;
}

/** What is reflected. */
export interface Resource<T extends KubeObject> {
  /** "nodes", for people. */
  readonly what: string;
  /** "/api/v1/nodes" */
  readonly path: string;
  /** Only those that match: "spec.nodeName=node-1". */
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  /** An API that a cluster need not have: where it isn't served (404) there are none of its objects. */
  readonly optional?: true;
  /** Never throws; undefined for what isn't such an object at all. */
  parse(raw: unknown): T | undefined;
}

/** What was known when the daemon ended. */
export interface Restored<T> {
  readonly objects: Iterable<T>;
  /** The version that they are of: the first list is not older. */
  readonly resourceVersion?: string | undefined;
  /** As Collection has it. */
  readonly confirmedAtMs?: number | undefined;
}

export interface ReflectorOptions<T> {
  readonly restored?: Restored<T> | undefined;
  readonly clock?: Clock;
}

export class Reflector<T extends KubeObject> implements Collection<T> {
  readonly #wire: KubeWire;
  readonly #resource: Resource<T>;
  readonly #clock: Clock;
  readonly #backoff = new Backoff();
  readonly #subscribers = new Set<(changes: readonly Change<T>[]) => void>();
  readonly #stopping = new AbortController();
  readonly #objects = new Map<ObjectKey, T>();
  #state: Collection<T>["state"] = "unknown";
  #confirmedAtMs: number | undefined;
  /** Why nothing comes, and how many things came that are no objects. */
  #failure: string | undefined;
  #unreadable = 0;
  #toldProblem: string | undefined;
  /** The last version heard of. */
  #version: string | undefined;
  /** The API server can't list from that version: it has been set back, or is another one. */
  #versionUnusable = false;
  /** The next step is a list. */
  #mustList = true;
  #bookmarksCome = false;
  /** How often in a row the API was not there. */
  #absences = 0;
  /** How many watches in a row have been given up for their silence. */
  #silences = 0;
  #running: Promise<void> | undefined;

  constructor(wire: KubeWire, resource: Resource<T>, options: ReflectorOptions<T> = {}) {
    this.#wire = wire;
    this.#resource = resource;
    this.#clock = options.clock ?? REAL_CLOCK;
    const { restored } = options;
    if (restored === undefined) return;
    for (const object of restored.objects) this.#objects.set(keyOf(object), object);
    this.#version = restored.resourceVersion;
    this.#confirmedAtMs = restored.confirmedAtMs;
    this.#state = "restored";
  }

  get state(): Collection<T>["state"] {
    return this.#state;
  }

  get objects(): ReadonlyMap<ObjectKey, T> {
    return this.#objects;
  }

  get confirmedAtMs(): number | undefined {
    return this.#confirmedAtMs;
  }

  get problem(): string | undefined {
    const unreadable = this.#unreadable === 0 ? [] : [`${this.#unreadable} of the ${this.#resource.what} have no name`];
    const all = [...(this.#failure === undefined ? [] : [this.#failure]), ...unreadable];
    return all.length === 0 ? undefined : all.join("; ");
  }

  /** The version that the objects are of, for who keeps them; undefined before the first list. */
  get resourceVersion(): string | undefined {
    return this.#version;
  }

  subscribe(onChange: (changes: readonly Change<T>[]) => void): { close(): void } {
    // One function may be given twice.
    const subscriber = (changes: readonly Change<T>[]) => onChange(changes);
    this.#subscribers.add(subscriber);
    return { close: () => this.#subscribers.delete(subscriber) };
  }

  /** Begins, once. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends it; afterwards nobody is called any more. */
  async stop(): Promise<void> {
    this.#subscribers.clear();
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      try {
        if (this.#mustList) await this.#list();
        else await this.#watch();
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        if (this.#isNotServed(error)) await this.#absent();
        else await this.#failed(error);
      }
    }
  }

  async #failed(error: unknown): Promise<void> {
    const { what } = this.#resource;
    this.#failure = `the ${what} can't be read from the API server: ${(error as Error).message}`;
    this.#tell([]);
    const atLeastMs = error instanceof KubeError ? error.retryAfterMs : undefined;
    await this.#sleep(this.#backoff.next(this.#clock.elapsedMs(), this.#clock.random(), atLeastMs));
  }

  #isNotServed(error: unknown): boolean {
    return this.#resource.optional === true && error instanceof KubeError && error.code === "KUBE_NOT_FOUND";
  }

  /** What was there is only given up when it is said twice: an API server that has just begun may not know all of its APIs. */
  async #absent(): Promise<void> {
    this.#mustList = true;
    this.#absences++;
    if (this.#objects.size === 0 || this.#absences > 1) {
      const changes = [...this.#objects.keys()].flatMap((key) => this.#replace(key, undefined));
      const first = this.#state !== "synced";
      this.#version = undefined;
      this.#state = "synced";
      this.#failure = undefined;
      this.#confirm();
      this.#tell(changes, first);
    }
    await this.#sleep(NOT_SERVED_MS);
  }

  async #list(): Promise<void> {
    let listed: Listed<T>;
    try {
      listed = await this.#readList(this.#listVersion(), PAGE_ITEMS);
    } catch (error) {
      if (!isVersionError(error) || this.#versionUnusable) throw error;
      // What is newest then, whatever it is, and in one piece: pages of an old version may end in the middle.
      this.#versionUnusable = true;
      listed = await this.#readList("", undefined);
    }
    this.#version = listed.version;
    this.#versionUnusable = false;
    this.#absences = 0;
    this.#mustList = false;
    this.#unreadable = listed.unreadable;
    this.#failure = undefined;
    const gone = [...this.#objects.keys()].filter((key) => !listed.objects.has(key));
    const changes = gone.flatMap((key) => this.#replace(key, undefined));
    for (const [key, object] of listed.objects) changes.push(...this.#replace(key, object));
    const first = this.#state !== "synced";
    this.#state = "synced";
    this.#confirm();
    this.#tell(changes, first);
  }

  /** "0" is whatever the API server has in its cache, "" is what etcd has, and another isn't older than that. */
  #listVersion(): string {
    return this.#versionUnusable ? "" : (this.#version ?? "0");
  }

  async #readList(version: string, limit: number | undefined): Promise<Listed<T>> {
    const objects = new Map<ObjectKey, T>();
    let unreadable = 0;
    let end: ListEnd | undefined;
    while (end === undefined || end.next !== undefined) {
      const query = { ...this.#selectors(), ...listQuery(version, limit, end?.next) };
      const items = new ListItems((raw) => {
        const object = this.#resource.parse(raw);
        if (object === undefined) unreadable++;
        else objects.set(keyOf(object), this.#known(object));
      });
      await this.#wire.stream({ ...this.#request(), query }, (piece) => items.push(piece));
      end = items.end();
    }
    return { objects, version: end.resourceVersion, unreadable };
  }

  /** The object that is there already where this one says the same. */
  #known(object: T): T {
    const before = this.#objects.get(keyOf(object));
    return before !== undefined && isDeepStrictEqual(before, object) ? before : object;
  }

  async #watch(): Promise<void> {
    const seconds = Math.floor(WATCH_SECONDS * (1 + this.#clock.random()));
    const lines = new WatchLines();
    const begun = this.#clock.elapsedMs();
    let heard = false;
    let dead = false;
    const abort = new AbortController();
    const stop = () => abort.abort();
    this.#stopping.signal.addEventListener("abort", stop);
    const silence = new Alarm(this.#clock, () => {
      dead = true;
      stop();
    });
    const listen = () => silence.set(this.#bookmarksCome ? SILENCE_MS : seconds * 1000 + OVERTIME_MS);
    try {
      await this.#wire.stream(
        {
          ...this.#request(),
          signal: abort.signal,
          query: { ...this.#selectors(), ...watchQuery(this.#version, seconds) },
          silenceMs: Number.POSITIVE_INFINITY,
          onOpen: () => {
            listen();
            this.#failure = undefined;
            this.#tell([]);
          },
        },
        (piece) => {
          listen();
          heard = true;
          this.#silences = 0;
          this.#events(lines.push(piece));
        },
      );
    } catch (error) {
      if (dead && !this.#stopping.signal.aborted) {
        // One that is silent from its beginning waits for a version that a server set back will not have for long.
        if (!heard && ++this.#silences > 1) this.#mustList = true;
        this.#failure = `the watch of ${this.#resource.what} has said nothing for too long; it is begun again`;
        this.#tell([]);
        return;
      }
      // A version that it doesn't know any more, or doesn't take.
      if (error instanceof KubeError && (error.code === "KUBE_GONE" || error.code === "KUBE_REFUSED"))
        this.#mustList = true;
      throw error;
    } finally {
      this.#stopping.signal.removeEventListener("abort", stop);
      silence.cancel();
    }
    if (!heard && this.#clock.elapsedMs() - begun < SHORT_WATCH_MS) {
      throw new KubeError("KUBE_PROTOCOL", `a watch of ${this.#resource.what} ended as soon as it had begun`);
    }
  }

  #events(events: readonly unknown[]): void {
    const changes: Change<T>[] = [];
    try {
      for (const event of events) changes.push(...this.#event(fieldsOf(event)));
    } finally {
      // What came before an error has happened all the same.
      this.#tell(changes);
    }
  }

  #event({ type, object: raw }: Readonly<Record<string, unknown>>): Change<T>[] {
    if (type === "ERROR") {
      // Whatever it is, this version leads to it.
      this.#mustList = true;
      const code = fieldsOf(raw)["code"];
      throw statusError(`the watch of ${this.#resource.what}`, typeof code === "number" ? code : 500, raw);
    }
    const version = textOf(fieldsOf(fieldsOf(raw)["metadata"])["resourceVersion"]);
    if (version === "" || !KNOWN_EVENTS.includes(textOf(type))) {
      this.#mustList = true;
      throw new KubeError("KUBE_PROTOCOL", `the watch of ${this.#resource.what} has an event that is none`);
    }
    this.#version = version;
    this.#confirm();
    if (type === "BOOKMARK") {
      this.#bookmarksCome = true;
      return [];
    }
    const object = this.#resource.parse(raw);
    if (object !== undefined) return this.#replace(keyOf(object), type === "DELETED" ? undefined : this.#known(object));
    this.#unreadable++;
    return [];
  }

  /** An object with another uid is another one, that has only the name in common with the one before. */
  #replace(key: ObjectKey, after: T | undefined): Change<T>[] {
    const before = this.#objects.get(key);
    if (before === after) return [];
    if (after === undefined) this.#objects.delete(key);
    else this.#objects.set(key, after);
    if (before === undefined || after === undefined || before.uid === after.uid) return [{ key, before, after }];
    return [
      { key, before, after: undefined },
      { key, before: undefined, after },
    ];
  }

  #confirm(): void {
    this.#confirmedAtMs = this.#clock.wallMs();
  }

  #tell(changes: readonly Change<T>[], stateChanged = false): void {
    const { problem } = this;
    if (changes.length === 0 && !stateChanged && problem === this.#toldProblem) return;
    this.#toldProblem = problem;
    for (const subscriber of this.#subscribers) {
      try {
        subscriber(changes);
      } catch (error) {
        // It is the subscriber's mistake: the others are told, and the program hears of it as of any other.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  #request() {
    return { method: "GET", path: this.#resource.path, signal: this.#stopping.signal } as const;
  }

  #selectors(): Record<string, string | undefined> {
    return { fieldSelector: this.#resource.fieldSelector, labelSelector: this.#resource.labelSelector };
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const { signal } = this.#stopping;
      if (signal.aborted) return resolve();
      const end = () => {
        timer.cancel();
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = this.#clock.after(ms, end);
      signal.addEventListener("abort", end);
    });
  }
}

const KNOWN_EVENTS = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"];

interface Listed<T> {
  readonly objects: ReadonlyMap<ObjectKey, T>;
  readonly version: string;
  /** How many items were no objects. */
  readonly unreadable: number;
}

/** One timer that is set again and again. */
class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #timer: { cancel(): void } | undefined;

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  set(ms: number): void {
    this.cancel();
    this.#timer = this.#clock.after(ms, this.#ring);
  }

  cancel(): void {
    this.#timer?.cancel();
  }
}
