// SPDX-License-Identifier: Apache-2.0
//
// A database in memory with the faults that a disk has. service.test.ts runs the same cases on it and on the real one.
import { CommitQueue } from "../commit-queue.ts";
import { HISTORY_RANGE, type KeyRange, parseHistoryKey } from "../history.ts";
import type { Snapshot, Write } from "../records.ts";
import { parseSnapshot } from "../snapshot.ts";
import type { RecordStore } from "../store.ts";

/** How the next write fails: with nothing written, or with everything written and the error told nevertheless. */
export type Fault = "before" | "after";

/** The part that outlives a crash. */
export class MemoryDisk {
  readonly entries = new Map<string, string>();
  /** One is used up by each write. */
  readonly faults: Fault[] = [];
  /** How many times reopening fails. */
  failingOpens = 0;
  /** How many batches were written. */
  batches = 0;

  snapshot(): Snapshot {
    const [lastKey] = this.keysOf(HISTORY_RANGE);
    return {
      ...parseSnapshot(this.entries),
      lastTenure: lastKey === undefined ? undefined : parseHistoryKey(lastKey),
    };
  }

  /** Last first. */
  keysOf({ gte = "", lt = "~" }: KeyRange): string[] {
    return [...this.entries.keys()]
      .filter((key) => key >= gte && key < lt)
      .sort()
      .reverse();
  }
}

export class MemoryStore implements RecordStore {
  readonly #disk: MemoryDisk;
  /** What a write waits for before it touches the disk, so that a test can hold it. */
  readonly #gate: () => Promise<void>;
  #queue: CommitQueue<Write>;
  #crashed = false;

  constructor(disk: MemoryDisk, gate: () => Promise<void> = async () => {}) {
    this.#disk = disk;
    this.#gate = gate;
    this.#queue = this.#newQueue();
  }

  get failed(): boolean {
    return this.#queue.failed;
  }

  commit(writes: readonly Write[]): Promise<void> {
    return this.#queue.commit(writes);
  }

  async reopen(): Promise<Snapshot> {
    await this.#queue.idle();
    if (this.#disk.failingOpens > 0) {
      this.#disk.failingOpens--;
      throw new Error("the disk is still full");
    }
    const snapshot = this.#disk.snapshot();
    this.#queue = this.#newQueue();
    return snapshot;
  }

  async *historyKeys(range: KeyRange): AsyncIterable<readonly string[]> {
    // Pieces so small that every reader meets their bounds.
    const keys = this.#disk.keysOf(range);
    for (let at = 0; at < keys.length; at += 2) yield keys.slice(at, at + 2);
  }

  async historyValues(keys: readonly string[]): Promise<(string | undefined)[]> {
    return keys.map((key) => this.#disk.entries.get(key));
  }

  close(): Promise<void> {
    return this.#queue.idle();
  }

  /** From now on nothing reaches the disk and nobody gets an answer, as after kill -9. */
  crash(): void {
    this.#crashed = true;
  }

  #newQueue(): CommitQueue<Write> {
    return new CommitQueue(async (writes) => {
      await this.#gate();
      if (this.#crashed) return new Promise(() => {});
      const fault = this.#disk.faults.shift();
      if (fault === "before") throw new Error("no space left on device");
      for (const write of writes) {
        if (write.type === "put") this.#disk.entries.set(write.key, write.value);
        else this.#disk.entries.delete(write.key);
      }
      this.#disk.batches++;
      if (fault === "after") throw new Error("fsync failed");
    });
  }
}
