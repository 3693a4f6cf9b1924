// SPDX-License-Identifier: Apache-2.0
//
// Things found by their label selectors: of thousands, those that select certain labels, without a look at most of the others.
import type { Words } from "../kube/objects.ts";
import { type LabelSelector, selects } from "../kube/selector.ts";

interface Entry<T> {
  readonly selector: LabelSelector;
  readonly item: T;
}

export class SelectorIndex<T> {
  /** By what a label must be for any chance: "key=value", "key", or "" for what no one label decides. */
  readonly #buckets = new Map<string, Map<T, Entry<T>>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(selector: LabelSelector, item: T): void {
    for (const at of bucketsOf(selector)) {
      const bucket = this.#buckets.get(at) ?? new Map<T, Entry<T>>();
      bucket.set(item, { selector, item });
      this.#buckets.set(at, bucket);
    }
    this.#size++;
  }

  /** @param selector the one it was added with */
  remove(selector: LabelSelector, item: T): void {
    for (const at of bucketsOf(selector)) {
      const bucket = this.#buckets.get(at);
      bucket?.delete(item);
      if (bucket?.size === 0) this.#buckets.delete(at);
    }
    this.#size--;
  }

  /** Those whose selector selects the labels, each once: of the values of one key an object has only one. */
  *matching(labels: Words): Generator<T> {
    yield* this.#among("", labels);
    for (const [key, value] of Object.entries(labels)) {
      yield* this.#among(key, labels);
      yield* this.#among(`${key}=${value}`, labels);
    }
  }

  *#among(at: string, labels: Words): Generator<T> {
    for (const { selector, item } of this.#buckets.get(at)?.values() ?? []) if (selects(selector, labels)) yield item;
  }
}

function bucketsOf(selector: LabelSelector): Iterable<string> {
  const one = selector.find(({ operator }) => operator === "In");
  if (one !== undefined) return new Set(one.values.map((value) => `${one.key}=${value}`));
  const some = selector.find(({ operator }) => operator === "Exists");
  return [some?.key ?? ""];
}
