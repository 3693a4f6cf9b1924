// SPDX-License-Identifier: Apache-2.0
//
// Group commit. A synced write costs the same for one record and for a hundred, so whoever comes while a write is under
// way waits for the next one and shares it.

/**
 * Writes batches one after the other, in the order they came; each `commit` resolves when its operations are durable.
 *
 * After a failed write nothing further is written: what waits was decided on the assumption that the failed part is on
 * disk. The owner finds out what is there and makes a new queue.
 */
export class CommitQueue<T> {
  readonly #write: (operations: T[]) => Promise<void>;
  #waiting: { operations: T[]; settled: PromiseWithResolvers<void> } | undefined;
  #running: Promise<void> | undefined;
  #failure: unknown;
  #failed = false;

  /** @param write makes a batch durable, all of it or nothing; never called while an earlier call is under way */
  constructor(write: (operations: T[]) => Promise<void>) {
    this.#write = write;
  }

  /** Whether a write has failed, for good. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Resolves once the operations are durable. Rejects with the reason of the write that failed, theirs or an earlier one. */
  commit(operations: readonly T[]): Promise<void> {
    if (this.#failed) return Promise.reject(this.#failure);
    this.#waiting ??= { operations: [], settled: Promise.withResolvers<void>() };
    this.#waiting.operations.push(...operations);
    const { promise } = this.#waiting.settled;
    this.#running ??= this.#run();
    return promise;
  }

  /** Resolves when nothing is being written. Never rejects: the writers have been told. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#waiting !== undefined) {
      const { operations, settled } = this.#waiting;
      this.#waiting = undefined;
      try {
        if (this.#failed) throw this.#failure;
        await this.#write(operations);
        settled.resolve();
      } catch (failure) {
        this.#failed = true;
        this.#failure = failure;
        settled.reject(failure);
      }
    }
    this.#running = undefined;
  }
}
