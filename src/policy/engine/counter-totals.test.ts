// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { PolicyChain, PolicyRef, PolicyRule, Ruleset } from "../ruleset.ts";
import { CounterTotals, OTHERS } from "./counter-totals.ts";

const ref = (name: string): PolicyRef => ({ kind: "NetworkPolicy", namespace: "shop", name });

function allowing(...names: string[]): PolicyRule {
  const origins = names.map((name) => ({ policy: ref(name), direction: "ingress" as const, rule: 0 }));
  return { matches: [], verdict: { kind: "return" }, origins, counted: true };
}
const DENYING: PolicyRule = { matches: [], verdict: { kind: "drop" }, origins: [], counted: true };

function rulesetOf(chain: Partial<PolicyChain>): Ruleset {
  const whole: PolicyChain = {
    ...{ name: "c", family: 4, direction: "ingress", policies: [], rules: [] },
    ...chain,
  };
  return { sets: new Map(), chains: new Map([[whole.name, whole]]) };
}

function counted({ chains }: Ruleset, ...packets: number[]) {
  const { name, rules } = chains.values().next().value as PolicyChain;
  return packets.map((count, place) => {
    return { chain: name, place, rule: rules[place] as PolicyRule, packets: BigInt(count), bytes: 0n };
  });
}

const text = (totals: CounterTotals) =>
  totals.totals().map(({ policy, direction, verdict, packets }) => `${policy} ${direction} ${verdict} ${packets}`);

const WEB = rulesetOf({
  policies: [ref("web"), ref("all")],
  rules: [allowing("web"), allowing("web", "all"), DENYING],
});

test("what a rule lets through is its policies', and what nothing lets through is all of theirs that close the pod", () => {
  const totals = new CounterTotals();
  totals.add(counted(WEB, 3, 2, 1), WEB);
  expect(text(totals)).toEqual([
    "shop/web ingress allowed 5",
    "shop/all ingress allowed 2",
    "shop/web ingress denied 1",
    "shop/all ingress denied 1",
  ]);
});

test("totals go on growing when counters begin anew", () => {
  const totals = new CounterTotals();
  for (const packets of [5, 7, 2, 2]) totals.add(counted(WEB, packets), WEB);
  expect(text(totals)).toEqual(["shop/web ingress allowed 9"]);
  // Its chain is gone, and comes back with another counter.
  totals.add([], WEB);
  totals.add(counted(WEB, 4), WEB);
  expect(text(totals)).toEqual(["shop/web ingress allowed 13"]);
});

test("what no policy is named for is counted without a name", () => {
  const unknown = rulesetOf({ name: "unknown", direction: undefined, rules: [DENYING] });
  const totals = new CounterTotals();
  totals.add(counted(unknown, 4), unknown);
  expect(text(totals)).toEqual([" both denied 4"]);
});

test("more policies than anybody looks at are one total", () => {
  const totals = new CounterTotals();
  for (let n = 0; n < 1200; n++) {
    const one = rulesetOf({ name: `c${n}`, rules: [allowing(`p${n}`)] });
    totals.add(counted(one, 1), one);
  }
  expect(totals.totals().length).toBe(1001);
  expect(totals.totals().at(-1)).toMatchObject({ policy: OTHERS, packets: 200n });
});
