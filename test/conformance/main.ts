// SPDX-License-Identifier: Apache-2.0
//
// npm run conformance -- --plugin PATH --conf FILE [options]
//
// Tries any CNI plugin, as a black box, against the spec.

import { accessSync, constants, readFileSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseConf } from "./conf.ts";
import type { Settings } from "./context.ts";
import { ConformanceError } from "./errors.ts";
import { type Options, parseOptions, USAGE } from "./options.ts";
import { junitXml } from "./report/junit.ts";
import { markdown } from "./report/markdown.ts";
import { outcomeLines, summaryLines } from "./report/text.ts";
import { levelOf, type Rule } from "./rule.ts";
import { RULES } from "./rules/index.ts";
import { Sandbox } from "./sandbox.ts";
import { SPEC_VERSIONS, type SpecVersion } from "./spec.ts";
import { countOutcomes, listVersions, type Outcome, type Report, runRules, type SpecRun } from "./suite.ts";

const NEWEST: SpecVersion = "1.1.0";

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function settingsOf(options: Options, sandbox: Sandbox, supportedVersions: readonly string[]): Settings {
  const { plugin, kind, ipamDirs, watch, dataDirs, poolSize, timeoutMs } = options;
  const path = resolve(plugin);
  const directories = ipamDirs.length === 0 ? [dirname(path)] : ipamDirs.map((one) => resolve(one));
  return {
    plugin: path,
    kind,
    conf: parseConf(read(options.conf), sandbox.directory),
    cniPath: directories.join(":"),
    watch: watch.map((one) => resolve(one)),
    dataDirs: dataDirs.map((one) => resolve(one)),
    poolSize,
    timeoutMs,
    supportedVersions,
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new ConformanceError("CONF", `${path} can't be read: ${(cause as Error).message}`, { cause });
  }
}

function chooseRules(beginnings: readonly string[]): readonly Rule[] {
  if (beginnings.length === 0) return RULES;
  const chosen = RULES.filter(({ id }) => beginnings.some((beginning) => id.startsWith(beginning)));
  if (chosen.length === 0) throw new ConformanceError("USAGE", `no rule's ID begins with ${beginnings.join(" or ")}`);
  return chosen;
}

/** Makes a host, does the work in it, and removes it whatever came of the work. */
async function inSandbox<T>(options: Options, work: (sandbox: Sandbox) => Promise<T>): Promise<T> {
  const sandbox = await Sandbox.create(options.netns);
  try {
    return await work(sandbox);
  } finally {
    await sandbox.remove();
  }
}

async function run(options: Options, signal: AbortSignal): Promise<Report> {
  if (process.geteuid?.() !== 0) throw new ConformanceError("SANDBOX", "network namespaces need root");
  try {
    accessSync(options.plugin, constants.X_OK);
  } catch (cause) {
    throw new ConformanceError("USAGE", `--plugin ${options.plugin} is not a program`, { cause });
  }
  const rules = chooseRules(options.rules);
  const listed = await inSandbox(options, (sandbox) => listVersions(settingsOf(options, sandbox, []), sandbox));
  say(`${options.plugin} with ${options.conf}; it lists ${listed.join(", ") || "no versions"}`);
  const specs = options.specs ?? [SPEC_VERSIONS.findLast((version) => listed.includes(version)) ?? NEWEST];
  const runs: SpecRun[] = [];
  for (const spec of specs) {
    if (signal.aborted) break;
    say(`\nCNI ${spec}`);
    runs.push(
      await inSandbox(options, (sandbox) => {
        const settings = settingsOf(options, sandbox, listed);
        return runRules(rules, spec, { settings, sandbox, signal, onOutcome: progress() });
      }),
    );
  }
  return { plugin: options.plugin, conf: options.conf, supportedVersions: listed, runs };
}

/** Prints each outcome as it comes, under its group. */
function progress(): (outcome: Outcome) => void {
  let group = "";
  return (outcome) => {
    if (outcome.group !== group) say(`  ${outcome.group}`);
    group = outcome.group;
    for (const line of outcomeLines(outcome)) say(`    ${line}`);
  };
}

function writeReports(report: Report, { junit, json, markdown: page }: Options, argv: readonly string[]): void {
  if (junit !== undefined) writeFileSync(junit, junitXml(report));
  if (json !== undefined) {
    const counted = report.runs.map((one) => ({ ...one, counts: countOutcomes(one.outcomes) }));
    writeFileSync(json, `${JSON.stringify({ ...report, runs: counted }, bytesAsText, 2)}\n`);
  }
  if (page !== undefined)
    writeFileSync(page, markdown(report, `npm run conformance -- ${argv.join(" ")}`, process.cwd()));
}

/** A stdin that was no text is written as Latin-1, so that every byte is there. */
function bytesAsText(_key: string, value: unknown): unknown {
  return value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : value;
}

function list(): void {
  for (const rule of RULES) {
    const levels = [...new Set(SPEC_VERSIONS.map((spec) => levelOf(rule, spec)))].join("/");
    say(`${rule.id}  ${levels}  ${rule.since ?? ""}–${rule.until ?? ""}  ${rule.title} [${rule.section}]`);
  }
}

async function main(argv: readonly string[]): Promise<number> {
  const command = parseOptions(argv);
  if (command.kind === "help") {
    process.stdout.write(USAGE);
    return 0;
  }
  if (command.kind === "list") {
    list();
    return 0;
  }
  // The rule that is under way ends by itself, every call of it being bounded; then everything is removed.
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stop.abort());
  const report = await run(command.options, stop.signal);
  if (stop.signal.aborted) throw new ConformanceError("SANDBOX", "interrupted");
  say("");
  for (const line of summaryLines(report)) say(line);
  writeReports(report, command.options, argv);
  return report.runs.some(({ outcomes }) => countOutcomes(outcomes).failed > 0) ? 1 : 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const known = error instanceof ConformanceError;
  process.stderr.write(`conformance: ${known ? error.message : error instanceof Error ? error.stack : error}\n`);
  if (known && error.code === "USAGE") process.stderr.write(`\n${USAGE}`);
  process.exitCode = 2;
}
