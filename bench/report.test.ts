// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { Machine } from "./machine.ts";
import { budgetTable, type CaseResult, jsonDocument, reportPage, tableLines, together } from "./report.ts";
import type { Row } from "./samples.ts";

const MACHINE: Machine = {
  ...{ cpu: "Example CPU", cores: 2, memoryGB: 8, kernel: "6.1.0", system: "Debian 12", load: 0.1, node: "v24.0.0" },
  packages: { "containernetworking-plugins": "1.1.1" },
};

const row = (more: Partial<Row> = {}): Row => ({
  ...{ what: "ADD: wall", unit: "ms", ours: [10, 12, 11], peer: [20, 22, 21], peerName: "ptp" },
  ...more,
});

const caseOf = (...rows: Row[]): CaseResult => ({
  ...{ id: "add", title: "ADD of a pod", commit: "abc1234", date: "2030-01-02T03:04:05Z", runs: 30, seconds: 12 },
  rows,
});

test("every line of the table has ours, the peer's and their ratio", () => {
  const lines = tableLines([row(), row({ what: "ADD: peak memory", unit: "MB", budget: { atMost: 0.5 } })]);
  expect(lines).toHaveLength(3);
  expect(lines[1]).toMatch(/^ADD: wall\s+11.0 ms\s+21.0 ms\s+0.52 ×$/);
  expect(lines[2]).toMatch(/0.52 ×\s+≤ 0.5 ×\s+MISSED$/);
});

test("a p99 stands beside the median where there are samples enough", () => {
  const many = Array.from({ length: 200 }, (_, i) => 100 + i);
  expect(tableLines([row({ ours: many, peer: many })])[1]).toMatch(/200 ms\s+297\s+200 ms\s+297/);
});

test("the table of budgets has each of them, with what was measured or that it wasn't", () => {
  const budgets = [
    { id: "add", what: "ADD: wall", budget: { atMost: 0.7 } },
    { id: "add", what: "ADD: CPU", budget: { oursAtMost: 5 } },
    { id: "traffic", what: "one TCP stream", budget: { atLeast: 1 } },
  ];
  const measured = caseOf(row({ budget: { atMost: 0.7 } }), row({ what: "ADD: CPU", budget: { oursAtMost: 5 } }));
  expect(budgetTable([measured], budgets).slice(2)).toEqual([
    "| add | ADD: wall | ptp | 11.0 ms | 0.52 × | ≤ 0.7 × | kept |",
    "| add | ADD: CPU | ptp | 11.0 ms | 0.52 × | ≤ 5 ms | MISSED |",
    "| traffic | one TCP stream |  |  |  |  | not measured |",
  ]);
});

test("the page describes the machine, leads to the anatomy and has a picture for each case", () => {
  const page = reportPage(MACHINE, [caseOf(row())]);
  for (const words of ["2 × Example CPU, 8 GB", "containernetworking-plugins 1.1.1", "](anatomy.md)", "](add.svg)"]) {
    expect(page).toContain(words);
  }
});

test("the document has the machine, and each row with all samples, the ratio and whether the budget is kept", () => {
  const document = JSON.parse(jsonDocument(MACHINE, [caseOf(row({ budget: { atMost: 0.7 } }))]));
  expect(document).toMatchObject({
    machine: { cpu: "Example CPU", packages: { "containernetworking-plugins": "1.1.1" } },
    cases: [
      {
        id: "add",
        runs: 30,
        commit: "abc1234",
        rows: [{ what: "ADD: wall", ours: [10, 12, 11], kept: true, summary: { ours: { p99: 12 } } }],
      },
    ],
  });
  expect(document.cases[0].rows[0].ratio).toBeCloseTo(11 / 21);
});

test("cases of an earlier run stay where they weren't measured again", () => {
  const status = { ...caseOf(row({ what: "STATUS: wall" })), id: "status" };
  const earlier = jsonDocument(MACHINE, [caseOf(row()), status]);
  const again = { ...caseOf(row({ ours: [1] })), commit: "def5678" };
  const all = together(MACHINE, earlier, [again], ["status", "traffic", "add"]);
  expect(all.map(({ id, commit }) => [id, commit])).toEqual([
    ["status", "abc1234"],
    ["add", "def5678"],
  ]);
  expect(all[0]?.rows[0]).toMatchObject({ ours: [10, 12, 11], peerName: "ptp" });
});

test("figures of another machine are refused", () => {
  const earlier = jsonDocument({ ...MACHINE, kernel: "5.10.0" }, []);
  expect(() => together(MACHINE, earlier, [], [])).toThrow("its kernel is 5.10.0, not 6.1.0");
});
