// SPDX-License-Identifier: Apache-2.0
//
// npm run bench [-- --case ID …] [--runs N] [--json FILE] [--report] [--list]
//
// Measures flatnet against what it wants to be better than, in turn and in one run, as root. The programs of dist/ are
// measured: npm run build first.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { BENCH_NEEDS, ensureDebian } from "../scripts/debian.ts";
import { explain, ROOT, say } from "../scripts/repo.ts";
import { Cleanup } from "../test/helpers/daemon.ts";
import { Bench, type Case } from "./bench.ts";
import { withBudgets } from "./budgets.ts";
import { burstCases } from "./cases/bursts.ts";
import { crowdCases } from "./cases/crowd.ts";
import { daemonCases } from "./cases/daemon.ts";
import { ipamCases } from "./cases/ipam.ts";
import { kubernetesCases } from "./cases/kubernetes.ts";
import { policyCases } from "./cases/policy.ts";
import { routeCases } from "./cases/routes.ts";
import { trafficCases } from "./cases/traffic.ts";
import { verbCases } from "./cases/verbs.ts";
import { type Machine, thisMachine } from "./machine.ts";
import { distributionSvg } from "./plot.ts";
import { type CaseResult, jsonDocument, reportPage, tableLines } from "./report.ts";

const CASES: readonly Case[] = [
  ...verbCases,
  ...crowdCases,
  ...burstCases,
  ...ipamCases,
  ...routeCases,
  ...kubernetesCases,
  ...policyCases,
  ...trafficCases,
  ...daemonCases,
];
const DEFAULT_RUNS = 30;
const REPORT = join(ROOT, "docs", "benchmarks");

/** The page and its pictures; those of cases that were not run stay as they are, and the page is of those that were. */
function writeReport(machine: Machine, runs: number, results: readonly CaseResult[]): void {
  mkdirSync(REPORT, { recursive: true });
  for (const { id, title, rows } of results) writeFileSync(join(REPORT, `${id}.svg`), distributionSvg(title, rows));
  writeFileSync(join(REPORT, "README.md"), reportPage(machine, runs, results));
  say(`\nwritten to ${REPORT}`);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      case: { type: "string", multiple: true },
      runs: { type: "string" },
      json: { type: "string" },
      report: { type: "boolean" },
      list: { type: "boolean" },
    },
  });
  if (values.list) {
    for (const { id, title } of CASES) say(`${id.padEnd(12)} ${title}`);
    return 0;
  }
  const runs = Number(values.runs ?? DEFAULT_RUNS);
  if (!Number.isSafeInteger(runs) || runs < 2) throw new Error(`--runs ${values.runs} is not a whole number from 2 on`);
  for (const id of values.case ?? []) {
    if (!CASES.some((one) => one.id === id)) throw new Error(`there is no case ${id}: see --list`);
  }
  if (process.getuid?.() !== 0) throw new Error("the bench makes network namespaces: it has to be root");
  await ensureDebian(BENCH_NEEDS);
  const machine = thisMachine();
  const results: CaseResult[] = [];
  const failed: string[] = [];
  for (const one of CASES.filter(({ id }) => values.case === undefined || values.case.includes(id))) {
    say(`\n${one.title}`);
    try {
      const result = await measure(one, runs);
      for (const line of tableLines(result.rows)) say(`  ${line}`);
      results.push(result);
    } catch (error) {
      // What took an hour before isn't lost, and what comes is measured yet.
      process.stderr.write(`${one.id}: ${explain(error)}\n`);
      failed.push(one.id);
    }
  }
  if (values.json !== undefined) writeFileSync(values.json, jsonDocument(machine, runs, results));
  if (values.report) writeReport(machine, runs, results);
  if (failed.length === 0) return 0;
  process.stderr.write(`\nfailed: ${failed.join(", ")}\n`);
  return 1;
}

async function measure({ id, title, run }: Case, runs: number): Promise<CaseResult> {
  const cleanup = new Cleanup();
  const started = performance.now();
  try {
    const rows = withBudgets(id, await run(new Bench(runs, cleanup)));
    return { id, title, seconds: Math.round((performance.now() - started) / 1000), rows };
  } finally {
    await cleanup.run();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${explain(error)}\n`);
  process.exitCode = 2;
}
