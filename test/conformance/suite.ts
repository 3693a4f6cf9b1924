// SPDX-License-Identifier: Apache-2.0
//
// Runs rules one after the other and keeps the books.

import { DIRECTORY_MARK, ipamOf } from "./conf.ts";
import { documentOf, RuleContext, type Settings } from "./context.ts";
import { ConformanceError } from "./errors.ts";
import type { Call } from "./plugin.ts";
import { type Group, type Level, levelOf, NotSupported, type Rule, RuleStop, type Verdict, whyNot } from "./rule.ts";
import type { Sandbox } from "./sandbox.ts";
import type { SpecVersion } from "./spec.ts";

/** What came of one rule for one version. */
export interface Outcome {
  readonly id: string;
  readonly group: Group;
  readonly level: Level;
  readonly section: string;
  readonly title: string;
  readonly verdict: Verdict;
  /** What was sent and what came back, in order; empty unless the rule failed. */
  readonly calls: readonly Call[];
  readonly seconds: number;
}

export interface SpecRun {
  readonly spec: SpecVersion;
  readonly outcomes: readonly Outcome[];
}

export interface Report {
  /** As the caller named them. */
  readonly plugin: string;
  readonly conf: string;
  readonly supportedVersions: readonly string[];
  readonly runs: readonly SpecRun[];
}

export interface Counts {
  readonly passed: number;
  /** Failed rules that are a MUST. */
  readonly failed: number;
  /** Failed rules that are a SHOULD. */
  readonly warned: number;
  readonly notSupported: number;
}

export interface RunOptions {
  readonly settings: Settings;
  readonly sandbox: Sandbox;
  readonly onOutcome?: (outcome: Outcome) => void;
  /** No further rule is started once it says so. */
  readonly signal?: AbortSignal;
}

/** Runs the rules for one version. Rejects only if the suite itself can't go on; what it made is then still the sandbox's. */
export async function runRules(rules: readonly Rule[], spec: SpecVersion, options: RunOptions): Promise<SpecRun> {
  const { settings, sandbox, onOutcome, signal } = options;
  const outcomes: Outcome[] = [];
  const listed = settings.supportedVersions;
  const unlisted = listed.length > 0 && !listed.includes(spec);
  if (!unlisted) await warmUp(new RuleContext(spec, settings, sandbox));
  for (const rule of rules) {
    if (signal?.aborted === true) break;
    const reason = unlisted ? `the plugin does not list ${spec}` : whyNotHere(rule, spec, settings);
    const context = new RuleContext(spec, settings, sandbox);
    const start = performance.now();
    const verdict = reason === undefined ? await judge(rule, context) : ({ kind: "not supported", reason } as const);
    const { id, group, section, title } = rule;
    const outcome: Outcome = {
      ...{ id, group, section, title },
      level: levelOf(rule, spec),
      verdict: tidy(verdict, sandbox.directory),
      calls: verdict.kind === "fail" ? context.calls : [],
      seconds: (performance.now() - start) / 1000,
    };
    outcomes.push(outcome);
    onOutcome?.(outcome);
  }
  return { spec, outcomes };
}

/** Asks the plugin what it supports; nothing when it has no answer of use. */
export async function listVersions(settings: Settings, sandbox: Sandbox): Promise<string[]> {
  const context = new RuleContext("1.0.0", settings, sandbox);
  const listed = documentOf(await context.call("VERSION", { stdin: '{"cniVersion":"1.0.0"}' }))?.["supportedVersions"];
  return Array.isArray(listed) ? listed.filter((one) => typeof one === "string") : [];
}

export function countOutcomes(outcomes: readonly Outcome[]): Counts {
  const count = (wanted: (outcome: Outcome) => boolean) => outcomes.filter(wanted).length;
  return {
    passed: count(({ verdict }) => verdict.kind === "pass"),
    failed: count(({ verdict, level }) => verdict.kind === "fail" && level === "MUST"),
    warned: count(({ verdict, level }) => verdict.kind === "fail" && level === "SHOULD"),
    notSupported: count(({ verdict }) => verdict.kind === "not supported"),
  };
}

function whyNotHere(rule: Rule, spec: SpecVersion, settings: Settings): string | undefined {
  const reason = whyNot(rule, spec, settings.kind);
  if (reason !== undefined) return reason;
  const delegates = ipamOf(settings.conf) !== undefined;
  return rule.needs?.includes("delegate") === true && !delegates ? "the configuration has no ipam" : undefined;
}

async function judge(rule: Rule, context: RuleContext): Promise<Verdict> {
  let verdict: Verdict;
  try {
    verdict = await rule.run(context);
  } catch (error) {
    if (error instanceof NotSupported) verdict = { kind: "not supported", reason: error.message };
    else if (error instanceof RuleStop) verdict = { kind: "fail", problems: [error.message] };
    // What the plugin left in the kernel may be so odd that the rule's own commands fail. It is said as it is.
    else
      verdict = {
        kind: "fail",
        problems: [`the rule could not be tried: ${describe(error)}`],
      };
  }
  try {
    await context.cleanUp();
  } catch (error) {
    const problems = verdict.kind === "fail" ? verdict.problems : [];
    return { kind: "fail", problems: [...problems, `could not clean up: ${error}`] };
  }
  return verdict;
}

function describe(error: unknown): string {
  if (error instanceof ConformanceError) return error.message;
  return error instanceof Error ? String(error.stack) : String(error);
}

/** What a network has once for all of its attachments is made before anything is compared. */
async function warmUp(context: RuleContext): Promise<void> {
  await context.call("ADD", { pod: await context.newPod() });
  await context.cleanUp();
}

/** Names of this run are no news to anyone. */
function tidy(verdict: Verdict, directory: string): Verdict {
  if (verdict.kind !== "fail") return verdict;
  return { kind: "fail", problems: verdict.problems.map((text) => text.replaceAll(directory, DIRECTORY_MARK)) };
}
