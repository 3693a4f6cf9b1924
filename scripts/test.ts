// SPDX-License-Identifier: Apache-2.0
//
// npm test [-- vitest's arguments]
//
// What the machine and node_modules lack, then the checks, then the programs, then every test. The last line has the counts, alone, and
// it never says "0 failed" when something went wrong that no test could count.

import { spawn } from "node:child_process";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { buildAll } from "./build.ts";
import { checkAll } from "./check.ts";
import { type Counts, countsLine, countsOf, failures, selectsOnlyUnit } from "./counts.ts";
import { ensureDebian, TEST_NEEDS } from "./debian.ts";
import { completeModules } from "./modules.ts";
import { hostArch } from "./pack/runtimes.ts";
import { explain, ROOT, StepError, say, toolEnv } from "./repo.ts";

/** Set when somebody stopped vitest: what it reports then is not the whole. */
let interrupted = false;

async function main(args: readonly string[]): Promise<Counts> {
  const onlyUnit = selectsOnlyUnit(args);
  // The tests of one kind that need neither a machine set up nor the programs are what one runs all day.
  if (!onlyUnit && !(await step("what the machine lacks", () => ensureDebian(TEST_NEEDS)))) return failures(1);
  if (!(await step("node_modules", completeModules))) return failures(1);
  const checked = await step("checks", async () => {
    if (!(await checkAll())) throw new StepError("see above");
  });
  // Without the programs of this source the integration tests would try older ones.
  if (!onlyUnit && !(await step("build", () => buildAll(hostArch(), false, say)))) return failures(checked ? 1 : 2);
  const counts = await runVitest(args);
  return checked ? counts : { ...counts, failed: counts.failed + 1 };
}

async function step(name: string, work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    say(`FAILED ${name}: ${explain(error)}`);
    return false;
  }
}

async function runVitest(args: readonly string[]): Promise<Counts> {
  const file = join(ROOT, "build", `vitest-${process.pid}.json`);
  await mkdir(join(ROOT, "build"), { recursive: true });
  try {
    const clean = await vitest(["run", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`, ...args]);
    const text = await readFile(file, "utf8").catch(() => null);
    if (text === null) say("FAILED vitest ended without a report");
    return text === null ? failures(1) : countsOf(JSON.parse(text), clean);
  } finally {
    await rm(file, { force: true });
  }
}

/** Runs vitest in this terminal and says whether it ended well. */
function vitest(args: readonly string[]): Promise<boolean> {
  // As root nothing stands in the way of the kernel tests, so none may be skipped.
  const env = toolEnv(process.getuid?.() === 0 ? { REQUIRE_KERNEL: "1" } : {});
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(ROOT, "node_modules", "vitest", "vitest.mjs"), ...args], {
      cwd: ROOT,
      env,
      stdio: "inherit",
    });
    const forward = (signal: NodeJS.Signals): void => {
      interrupted = true;
      if (signal !== "SIGINT" || process.stdin.isTTY !== true) child.kill(signal);
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, forward);
    child.on("error", reject);
    child.on("exit", (code) => resolve(code === 0 && !interrupted));
  });
}

const counts = await main(process.argv.slice(2)).catch((error: unknown) => {
  say(explain(error));
  return failures(1);
});
say(countsLine(counts));
process.exitCode = counts.failed > 0 ? 1 : 0;
