// SPDX-License-Identifier: Apache-2.0
//
// What was measured, for people and for programs. No figure of ours stands without the peer's and their ratio. Pure.
import { BUDGETS, type Held } from "./budgets.ts";
import { budgetText, number, times } from "./figures.ts";
import type { Machine } from "./machine.ts";
import { type Row, ratio, summarize, tail, withinBudget } from "./samples.ts";

const HEADER = ["", "ours", "p99", "peer", "p99", "ratio", "budget", ""];

/** A table of columns. */
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
  const bad = (values: readonly number[]) => {
    const value = tail(values, row.unit);
    return value === undefined ? "" : number(value);
  };
  return [
    row.what,
    `${number(ours.median)} ${row.unit}`,
    bad(row.ours),
    `${number(peer.median)} ${row.unit}`,
    bad(row.peer),
    `${times(ratio(row))} ×`,
    row.budget === undefined ? "" : budgetText(row.budget, row.unit),
    verdict(row),
  ];
}

function verdict(row: Row): string {
  const kept = withinBudget(row);
  return kept === undefined ? "" : kept ? "kept" : "MISSED";
}

/** What one case measured. */
export interface CaseResult {
  readonly id: string;
  readonly title: string;
  readonly commit: string;
  /** When it began, as ISO 8601 has it. */
  readonly date: string;
  /** How many pairs were asked for. */
  readonly runs: number;
  /** How long it took, setting up included. */
  readonly seconds: number;
  readonly rows: readonly Row[];
}

/** All samples and what follows from them, as a JSON document. */
export function jsonDocument(machine: Machine, results: readonly CaseResult[]): string {
  const cases = results.map(({ rows, ...rest }) => ({
    ...rest,
    rows: rows.map((row) => ({
      ...row,
      ratio: ratio(row),
      kept: withinBudget(row) ?? null,
      summary: { ours: summarize(row.ours), peer: summarize(row.peer) },
    })),
  }));
  return `${JSON.stringify({ machine, cases }, null, 2)}\n`;
}

/**
 * The results of an earlier run, with those of this one in the place of the same cases, in the order of `ids`.
 * @param document of jsonDocument()
 * @throws Error when it is of another machine, beside whose figures none of this one may stand
 */
export function together(
  machine: Machine,
  document: string,
  results: readonly CaseResult[],
  ids: readonly string[],
): CaseResult[] {
  const earlier = JSON.parse(document) as { machine: Machine; cases: CaseResult[] };
  for (const key of ["cpu", "cores", "memoryGB", "kernel"] as const) {
    const [then, now] = [earlier.machine[key], machine[key]];
    if (then !== now) throw new Error(`the earlier run was on another machine: its ${key} is ${then}, not ${now}`);
  }
  const all = new Map([...earlier.cases, ...results].map((result) => [result.id, result]));
  return ids.flatMap((id) => all.get(id) ?? []);
}

/** All of it as a page in Markdown, with a picture beside each table (plot.ts) under the case's name. */
export function reportPage(machine: Machine, results: readonly CaseResult[]): string {
  const { cpu, cores, memoryGB, kernel, system, node, load, packages } = machine;
  const peers = Object.entries(packages).map(([name, version]) => `${name} ${version}`);
  return [
    "# What was measured",
    "",
    "Written by `npm run bench -- --report`. Every sample of ours was taken in turn with one of the peer's, in one run on one",
    "machine, and every figure has its ratio beside it: ours over the peer's, of the medians. Only ratios say something about",
    "another machine. [anatomy.md](anatomy.md) says where the time of one ADD goes, and why what is missed is missed.",
    "",
    `- **Machine**: ${cores} × ${cpu}, ${memoryGB} GB, ${system}, Linux ${kernel}, load ${number(load)} before the run`,
    `- **Programs**: Node ${node}, ${peers.length === 0 ? "peers of unknown versions" : peers.join(", ")}`,
    "- **Runs**: `--runs` is how many pairs there are of what is short; of what takes seconds there are fewer",
    "",
    "**p99** is what 99 of 100 samples are not worse than: of rates it is the low end, of fewer than 100 samples the worst one,",
    "and of fewer than 20 it isn't said. **Wall** and **CPU** (user and system) are of whole processes from their start to their",
    "end, all plugins of a chain together, as a runtime runs them. **Peak memory** is the resident set of the largest of them,",
    "taken in runs by themselves because who weighs takes time too.",
    "",
    "In the pictures a dot is a sample, ours above the peer's, and a stroke the median; of very many samples evenly spaced ranks.",
    "",
    "## Budgets",
    "",
    "Bounds of a ratio hold on any machine; those of our own figure are for one with two cores.",
    "",
    ...budgetTable(results),
    ...results.flatMap(({ id, title, commit, date, runs, seconds, rows }) => [
      "",
      `## ${title}`,
      "",
      `\`npm run bench -- --case ${id} --runs ${runs}\`, of commit ${commit}, on ${date.slice(0, 10)}, in ${seconds} s. Beside ${peersOf(rows)}.`,
      "",
      ...markdownTable(rows),
      "",
      `![samples of ours and of the peer](${id}.svg)`,
    ]),
    "",
  ].join("\n");
}

function peersOf(rows: readonly Row[]): string {
  return [...new Set(rows.map(({ peerName }) => peerName))].join("; ");
}

/** Every budget, whether it was measured or not. */
export function budgetTable(results: readonly CaseResult[], budgets: readonly Held[] = BUDGETS): string[] {
  const rows = new Map(results.flatMap(({ id, rows }) => rows.map((row) => [`${id} ${row.what}`, row])));
  return markdown([
    ["case", "figure", "beside", "ours", "ratio", "budget", ""],
    ...budgets.map(({ id, what, budget }) => {
      const row = rows.get(`${id} ${what}`);
      if (row === undefined) return [id, what, "", "", "", "", "not measured"];
      const ours = `${number(summarize(row.ours).median)} ${row.unit}`;
      return [
        id,
        what,
        row.peerName,
        ours,
        `${times(ratio(row))} ×`,
        budgetText(budget, row.unit),
        verdict({ ...row, budget }),
      ];
    }),
  ]);
}

function markdownTable(rows: readonly Row[]): string[] {
  return markdown([HEADER, ...rows.map(cellsOf)]);
}

function markdown([header = [], ...lines]: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...lines.map(line)];
}
