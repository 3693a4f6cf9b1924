// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { type Counted, ruleCounts } from "./rule-counts.ts";
import type { Origin, PolicyChain, PolicyRef, PolicyRule, Verdict } from "./ruleset.ts";

const WEB: PolicyRef = { kind: "NetworkPolicy", namespace: "shop", name: "web" };
const FIRST: Origin = { policy: WEB, direction: "ingress", rule: 0 };

function rule(verdict: Verdict["kind"], origins: readonly Origin[]): PolicyRule {
  const of = verdict === "goto" ? { kind: verdict, chain: "next" } : { kind: verdict };
  return { matches: [], verdict: of as Verdict, origins, counted: true };
}

function chain(name: string, direction: PolicyChain["direction"], policies: readonly PolicyRef[]): PolicyChain {
  return { name, family: 4, direction, policies, rules: [] };
}

test("what is one rule of a policy has one count, over families and sets; what nothing allowed has its own", () => {
  const chains = new Map(
    [chain("i4", "ingress", [WEB]), chain("i6", "ingress", [WEB]), chain("forward", undefined, [])].map((one) => [
      one.name,
      one,
    ]),
  );
  const counted: Counted[] = [
    { chain: "i4", rule: rule("return", [FIRST]), packets: 1n, bytes: 60n },
    { chain: "i4", rule: rule("return", [FIRST]), packets: 2n, bytes: 120n },
    { chain: "i4", rule: rule("drop", []), packets: 5n, bytes: 300n },
    { chain: "i6", rule: rule("return", [FIRST]), packets: 4n, bytes: 320n },
    { chain: "i6", rule: rule("goto", [FIRST]), packets: 1n, bytes: 1n },
    { chain: "forward", rule: rule("drop", []), packets: 7n, bytes: 280n },
  ];
  const of = { direction: "ingress", policies: [WEB] };
  expect(ruleCounts(counted, chains)).toEqual([
    { ...of, verdict: "allowed", rules: [FIRST], packets: 7n, bytes: 500n },
    { ...of, verdict: "passed", rules: [FIRST], packets: 1n, bytes: 1n },
    { ...of, verdict: "denied", rules: [], packets: 5n, bytes: 300n },
    { direction: undefined, verdict: "denied", rules: [], policies: [], packets: 7n, bytes: 280n },
  ]);
});
