// SPDX-License-Identifier: Apache-2.0
//
// A collection of Kubernetes' objects that a test fills by hand.
import type { Change, Collection } from "../../src/kube/collection.ts";
import type { ObjectKey } from "../../src/kube/objects.ts";

export class HandMade<T> implements Collection<T> {
  state: Collection<T>["state"] = "unknown";
  readonly objects = new Map<ObjectKey, T>();
  confirmedAtMs: number | undefined;
  problem: string | undefined;
  readonly #listeners = new Set<(changes: readonly Change<T>[]) => void>();

  subscribe(onChange: (changes: readonly Change<T>[]) => void): { close(): void } {
    this.#listeners.add(onChange);
    return { close: () => this.#listeners.delete(onChange) };
  }

  /** Objects come, change, or, where they are undefined, go; and the collection is in this state from then on. */
  set(objects: Readonly<Record<ObjectKey, T | undefined>>, state: Collection<T>["state"] = "synced"): void {
    const changes = Object.entries(objects).map(([key, after]) => ({ key, before: this.objects.get(key), after }));
    for (const { key, after } of changes) {
      if (after === undefined) this.objects.delete(key);
      else this.objects.set(key, after);
    }
    this.state = state;
    this.#tell(changes);
  }

  /** The API server is away, or back again. */
  trouble(problem: string | undefined): void {
    this.problem = problem;
    this.#tell([]);
  }

  #tell(changes: readonly Change<T>[]): void {
    for (const listener of [...this.#listeners]) listener(changes);
  }
}
