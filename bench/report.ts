// SPDX-License-Identifier: Apache-2.0
//
// What was measured, for people and for programs. No figure of ours stands without the peer's and their ratio. Pure.
import { type Budget, type Row, ratio, summarize, withinBudget } from "./samples.ts";

/** Where it was measured. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGB: number;
  readonly kernel: string;
  readonly commit: string;
  readonly date: string;
}

const HEADER = ["", "ours", "p99", "peer", "p99", "ratio", "budget", ""];

/** A table of 120 columns at most. */
export function tableLines(rows: readonly Row[]): string[] {
  const cells = [HEADER, ...rows.map(cellsOf)];
  const widths = HEADER.map((_, column) => Math.max(...cells.map((line) => (line[column] as string).length)));
  return cells.map((line) =>
    line
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number),
      )
      .join("  ")
      .trimEnd(),
  );
}

function cellsOf(row: Row): string[] {
  const [ours, peer] = [summarize(row.ours), summarize(row.peer)];
  const kept = withinBudget(row);
  return [
    row.what,
    `${number(ours.median)} ${row.unit}`,
    number(ours.p99),
    `${number(peer.median)} ${row.unit}`,
    number(peer.p99),
    `${times(ratio(row))} ×`,
    row.budget === undefined ? "" : budgetText(row.budget, row.unit),
    kept === undefined ? "" : kept ? "kept" : "MISSED",
  ];
}

function budgetText(budget: Budget, unit: string): string {
  if ("atMost" in budget) return `≤ ${budget.atMost} ×`;
  if ("atLeast" in budget) return `≥ ${budget.atLeast} ×`;
  return "oursAtMost" in budget ? `≤ ${budget.oursAtMost} ${unit}` : `≥ ${budget.oursAtLeast} ${unit}`;
}

/** Two decimals, but for what would be none of then. */
function times(value: number): string {
  return value < 0.01 ? value.toPrecision(1) : value.toFixed(2);
}

/** Three digits that mean something. */
function number(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return value.toPrecision(value >= 10 ? 3 : 2);
}

/** All samples and what follows from them, as a JSON document. */
export function jsonDocument(machine: Machine, runs: number, rows: readonly Row[]): string {
  const measured = rows.map((row) => ({
    ...row,
    ratio: ratio(row),
    kept: withinBudget(row) ?? null,
    summary: { ours: summarize(row.ours), peer: summarize(row.peer) },
  }));
  return `${JSON.stringify({ machine, runs, measured }, null, 2)}\n`;
}

/** What one case measured. */
export interface CaseResult {
  readonly id: string;
  readonly title: string;
  readonly rows: readonly Row[];
}

/** All of it as a page in Markdown, with a picture beside each table (plot.ts) under the case's name. */
export function reportPage(machine: Machine, runs: number, results: readonly CaseResult[]): string {
  const { cpu, cores, memoryGB, kernel, commit, date } = machine;
  return [
    "# What was measured",
    "",
    "Written by `npm run bench -- --report`. Each figure is a median of samples that were taken in turn with the peer's, in one",
    "run on one machine; only ratios say something about another one. [anatomy.md](anatomy.md) says where the time goes.",
    "",
    `${cores} × ${cpu}, ${memoryGB} GB, Linux ${kernel}, commit ${commit}, ${date.slice(0, 10)}, ${runs} pairs of whole processes.`,
    ...results.flatMap(({ id, title, rows }) => [
      "",
      `## ${title}`,
      "",
      `\`npm run bench -- --case ${id}\`, against ${[...new Set(rows.map(({ peerName }) => peerName))].join("; ")}.`,
      "",
      ...markdownTable(rows),
      "",
      `![every sample](${id}.svg)`,
    ]),
    "",
  ].join("\n");
}

function markdownTable(rows: readonly Row[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(HEADER), line(HEADER.map(() => "---")), ...rows.map((row) => line(cellsOf(row)))];
}
