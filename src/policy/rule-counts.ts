// SPDX-License-Identifier: Apache-2.0
//
// What rules have counted, as people think of it: one count for what is one rule of a policy, whatever the kernel has several of for it
// (families, sets, pods that call other ports so). Pure.
import type { ChainName, Direction, Origin, PolicyChain, PolicyRef, PolicyRule } from "./ruleset.ts";

/** "passed" is left to the policies behind. */
export type RuleVerdict = "allowed" | "denied" | "passed";

export interface RuleCount {
  /** undefined for what isn't any policy's: pods that aren't known yet, connections that nobody knows. */
  readonly direction: Direction | undefined;
  readonly verdict: RuleVerdict;
  /** None where what no rule allowed is denied. */
  readonly rules: readonly Origin[];
  /** All that select the pods that it is for. */
  readonly policies: readonly PolicyRef[];
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** A rule of the kernel's. */
export interface Counted {
  readonly chain: ChainName;
  readonly rule: PolicyRule;
  readonly packets: bigint;
  readonly bytes: bigint;
}

export function verdictOf({ verdict }: PolicyRule): RuleVerdict {
  return verdict.kind === "drop" ? "denied" : verdict.kind === "goto" ? "passed" : "allowed";
}

/** In the order of the policies; behind each one's rules what none of them allowed, and last what is nobody's. */
export function ruleCounts(counted: readonly Counted[], chains: ReadonlyMap<ChainName, PolicyChain>): RuleCount[] {
  const counts = new Map<string, RuleCount>();
  for (const { chain: name, rule, packets, bytes } of counted) {
    const { direction, policies = [] } = chains.get(name) ?? {};
    const of = { direction, verdict: verdictOf(rule), rules: rule.origins, policies };
    const key = [
      ...[policies.length === 0 ? 1 : 0, JSON.stringify(policies), direction ?? ""],
      ...[rule.origins.length === 0 ? 1 : 0, JSON.stringify(rule.origins), of.verdict],
    ].join(" ");
    const before = counts.get(key);
    counts.set(key, { ...of, packets: packets + (before?.packets ?? 0n), bytes: bytes + (before?.bytes ?? 0n) });
  }
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, count]) => count);
}
