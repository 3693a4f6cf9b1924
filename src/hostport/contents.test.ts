// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { Contents } from "./contents.ts";
import { type Entry, entryId } from "./entries.ts";

/** Few owners, keys and data, so that they meet. */
const owners = fc.constantFrom("a", "b", "c");
const entries: fc.Arbitrary<Entry[]> = fc.uniqueArray(
  fc.record({
    set: fc.constantFrom("hostport4", "hostport6"),
    key: fc.nat(3).map((byte) => Uint8Array.of(byte)),
    data: fc.nat(2).map((byte) => Uint8Array.of(byte)),
  }),
  { selector: entryId, maxLength: 5 },
);

/** A set of the kernel: refuses to remove what isn't there, and to add what is. */
class KernelSets {
  readonly #elements = new Map<string, Entry>();

  apply({ remove, add }: { remove: readonly Entry[]; add: readonly Entry[] }): void {
    for (const entry of remove) expect(this.#elements.delete(entryId(entry))).toBe(true);
    for (const entry of add) {
      expect(this.#elements.has(entryId(entry))).toBe(false);
      this.#elements.set(entryId(entry), entry);
    }
  }

  get all(): unknown[] {
    return sorted(this.#elements.values());
  }
}

function sorted(all: Iterable<Entry>): string[] {
  return [...all].map((entry) => `${entryId(entry)} ${entry.data}`).sort();
}

test("whatever happens, the kernel has what each owner was given last and nobody else took", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(owners, entries), { maxLength: 20 }), (steps) => {
      const contents = new Contents();
      const kernel = new KernelSets();
      const given = new Map<string, [owner: string, entry: Entry]>();
      for (const [owner, wanted] of steps) {
        const change = contents.planSet(owner, wanted);
        const after = sorted(contents.entries(change));
        kernel.apply(change);
        contents.apply(change);
        for (const [id, [holder]] of given) if (holder === owner) given.delete(id);
        for (const entry of wanted) given.set(entryId(entry), [owner, entry]);
        const expected = sorted([...given.values()].map(([, entry]) => entry));
        expect(kernel.all).toEqual(expected);
        expect(sorted(contents.entries())).toEqual(expected);
        expect(after).toEqual(expected);
        expect(contents.size).toBe(expected.length);
      }
    }),
  );
});

test("what an owner has already is neither removed nor added", () => {
  fc.assert(
    fc.property(owners, entries, (owner, wanted) => {
      const contents = new Contents();
      contents.apply(contents.planSet(owner, wanted));
      expect(contents.planSet(owner, wanted)).toEqual({ owner, remove: [], add: [] });
    }),
  );
});
