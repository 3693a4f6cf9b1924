// SPDX-License-Identifier: Apache-2.0
//
// What is in the table's sets, and by whom. Pure: a change is planned, made in the kernel, and then made here.
import { type Entry, entryId, sameEntry } from "./entries.ts";

/** What leads from one content of the sets to another. Removals come first: an element may be in both, with other data. */
export interface Change {
  readonly owner: string;
  readonly remove: readonly Entry[];
  readonly add: readonly Entry[];
}

interface Held {
  readonly owner: string;
  readonly entry: Entry;
}

export class Contents {
  /** By entryId. */
  readonly #held: Map<string, Held>;
  /** The IDs of each owner's entries; an owner without any is not in it. */
  readonly #owned: Map<string, Set<string>>;

  constructor() {
    this.#held = new Map();
    this.#owned = new Map();
  }

  get size(): number {
    return this.#held.size;
  }

  /** All entries, as they will be once the change is made where one is given. */
  *entries(change?: Change): IterableIterator<Entry> {
    const removed = new Set(change?.remove.map(entryId));
    for (const [id, { entry }] of this.#held) if (!removed.has(id)) yield entry;
    if (change !== undefined) yield* change.add;
  }

  /**
   * What leaves the owner with exactly these entries. One that somebody else has goes over to this owner: an address or a
   * port is given to one attachment only, so the other is gone.
   */
  planSet(owner: string, entries: readonly Entry[]): Change {
    const wanted = new Map(entries.map((entry) => [entryId(entry), entry]));
    const remove: Entry[] = [];
    const add: Entry[] = [];
    for (const id of this.#owned.get(owner) ?? []) {
      if (!wanted.has(id)) remove.push((this.#held.get(id) as Held).entry);
    }
    for (const [id, entry] of wanted) {
      const held = this.#held.get(id);
      if (held !== undefined && held.owner === owner && sameEntry(held.entry, entry)) continue;
      if (held !== undefined) remove.push(held.entry);
      add.push(entry);
    }
    return { owner, remove, add };
  }

  /** Makes a planned change; takes time in the change only. */
  apply({ owner, remove, add }: Change): void {
    for (const entry of remove) this.#drop(entryId(entry));
    for (const entry of add) {
      const id = entryId(entry);
      this.#held.set(id, { owner, entry });
      const owned = this.#owned.get(owner);
      if (owned === undefined) this.#owned.set(owner, new Set([id]));
      else owned.add(id);
    }
  }

  #drop(id: string): void {
    const held = this.#held.get(id);
    if (held === undefined) return;
    this.#held.delete(id);
    const owned = this.#owned.get(held.owner);
    owned?.delete(id);
    if (owned?.size === 0) this.#owned.delete(held.owner);
  }
}
