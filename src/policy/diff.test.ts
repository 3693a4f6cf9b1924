// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { diff } from "./diff.ts";
import { isEmpty, type NamedSet, NO_RULESET, type PolicyChain, type Ruleset } from "./ruleset.ts";
import { applyChange } from "./testing/apply-change.ts";

function ruleset(sets: readonly NamedSet[], chains: readonly PolicyChain[]): Ruleset {
  return {
    sets: new Map(sets.map((set) => [set.name, set])),
    chains: new Map(chains.map((chain) => [chain.name, chain])),
  };
}

const drop = (name: string): PolicyChain => ({
  name,
  family: 4,
  direction: "ingress",
  policies: [],
  rules: [{ matches: [], verdict: { kind: "drop" }, origins: [], counted: true }],
});
const map = (elements: Record<string, string>): NamedSet => ({
  kind: "map",
  name: "ingress4",
  key: ["ipv4_addr"],
  elements: new Map(Object.entries(elements)),
});

test("a map's element that leads elsewhere is removed and added, and the chain it led to goes last", () => {
  const before = ruleset([map({ "10.0.0.1": "a", "10.0.0.2": "a" })], [drop("a")]);
  const after = ruleset([map({ "10.0.0.1": "b", "10.0.0.2": "b" })], [drop("b")]);
  const change = diff(before, after);
  expect(change.goneChains).toEqual(["a"]);
  expect(applyChange(before, change)).toEqual(after);
});

test("from nothing and to nothing", () => {
  const full = ruleset([map({ "10.0.0.1": "a" })], [drop("a")]);
  expect(applyChange(NO_RULESET, diff(NO_RULESET, full))).toEqual(full);
  expect(applyChange(full, diff(full, NO_RULESET))).toEqual(NO_RULESET);
  expect(isEmpty(diff(full, ruleset([map({ "10.0.0.1": "a" })], [drop("a")])))).toBe(true);
});

test("a set that becomes another type under its name is refused", () => {
  const set = (interval: boolean): NamedSet => ({
    kind: "set",
    name: "s",
    key: ["ipv4_addr"],
    interval,
    elements: new Set(),
  });
  expect(() => diff(ruleset([set(true)], []), ruleset([set(false)], []))).toThrow("another type");
});
