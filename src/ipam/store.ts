// SPDX-License-Identifier: Apache-2.0
//
// The database on disk: LevelDB, every write synced, writers in flight sharing one batch. One process at a time.
//
// Two traps of LevelDB decide the shape of this file. Its lock is a POSIX record lock, which the kernel drops when the
// process closes any descriptor of the lock file, so a second open in the same process, even a refused one, would let other
// processes in: databases open in this process are remembered here, and LevelDB is not asked. And after a write that failed
// half-way (a full disk) its log may hold a torn record, behind which a later, successful one would be lost on the next
// start: so after any failure the database has to be opened again, which reads the log to its end and begins a new one.
import { constants } from "node:fs";
import { chmod, mkdir, open, readdir, realpath, rename, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { type BatchOperation, Level } from "level";
import { describeHolder } from "../sys/lock-holder.ts";
import { CommitQueue } from "./commit-queue.ts";
import { HISTORY_RANGE, type HistoryReader, type KeyRange, parseHistoryKey } from "./history.ts";
import { type Damage, inspectDatabase } from "./inspect.ts";
import { FORMAT_KEY, formatWrite, RecordError, type Snapshot, type Write } from "./records.ts";
import { parseSnapshot } from "./snapshot.ts";

/** What the service needs of a database. */
export interface RecordStore extends HistoryReader {
  /** True after a failed write; only `reopen` helps then. */
  readonly failed: boolean;
  /** Resolves once the writes are durable, all of them together. */
  commit(writes: readonly Write[]): Promise<void>;
  /** Opens the database again after a failure and tells what is in it. */
  reopen(): Promise<Snapshot>;
  /** Waits for commits under way, then closes. May be called again. */
  close(): Promise<void>;
}

export type StoreErrorCode =
  /** Another opener has it: a process named in the message, or this one. */
  | "STORE_LOCKED"
  /** The directory or the database cannot be opened. */
  | "STORE_OPEN"
  /** It is damaged: `damages` says what. Nothing has been changed; repair.ts can make one of it that can be served from. */
  | "STORE_DAMAGED"
  /** A newer program wrote it; `cause` is a RecordError with the key. */
  | "STORE_NEWER"
  /** A write failed; nothing can be said of what is on disk until it is opened again. */
  | "STORE_WRITE"
  /** Something could not be read; what is in memory is as good as before. */
  | "STORE_READ"
  | "STORE_CLOSED";

/** Every message names the database's path. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;
  readonly path: string;
  /** Files or records; empty unless the code is STORE_DAMAGED. */
  readonly damages: readonly Damage[];
  constructor(code: StoreErrorCode, path: string, message: string, cause?: unknown, damages: readonly Damage[] = []) {
    super(`${path}: ${message}`, { cause });
    this.code = code;
    this.path = path;
    this.damages = damages;
  }
}

/** Name of the database's directory in the state directory. */
export const DATABASE_NAME = "ipam.db";

/** A repaired database that is whole, until it takes the damaged one's place. */
export const REPAIRED_NAME = "ipam.db.repaired";

/** Real paths of the databases that are open in this process. */
const openHere = new Set<string>();

/** How many keys are read at once where there may be very many. */
const KEYS_AT_ONCE = 1_000;

type Database = Level<string, string>;

export interface OpenedStore {
  readonly store: Store;
  /** What is in it. */
  readonly snapshot: Snapshot;
}

export class Store implements RecordStore {
  readonly path: string;
  #database: Database;
  #queue: CommitQueue<Write>;
  #reopening: Promise<Snapshot> | undefined;
  #closed = false;

  private constructor(path: string, database: Database) {
    this.path = path;
    this.#database = database;
    this.#queue = this.#newQueue();
  }

  /**
   * Opens `<stateDir>/ipam.db`, which is made (mode 0700) if it isn't there, and reads all of it.
   * @throws StoreError
   */
  static async open(stateDir: string): Promise<OpenedStore> {
    await finishRepair(resolve(stateDir));
    const path = await prepareDirectory(join(resolve(stateDir), DATABASE_NAME));
    globalThis.faultPoint?.("daemon.database-directory-made");
    if (openHere.has(path)) {
      throw new StoreError("STORE_LOCKED", path, `the database is open in this process (${process.pid}) already`);
    }
    openHere.add(path);
    try {
      await refuseWhenLocked(path);
      await refuseWhenDamaged(path);
      const { database, snapshot } = await openDatabase(path);
      return { store: new Store(path, database), snapshot };
    } catch (error) {
      openHere.delete(path);
      throw error;
    }
  }

  get failed(): boolean {
    return this.#queue.failed;
  }

  /** @throws StoreError STORE_WRITE, STORE_CLOSED */
  async commit(writes: readonly Write[]): Promise<void> {
    if (this.#closed) throw new StoreError("STORE_CLOSED", this.path, "the database is closed");
    await this.#queue.commit(writes);
  }

  /** @throws StoreError STORE_READ */
  async *historyKeys({ gte = HISTORY_RANGE.gte, lt = HISTORY_RANGE.lt }: KeyRange): AsyncIterable<readonly string[]> {
    try {
      const iterator = this.#database.keys({ gte, lt, reverse: true, fillCache: false });
      try {
        for (;;) {
          const keys = await iterator.nextv(KEYS_AT_ONCE);
          if (keys.length === 0) return;
          yield keys;
        }
      } finally {
        await iterator.close();
      }
    } catch (cause) {
      throw this.#unreadable(cause);
    }
  }

  /** @throws StoreError STORE_READ */
  async historyValues(keys: readonly string[]): Promise<(string | undefined)[]> {
    try {
      return await this.#database.getMany([...keys], { fillCache: false });
    } catch (cause) {
      throw this.#unreadable(cause);
    }
  }

  #unreadable(cause: unknown): StoreError {
    return new StoreError("STORE_READ", this.path, `reading the history failed: ${messageOf(cause)}`, cause);
  }

  /** @throws StoreError; the store stays failed then, and this can be called again */
  async reopen(): Promise<Snapshot> {
    if (this.#closed) throw new StoreError("STORE_CLOSED", this.path, "the database is closed");
    const reopening = this.#reopen();
    this.#reopening = reopening;
    return reopening;
  }

  async #reopen(): Promise<Snapshot> {
    await this.#queue.idle();
    await this.#database.close();
    globalThis.faultPoint?.("daemon.database-closed");
    const { database, snapshot } = await openDatabase(this.path);
    this.#database = database;
    this.#queue = this.#newQueue();
    return snapshot;
  }

  async close(): Promise<void> {
    this.#closed = true;
    // What it opens would be closed by nobody. Whoever asked for it hears of its failure.
    await this.#reopening?.catch(() => {});
    await this.#queue.idle();
    await this.#database.close();
    openHere.delete(this.path);
  }

  #newQueue(): CommitQueue<Write> {
    return new CommitQueue(async (writes) => {
      try {
        const operations: BatchOperation<Database, string, string>[] = writes;
        globalThis.faultPoint?.("daemon.batch-begun");
        await this.#database.batch(operations, { sync: true });
        globalThis.faultPoint?.("daemon.batch-written");
      } catch (cause) {
        globalThis.faultPoint?.("daemon.write-failed");
        throw new StoreError("STORE_WRITE", this.path, `writing failed: ${messageOf(cause)}`, cause);
      }
    });
  }
}

/** Opens and reads a database that this process has not open. */
async function openDatabase(path: string): Promise<{ database: Database; snapshot: Snapshot }> {
  // A new object each time, and only now: its constructor already schedules the opening.
  const database: Database = new Level(path, { keyEncoding: "utf8", valueEncoding: "utf8" });
  try {
    await database.open();
    globalThis.faultPoint?.("daemon.database-opened");
  } catch (cause) {
    throw await openError(path, cause);
  }
  try {
    // All but the history, of which the last key is enough.
    const before = await database.iterator({ lt: HISTORY_RANGE.gte }).all();
    const after = await database.iterator({ gte: HISTORY_RANGE.lt }).all();
    const entries = [...before, ...after];
    const [lastKey] = await database.keys({ ...HISTORY_RANGE, reverse: true, limit: 1 }).all();
    const lastTenure = lastKey === undefined ? undefined : parseHistoryKey(lastKey);
    const snapshot = { ...parseSnapshot(entries), lastTenure };
    globalThis.faultPoint?.("daemon.records-read");
    if (!entries.some(([key]) => key === FORMAT_KEY)) {
      const writes: BatchOperation<Database, string, string>[] = [formatWrite()];
      await database.batch(writes, { sync: true });
    }
    return { database, snapshot };
  } catch (cause) {
    await database.close();
    if (cause instanceof RecordError && cause.code === "RECORD_NEWER") {
      throw new StoreError("STORE_NEWER", path, cause.message, cause);
    }
    if (cause instanceof RecordError) throw damaged(path, cause.message, cause);
    const reason = reasonOf(cause);
    if (codeOf(reason) === "LEVEL_CORRUPTION") throw damaged(path, messageOf(reason), cause);
    throw new StoreError("STORE_OPEN", path, `the database cannot be read: ${messageOf(reason)}`, cause);
  }
}

async function openError(path: string, cause: unknown): Promise<StoreError> {
  const reason = reasonOf(cause);
  if (codeOf(reason) === "LEVEL_LOCKED") {
    const holder = await describeHolder(join(path, "LOCK"));
    return new StoreError("STORE_LOCKED", path, `the database is held by ${holder}`, cause);
  }
  if (codeOf(reason) === "LEVEL_CORRUPTION") return damaged(path, messageOf(reason), cause);
  return new StoreError("STORE_OPEN", path, `the database cannot be opened: ${messageOf(reason)}`, cause);
}

function damaged(path: string, problem: string, cause: unknown): StoreError {
  const message = `the database is damaged: ${problem}`;
  return new StoreError("STORE_DAMAGED", path, message, cause, [{ file: DATABASE_NAME, problem }]);
}

/**
 * LevelDB takes its lock and then refuses what is there, or that nothing is there: so this changes nothing.
 * @throws StoreError STORE_LOCKED, STORE_OPEN
 */
export async function refuseWhenLocked(path: string): Promise<void> {
  try {
    await new Level(path, { createIfMissing: false, errorIfExists: true }).open();
  } catch (cause) {
    // Anything without a code is the refusal.
    if (codeOf(reasonOf(cause)) !== undefined) throw await openError(path, cause);
  }
}

/** @throws StoreError STORE_DAMAGED, STORE_OPEN */
async function refuseWhenDamaged(path: string): Promise<void> {
  let damages: Damage[];
  try {
    damages = await inspectDatabase(path);
  } catch (cause) {
    throw new StoreError("STORE_OPEN", path, `the database cannot be read: ${messageOf(cause)}`, cause);
  }
  if (damages.length === 0) return;
  const list = damages.map(({ file, problem }) => `${file}: ${problem}`).join("; ");
  throw new StoreError("STORE_DAMAGED", path, `the database is damaged: ${list}`, undefined, damages);
}

/** What LevelDB said, which `level` wraps. */
function reasonOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? error.cause : error;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/** A repaired database that was whole when its maker was killed takes the place that the damaged one has left. */
async function finishRepair(stateDir: string): Promise<void> {
  const repaired = join(stateDir, REPAIRED_NAME);
  const path = join(stateDir, DATABASE_NAME);
  try {
    const there = await readdir(stateDir);
    if (!there.includes(REPAIRED_NAME)) return;
    // With the damaged one still in its place, it is found and repaired once more.
    if (there.includes(DATABASE_NAME)) await rm(repaired, { recursive: true });
    else await rename(repaired, path);
    await syncDirectory(stateDir);
  } catch (cause) {
    if (codeOf(cause) === "ENOENT" || codeOf(cause) === "ENOTDIR") return;
    throw new StoreError("STORE_OPEN", path, `a repair could not be brought to its end: ${messageOf(cause)}`, cause);
  }
}

/** Makes the directory, private to us and durable, and gives its real path. */
async function prepareDirectory(path: string): Promise<string> {
  try {
    // Synced up to the first directory that was there: an fsynced record in a directory that a power cut takes is not durable.
    const firstMade = await mkdir(path, { recursive: true, mode: 0o700 });
    // Whatever the umask or an earlier owner left: LevelDB makes its files 0644, so the directory has to be what is private.
    await chmod(path, 0o700);
    if (firstMade !== undefined) {
      for (let made = path; made.length >= firstMade.length; made = dirname(made)) await syncDirectory(dirname(made));
    }
    return await realpath(path);
  } catch (cause) {
    throw new StoreError("STORE_OPEN", path, `the directory cannot be made or used: ${messageOf(cause)}`, cause);
  }
}

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
