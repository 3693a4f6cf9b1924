// SPDX-License-Identifier: Apache-2.0
//
// npm run bench [-- --case ID …] [--runs N] [--json FILE] [--report] [--with FILE] [--list]
//
// Measures flatnet against what it wants to be better than, in turn and in one run, as root. The programs of dist/ are
// measured: npm run build first.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { BENCH_NEEDS, ensureDebian } from "../scripts/debian.ts";
import { explain, ROOT, say } from "../scripts/repo.ts";
import { Cleanup } from "../test/helpers/daemon.ts";
import { Bench, type Case } from "./bench.ts";
import { withBudgets } from "./budgets.ts";
import { CASES } from "./cases/all.ts";
import { type Machine, thisCommit, thisMachine } from "./machine.ts";
import { distributionSvg } from "./plot.ts";
import { type CaseResult, jsonDocument, reportPage, tableLines, together } from "./report.ts";

const REPORT = join(ROOT, "docs", "benchmarks");

/** The page and its pictures. The page is of these results; pictures of other cases stay as they are. */
function writeReport(machine: Machine, results: readonly CaseResult[]): void {
  mkdirSync(REPORT, { recursive: true });
  for (const { id, title, rows } of results) writeFileSync(join(REPORT, `${id}.svg`), distributionSvg(title, rows));
  writeFileSync(join(REPORT, "README.md"), reportPage(machine, results));
  say(`\nwritten to ${REPORT}`);
}

const OPTIONS = {
  case: { type: "string", multiple: true },
  runs: { type: "string", default: "30" },
  json: { type: "string" },
  report: { type: "boolean" },
  with: { type: "string" },
  list: { type: "boolean" },
} as const;

async function main(): Promise<number> {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.list) {
    for (const { id, title } of CASES) say(`${id.padEnd(14)} ${title}`);
    return 0;
  }
  const runs = Number(values.runs);
  if (!Number.isSafeInteger(runs) || runs < 2) throw new Error(`--runs ${values.runs} is not a whole number from 2 on`);
  const ids = CASES.map(({ id }) => id);
  for (const id of values.case ?? []) if (!ids.includes(id)) throw new Error(`there is no case ${id}: see --list`);
  if (process.getuid?.() !== 0) throw new Error("the bench makes network namespaces: it has to be root");
  await ensureDebian(BENCH_NEEDS);
  const machine = thisMachine();
  const earlier = values.with === undefined ? jsonDocument(machine, []) : readFileSync(values.with, "utf8");
  let results = together(machine, earlier, [], ids);
  const failed: string[] = [];
  for (const one of CASES.filter(({ id }) => values.case?.includes(id) ?? true)) {
    say(`\n${one.title}`);
    const result = await measure(one, runs);
    if (result instanceof Error) {
      // What took an hour before isn't lost, and what comes is measured yet.
      process.stderr.write(`${one.id}: ${explain(result)}\n`);
      failed.push(one.id);
      continue;
    }
    for (const line of tableLines(result.rows)) say(`  ${line}`);
    results = together(machine, earlier, [...results, result], ids);
    if (values.json !== undefined) writeFileSync(values.json, jsonDocument(machine, results));
  }
  if (values.report) writeReport(machine, results);
  if (failed.length > 0) process.stderr.write(`\nfailed: ${failed.join(", ")}\n`);
  return failed.length === 0 ? 0 : 1;
}

async function measure({ id, title, run }: Case, runs: number): Promise<CaseResult | Error> {
  const cleanup = new Cleanup();
  const [commit, date, started] = [thisCommit(), new Date().toISOString(), performance.now()];
  try {
    try {
      const rows = withBudgets(id, await run(new Bench(runs, cleanup)));
      return { id, title, commit, date, runs, seconds: Math.round((performance.now() - started) / 1000), rows };
    } finally {
      await cleanup.run();
    }
  } catch (error) {
    return error instanceof Error ? error : new Error("no error was thrown", { cause: error });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${explain(error)}\n`);
  process.exitCode = 2;
}
