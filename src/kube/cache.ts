// SPDX-License-Identifier: Apache-2.0
//
// What is known of Kubernetes, on this node's disk, so that it can work with the API server gone. A database of its own, since
// all of it can be learned again: writes are batched and not synced, and what can't be read is dropped. A process that is
// killed loses the last moments at most: LevelDB hands each batch to the kernel as a whole.
import { chmod, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { type BatchOperation, Level } from "level";
import { describeHolder } from "../sys/lock-holder.ts";
import { type CachedKind, CachedRecordError, decodeCached, encodeCached } from "./cached-kinds.ts";
import type { Change, Collection } from "./collection.ts";
import type { ObjectKey } from "./objects.ts";

/** The cache can't be had. The message names its path and who has it. */
export class KubeCacheError extends Error {
  override readonly name = "KubeCacheError";
  /** Another process has it. */
  readonly code = "KUBE_CACHE_LOCKED";
}

/** Pino's shape. */
export interface CacheLog {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** A kind as it was when the API server was last heard of. */
export interface Restored<T> {
  readonly objects: ReadonlyMap<ObjectKey, T>;
  /** Of the collection; undefined where it has none. */
  readonly resourceVersion: string | undefined;
  /** ms since 1970; undefined where it isn't known. */
  readonly confirmedAtMs: number | undefined;
}

/** Name of the database's directory in the state directory. */
export const CACHE_NAME = "kube.db";

const FORMAT_KEY = "format";
const FORMAT = { version: 1 };
/** This long after a change what has changed is written, in milliseconds. */
const SETTLE_MS = 200;
/** So often it is written when the API server last confirmed what is known, if nothing else is. */
const CONFIRM_MS = 60_000;
/** After a write that failed. */
const RETRY_MS = 30_000;
/** So many records are read or written at once. */
const SLICE = 500;
/** LevelDB's buffers in bytes; its own defaults are 4 and 8 MiB. */
const WRITE_BUFFER = 256 * 1024;
const READ_CACHE = 64 * 1024;

type Database = Level<string, string>;

/** Of each kind beside its objects. It is written with the last of them: a kind without it was never written whole. */
interface Meta {
  readonly version: number;
  readonly resourceVersion?: string | undefined;
  readonly confirmedAtMs?: number | undefined;
}

/** A kind that is kept as its collection is. */
interface Kept {
  readonly kind: CachedKind<unknown>;
  readonly collection: Collection<unknown>;
  readonly resourceVersion: () => string | undefined;
  confirmedAtMs: number | undefined;
  state: Collection<unknown>["state"];
}

export interface CacheTimes {
  /** How long after a change what has changed is written, in milliseconds. */
  readonly settleMs?: number;
  /** How long after a write that failed it is tried again. */
  readonly retryMs?: number;
}

export class KubeCache {
  readonly path: string;
  readonly #log: CacheLog;
  readonly #settleMs: number;
  readonly #retryMs: number;
  #database: Database | undefined;
  readonly #kept = new Map<string, Kept>();
  /** What is to be written, by key: what is gone is undefined. Objects are only encoded when it is their turn. */
  #pending = new Map<string, unknown>();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #failed = false;
  #closed = false;
  readonly #confirming: NodeJS.Timeout;

  private constructor(path: string, log: CacheLog, { settleMs = SETTLE_MS, retryMs = RETRY_MS }: CacheTimes) {
    this.path = path;
    this.#log = log;
    this.#settleMs = settleMs;
    this.#retryMs = retryMs;
    this.#confirming = setInterval(() => this.#confirm(), CONFIRM_MS);
    this.#confirming.unref();
  }

  /**
   * Opens `<stateDir>/kube.db`, which is made (mode 0700) if it isn't there, and made anew if it can't be read. A disk that
   * takes nothing is a line of the log, and tried again.
   * @throws KubeCacheError when another process has it
   */
  static async open(stateDir: string, log: CacheLog, times: CacheTimes = {}): Promise<KubeCache> {
    const cache = new KubeCache(join(stateDir, CACHE_NAME), log, times);
    try {
      await cache.#open();
    } catch (err) {
      if (err instanceof KubeCacheError) {
        clearInterval(cache.#confirming);
        throw err;
      }
      cache.#fail(err);
    }
    return cache;
  }

  /** What was kept of a kind; undefined when nothing was. */
  async restore<T>(kind: CachedKind<T>): Promise<Restored<T> | undefined> {
    if (this.#database === undefined) return undefined;
    try {
      return await read(this.#database, kind);
    } catch (err) {
      this.#log.warn({ err, kind: kind.name }, "what was kept of Kubernetes can't be read; it is learned again");
      if (isDamage(err)) await this.#forget(kind);
      return undefined;
    }
  }

  /**
   * Keeps a kind as its collection is, from now on: what is gone there is deleted here. What the collection has by then is
   * what was restored.
   * @param resourceVersion of the collection, as of when it is asked
   */
  keep<T>(kind: CachedKind<T>, collection: Collection<T>, resourceVersion = (): string | undefined => undefined): void {
    const { confirmedAtMs, state } = collection;
    const kept: Kept = { kind, collection, resourceVersion, confirmedAtMs, state };
    this.#kept.set(kind.name, kept);
    collection.subscribe((changes) => {
      // That there is nothing is worth knowing too.
      const first = kept.state === "unknown" && collection.state !== "unknown";
      kept.state = collection.state;
      if (changes.length > 0 || first) this.#write(kind, changes);
    });
  }

  /** Has changes written, soon, all of them together. */
  #write<T>(kind: CachedKind<T>, changes: readonly Change<T>[]): void {
    for (const { key, after } of changes) this.#pending.set(objectKey(kind, key), after);
    this.#pending.set(metaKey(kind), kind);
    this.#request(this.#settleMs);
  }

  /** Writes what is left to write, then closes. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#confirming);
    clearTimeout(this.#timer);
    await this.#writing;
    if (!this.#failed) await this.#flush();
    await this.#database?.close();
    this.#database = undefined;
  }

  async #open(): Promise<Database> {
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    await chmod(this.path, 0o700);
    try {
      this.#database = await openDatabase(this.path);
      return this.#database;
    } catch (err) {
      if (codeOf(err) === "LEVEL_LOCKED") {
        const holder = await describeHolder(join(this.path, "LOCK"));
        throw new KubeCacheError(`${this.path}: the database is held by ${holder}`, { cause: err });
      }
      // A full disk, or one that is broken, says nothing of what is on it.
      if (!isDamage(err)) throw err;
      this.#log.warn({ err, path: this.path }, "what was kept of Kubernetes can't be read; it is learned again");
      await rm(this.path, { recursive: true, force: true });
      await mkdir(this.path, { recursive: true, mode: 0o700 });
      this.#database = await openDatabase(this.path);
      return this.#database;
    }
  }

  /** Deletes all that there is of a kind. */
  async #forget(kind: CachedKind<unknown>): Promise<void> {
    try {
      await this.#database?.clear(objectRange(kind));
      await this.#database?.del(metaKey(kind));
    } catch (err) {
      this.#fail(err);
    }
  }

  #confirm(): void {
    for (const { kind, collection, confirmedAtMs } of this.#kept.values()) {
      if (collection.confirmedAtMs !== confirmedAtMs) this.#write(kind, []);
    }
  }

  #request(afterMs: number): void {
    const waits = this.#timer !== undefined || this.#writing !== undefined || this.#failed;
    if (this.#closed || waits || this.#pending.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#writing = this.#flush().then(() => {
        this.#writing = undefined;
        this.#request(this.#settleMs);
      });
    }, afterMs);
    this.#timer.unref();
  }

  async #flush(): Promise<void> {
    if (this.#database === undefined) return;
    try {
      await this.#writePending(this.#database);
    } catch (err) {
      this.#fail(err);
    }
  }

  /** The objects in slices, whose order doesn't matter, and last what says that they are whole. */
  async #writePending(database: Database): Promise<void> {
    const pending = this.#pending;
    this.#pending = new Map();
    const metas: BatchOperation<Database, string, string>[] = [];
    let slice: BatchOperation<Database, string, string>[] = [];
    for (const [key, value] of pending) {
      if (key.startsWith(META_PREFIX)) {
        metas.push({ type: "put", key, value: encodeCached(this.#metaOf(value as CachedKind<unknown>)) });
        continue;
      }
      slice.push(value === undefined ? { type: "del", key } : { type: "put", key, value: encodeCached(value) });
      if (slice.length < SLICE) continue;
      await database.batch(slice);
      slice = [];
    }
    if (slice.length + metas.length > 0) await database.batch([...slice, ...metas]);
  }

  #metaOf(kind: CachedKind<unknown>): Meta {
    const kept = this.#kept.get(kind.name);
    if (kept === undefined) return { version: kind.version };
    kept.confirmedAtMs = kept.collection.confirmedAtMs;
    const { confirmedAtMs } = kept;
    return { version: kind.version, resourceVersion: kept.resourceVersion(), confirmedAtMs };
  }

  /** After a write that failed LevelDB's log may end in half a record, behind which others would be lost: it is opened again. */
  #fail(err: unknown): void {
    if (this.#failed || this.#closed) return;
    this.#failed = true;
    const { path } = this;
    this.#log.error({ err, path }, "what is learned of Kubernetes can't be kept on disk; it is tried again");
    this.#retry();
  }

  #retry(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#writing = this.#renew().then((renewed) => {
        this.#writing = undefined;
        if (renewed) this.#request(this.#settleMs);
        else this.#retry();
      });
    }, this.#retryMs);
    this.#timer.unref();
  }

  /** Opens it again and writes whatever is known; what was there stays until then. @returns whether that went well */
  async #renew(): Promise<boolean> {
    try {
      await this.#database?.close();
      this.#database = undefined;
      const database = await this.#open();
      this.#pending = new Map();
      for (const { kind, collection } of this.#kept.values()) {
        if (collection.state !== "unknown") await this.#refill(database, kind, collection.objects);
      }
      await this.#writePending(database);
    } catch {
      // It was said when it began.
      return false;
    }
    this.#failed = false;
    this.#log.warn({ path: this.path }, "what is learned of Kubernetes is kept on disk again");
    return true;
  }

  async #refill(
    database: Database,
    kind: CachedKind<unknown>,
    objects: ReadonlyMap<ObjectKey, unknown>,
  ): Promise<void> {
    const range = objectRange(kind);
    const there = await database.keys(range).all();
    const gone = there.filter((key) => !objects.has(key.slice(range.gte.length)));
    for (const key of gone) this.#pending.set(key, undefined);
    for (const [key, object] of objects) this.#pending.set(objectKey(kind, key), object);
    this.#pending.set(metaKey(kind), kind);
  }
}

async function openDatabase(path: string): Promise<Database> {
  const database: Database = new Level(path, { keyEncoding: "utf8", valueEncoding: "utf8" });
  await database.open({ writeBufferSize: WRITE_BUFFER, cacheSize: READ_CACHE, maxOpenFiles: 64 });
  try {
    const text = await database.get(FORMAT_KEY);
    if (text === undefined) await database.put(FORMAT_KEY, encodeCached(FORMAT));
    else if ((decodeCached(text) as Meta).version > FORMAT.version) {
      throw new CachedRecordError("a newer program wrote it");
    }
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** @throws CachedRecordError, or what LevelDB says */
async function read<T>(database: Database, kind: CachedKind<T>): Promise<Restored<T> | undefined> {
  const text = await database.get(metaKey(kind));
  if (text === undefined) return undefined;
  const { version, resourceVersion, confirmedAtMs } = decodeCached(text) as Meta;
  if (version !== kind.version) throw new CachedRecordError(`its version is ${version} and not ${kind.version}`);
  const objects = new Map<ObjectKey, T>();
  const range = objectRange(kind);
  const iterator = database.iterator({ ...range, fillCache: false });
  try {
    for (;;) {
      const entries = await iterator.nextv(SLICE);
      if (entries.length === 0) break;
      for (const [key, value] of entries) {
        objects.set(key.slice(range.gte.length), { ...kind.defaults, ...decodeCached(value) } as T);
      }
    }
  } finally {
    await iterator.close();
  }
  return { objects, resourceVersion, confirmedAtMs };
}

const META_PREFIX = "meta/";

function metaKey({ name }: CachedKind<unknown>): string {
  return `${META_PREFIX}${name}`;
}

function objectKey({ name }: CachedKind<unknown>, key: ObjectKey): string {
  return `object/${name}/${key}`;
}

function objectRange(kind: CachedKind<unknown>): { gte: string; lt: string } {
  const gte = objectKey(kind, "");
  // The character behind the slash.
  return { gte, lt: `${gte.slice(0, -1)}0` };
}

function isDamage(error: unknown): boolean {
  return error instanceof CachedRecordError || codeOf(error) === "LEVEL_CORRUPTION";
}

/** LevelDB's code, which `level` wraps. */
function codeOf(error: unknown): unknown {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return cause instanceof Error && "code" in cause ? cause.code : undefined;
}
