// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { BUDGETS, withBudgets } from "./budgets.ts";
import { CASES } from "./cases/all.ts";
import type { Row } from "./samples.ts";

const row = (what: string): Row => ({ what, unit: "ms", ours: [1], peer: [2], peerName: "ptp" });
const HELD = [{ id: "add", what: "ADD: wall", budget: { atMost: 0.7 } }];

test("a row has the budget of its case and name, and others have none", () => {
  expect(withBudgets("add", [row("ADD: wall"), row("ADD: CPU")], HELD)).toEqual([
    { ...row("ADD: wall"), budget: { atMost: 0.7 } },
    row("ADD: CPU"),
  ]);
  expect(withBudgets("status", [row("ADD: wall")], HELD)).toEqual([row("ADD: wall")]);
});

test("a budget whose row is gone or has another name is an error", () => {
  expect(() => withBudgets("add", [row("ADD: wall clock")], HELD)).toThrow(/the case add has no row "ADD: wall"/);
});

test("no two budgets are of the same row", () => {
  const rows = BUDGETS.map(({ id, what }) => `${id} ${what}`);
  expect(new Set(rows).size).toBe(rows.length);
});

test("every budget is of a case that there is, and no two cases have one name", () => {
  const ids = CASES.map(({ id }) => id);
  expect(BUDGETS.filter(({ id }) => !ids.includes(id))).toEqual([]);
  expect(new Set(ids).size).toBe(ids.length);
});
