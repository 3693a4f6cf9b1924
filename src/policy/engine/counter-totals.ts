// SPDX-License-Identifier: Apache-2.0
//
// What policies have let through and denied, added up by policy: a rule's counter begins anew with its chain, and chains come and go.
import { type RuleVerdict, verdictOf } from "../rule-counts.ts";
import type { PolicyRef, Ruleset } from "../ruleset.ts";
import type { CountedRule } from "./policy-table.ts";

export interface PolicyTotal {
  /** "namespace/name", or the name of one for the whole cluster; "" for what no policy is named for: pods that aren't known yet. */
  readonly policy: string;
  readonly direction: "ingress" | "egress" | "both";
  readonly verdict: RuleVerdict;
  /** First packets of connections; every packet of what has none. */
  readonly packets: bigint;
}

/** So many different totals are kept apart; what comes later is added up under this name. */
const TOTALS_MAX = 1000;
export const OTHERS = "(others)";

export class CounterTotals {
  readonly #seen = new Map<string, bigint>();
  readonly #totals = new Map<string, { readonly of: Omit<PolicyTotal, "packets">; packets: bigint }>();

  /** @param rules what the kernel says now of those of the ruleset */
  add(rules: readonly CountedRule[], { chains }: Ruleset): void {
    const there = new Set<string>();
    for (const { chain: name, place, rule, packets } of rules) {
      const key = `${name} ${place}`;
      there.add(key);
      const before = this.#seen.get(key) ?? 0n;
      this.#seen.set(key, packets);
      // A counter that is less than it was is a new one.
      const more = packets >= before ? packets - before : packets;
      const chain = chains.get(name);
      if (more === 0n || chain === undefined) continue;
      const verdict = verdictOf(rule);
      // Where nobody's rule denies it is by all policies that select the pod that it is closed.
      const refs = rule.origins.length === 0 ? chain.policies : rule.origins.map(({ policy }) => policy);
      const names = new Set(refs.length === 0 ? [""] : refs.map(nameOf));
      for (const policy of names) this.#count({ policy, direction: chain.direction ?? "both", verdict }, more);
    }
    for (const key of this.#seen.keys()) if (!there.has(key)) this.#seen.delete(key);
  }

  totals(): PolicyTotal[] {
    return [...this.#totals.values()].map(({ of, packets }) => ({ ...of, packets }));
  }

  #count(of: Omit<PolicyTotal, "packets">, packets: bigint): void {
    const key = `${of.direction} ${of.verdict} ${of.policy}`;
    const total = this.#totals.get(key);
    if (total !== undefined) total.packets += packets;
    else if (this.#totals.size < TOTALS_MAX || of.policy === OTHERS) this.#totals.set(key, { of, packets });
    else this.#count({ ...of, policy: OTHERS }, packets);
  }
}

export function nameOf({ namespace, name }: PolicyRef): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}
