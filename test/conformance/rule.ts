// SPDX-License-Identifier: Apache-2.0
//
// What a rule is, and what may come of it.

import type { RuleContext } from "./context.ts";
import { isAtLeast, type SpecVersion } from "./spec.ts";

/**
 * MUST: the spec requires it in so many words, or it follows from what the spec requires. SHOULD: the spec recommends it,
 * or every runtime and the reference library (skel, libcni) have come to rely on it.
 */
export type Level = "MUST" | "SHOULD";

/** In the order of the report. */
export const GROUPS = [
  "VERSION",
  "ADD",
  "ADD result",
  "DEL",
  "CHECK",
  "GC",
  "STATUS",
  "errors",
  "stdin abuse",
  "environment abuse",
  "idempotency",
  "concurrency",
  "leaks",
  "delegation",
] as const;

export type Group = (typeof GROUPS)[number];

/** What the suite is pointed at: a plugin that makes interfaces, or one that only gives out addresses for others. */
export type Kind = "interface" | "ipam";

/** What a rule can't do without. `pool`: a network so small that it can be filled. `delegate`: an `ipam` object. */
export type Need = "pool" | "delegate";

export type Verdict =
  | { readonly kind: "pass" }
  | { readonly kind: "fail"; readonly problems: readonly string[] }
  | { readonly kind: "not supported"; readonly reason: string };

export interface Rule {
  /** Stable, of letters, digits, dots and dashes; begins with the group's word. */
  readonly id: string;
  readonly group: Group;
  readonly level: Level | ((spec: SpecVersion) => Level);
  /** Where it is written: the spec's section, or whose convention it is. */
  readonly section: string;
  /** A behaviour in the present tense. */
  readonly title: string;
  /** First version it applies to; from the beginning when missing. */
  readonly since?: SpecVersion;
  /** Last version it applies to. */
  readonly until?: SpecVersion;
  /** Kinds of plugin it applies to; both when missing. */
  readonly kinds?: readonly Kind[];
  readonly needs?: readonly Need[];
  run(context: RuleContext): Promise<Verdict>;
}

/** What rules throw when there is no going on: an ADD they build upon fails, a reply can't be read. Counts as a failure. */
export class RuleStop extends Error {
  override readonly name = "RuleStop";
  readonly code = "RULE_STOP";
}

/** What rules throw when the plugin can't be asked this. */
export class NotSupported extends Error {
  override readonly name = "NotSupported";
  readonly code = "NOT_SUPPORTED";
}

export const PASS: Verdict = { kind: "pass" };

/** Fails when there is anything in the list. */
export function verdictOf(...problems: readonly (readonly string[])[]): Verdict {
  const all = problems.flat();
  return all.length === 0 ? PASS : { kind: "fail", problems: all };
}

/** A problem unless the condition holds. */
export function expectThat(holds: boolean, problem: string): string[] {
  return holds ? [] : [problem];
}

export function levelOf(rule: Rule, spec: SpecVersion): Level {
  return typeof rule.level === "function" ? rule.level(spec) : rule.level;
}

/** A level for what became a requirement with a version of the spec, or ceased to be one after it. */
export function mustSince(version: SpecVersion): (spec: SpecVersion) => Level {
  return (spec) => (isAtLeast(spec, version) ? "MUST" : "SHOULD");
}

/** Why a rule does not apply, or undefined when it does. */
export function whyNot(rule: Rule, spec: SpecVersion, kind: Kind): string | undefined {
  if (rule.since !== undefined && !isAtLeast(spec, rule.since)) return `applies from ${rule.since}`;
  if (rule.until !== undefined && spec !== rule.until && isAtLeast(spec, rule.until))
    return `applies up to ${rule.until}`;
  if (rule.kinds !== undefined && !rule.kinds.includes(kind)) return `applies to ${rule.kinds.join(", ")} plugins`;
  return undefined;
}
