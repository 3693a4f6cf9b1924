// SPDX-License-Identifier: Apache-2.0

/** One at a time for each key, in the order of asking; different keys do not wait for each other. */
export class KeyedLock {
  /** The last in line of each key that is in use. */
  readonly #tails = new Map<string, Promise<unknown>>();

  /** Runs `work` when everybody before it on the same key is done, however that ended. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    // Without anybody before it the work starts now, in this turn.
    const mine = before === undefined ? work() : before.then(work, work);
    this.#tails.set(key, mine);
    try {
      return await mine;
    } finally {
      if (this.#tails.get(key) === mine) this.#tails.delete(key);
    }
  }

  /** Resolves when everybody in line now is done. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#tails.values());
  }
}
