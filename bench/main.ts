// SPDX-License-Identifier: Apache-2.0
//
// npm run bench [-- --case ID …] [--runs N] [--json FILE] [--list]
//
// Measures flatnet against what it wants to be better than, in turn and in one run, as root. The programs of dist/ are
// measured: npm run build first.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { explain, ROOT, say } from "../scripts/repo.ts";
import { Cleanup } from "../test/helpers/daemon.ts";
import { Bench, type Case } from "./bench.ts";
import { burstCases } from "./cases/bursts.ts";
import { daemonCases } from "./cases/daemon.ts";
import { ipamCases } from "./cases/ipam.ts";
import { routeCases } from "./cases/routes.ts";
import { verbCases } from "./cases/verbs.ts";
import { jsonDocument, type Machine, tableLines } from "./report.ts";
import type { Row } from "./samples.ts";

const CASES: readonly Case[] = [...verbCases, ...burstCases, ...ipamCases, ...routeCases, ...daemonCases];
const DEFAULT_RUNS = 30;

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

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      case: { type: "string", multiple: true },
      runs: { type: "string" },
      json: { type: "string" },
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
  const rows: Row[] = [];
  for (const one of CASES.filter(({ id }) => values.case === undefined || values.case.includes(id))) {
    say(`\n${one.title}`);
    const cleanup = new Cleanup();
    try {
      const measured = await one.run(new Bench(runs, cleanup));
      for (const line of tableLines(measured)) say(`  ${line}`);
      rows.push(...measured);
    } finally {
      await cleanup.run();
    }
  }
  if (values.json !== undefined) writeFileSync(values.json, jsonDocument(machine(), runs, rows));
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${explain(error)}\n`);
  process.exitCode = 2;
}
