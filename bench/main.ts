// SPDX-License-Identifier: Apache-2.0
//
// npm run bench [-- --case ID …] [--runs N] [--json FILE] [--report] [--list]
//
// Measures flatnet against what it wants to be better than, in turn and in one run, as root. The programs of dist/ are
// measured: npm run build first.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { BENCH_NEEDS, ensureDebian } from "../scripts/debian.ts";
import { explain, ROOT, say } from "../scripts/repo.ts";
import { Cleanup } from "../test/helpers/daemon.ts";
import { Bench, type Case } from "./bench.ts";
import { burstCases } from "./cases/bursts.ts";
import { daemonCases } from "./cases/daemon.ts";
import { ipamCases } from "./cases/ipam.ts";
import { kubernetesCases } from "./cases/kubernetes.ts";
import { policyCases } from "./cases/policy.ts";
import { routeCases } from "./cases/routes.ts";
import { trafficCases } from "./cases/traffic.ts";
import { verbCases } from "./cases/verbs.ts";
import { distributionSvg } from "./plot.ts";
import { type CaseResult, jsonDocument, type Machine, reportPage, tableLines } from "./report.ts";

const CASES: readonly Case[] = [
  ...verbCases,
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

function machine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGB: Math.round(totalmem() / 1e9),
    kernel: readFileSync("/proc/sys/kernel/osrelease", "utf8").trim(),
    commit: execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: ROOT, encoding: "utf8" }).trim(),
    date: new Date().toISOString(),
  };
}

/** The page and its pictures; those of cases that were not run stay as they are, and the page is of those that were. */
function writeReport(runs: number, results: readonly CaseResult[]): void {
  mkdirSync(REPORT, { recursive: true });
  for (const { id, title, rows } of results) writeFileSync(join(REPORT, `${id}.svg`), distributionSvg(title, rows));
  writeFileSync(join(REPORT, "README.md"), reportPage(machine(), runs, results));
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
  const results: CaseResult[] = [];
  for (const one of CASES.filter(({ id }) => values.case === undefined || values.case.includes(id))) {
    say(`\n${one.title}`);
    const cleanup = new Cleanup();
    try {
      const measured = await one.run(new Bench(runs, cleanup));
      for (const line of tableLines(measured)) say(`  ${line}`);
      results.push({ id: one.id, title: one.title, rows: measured });
    } finally {
      await cleanup.run();
    }
  }
  const rows = results.flatMap((result) => result.rows);
  if (values.json !== undefined) writeFileSync(values.json, jsonDocument(machine(), runs, rows));
  if (values.report) writeReport(runs, results);
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${explain(error)}\n`);
  process.exitCode = 2;
}
