// SPDX-License-Identifier: Apache-2.0
//
// What a set of policies means for the pods that have exactly these, in one direction and one family: chains that they share, one for
// each tier that has something to say. Pure.
//
//   Admin                        NetworkPolicy                  Baseline
//   Accept: return               allowed: return                Accept, Pass: return
//   Deny: drop                   anything else: drop            Deny: drop
//   Pass, anything else: goto the next that is there
import type { ClusterNetworkPolicy, ClusterPolicyRule } from "../kube/cluster-network-policy.ts";
import type { NetworkPolicy } from "../kube/network-policy.ts";
import type { NamedPort } from "../kube/objects.ts";
import type { Family } from "../net/address.ts";
import { type Allowance, allowancesOf } from "./allowance.ts";
import { hash } from "./hash.ts";
import { mergeRules } from "./merged-rules.ts";
import type { ChainName, Direction, Origin, PolicyChain, PolicyRef, PolicyRule, Verdict } from "./ruleset.ts";
import type { SetDefinition } from "./set-definition.ts";

export interface Profile {
  /** The chain that packets of its pods get to. */
  readonly entry: ChainName;
  readonly chains: readonly PolicyChain[];
  readonly sets: readonly SetDefinition[];
}

/** Policies that select the pods and are about the direction; at least one. */
export interface ProfileInput {
  readonly direction: Direction;
  readonly family: Family;
  /** The first that decides is right. */
  readonly admin: readonly ClusterNetworkPolicy[];
  /** What one of them allows is allowed. */
  readonly policies: readonly NetworkPolicy[];
  readonly baseline: readonly ClusterNetworkPolicy[];
  /** What of the pods' ports the policies name. */
  readonly ports: readonly NamedPort[];
}

/** "Isolated": what nothing allowed isn't. */
const DENY: PolicyRule = { matches: [], verdict: { kind: "drop" }, origins: [], counted: true };

/** For pods whose labels aren't known yet: nothing is allowed. */
export const UNKNOWN_CHAIN: PolicyChain = {
  name: "unknown",
  family: undefined,
  direction: undefined,
  policies: [],
  rules: [DENY],
};

export function buildProfile(input: ProfileInput): Profile {
  const builder = new Builder(input);
  // From the last to the first, as each leads to the next. NetworkPolicy decides in any case, so nothing is behind it.
  if (input.policies.length > 0) builder.policies(input.policies);
  else if (input.baseline.length > 0) builder.tier(input.baseline);
  if (input.admin.length > 0) builder.tier(input.admin);
  return builder.profile();
}

class Builder {
  readonly #input: ProfileInput;
  readonly #chains: PolicyChain[] = [];
  readonly #sets = new Map<string, SetDefinition>();

  constructor(input: ProfileInput) {
    this.#input = input;
  }

  profile(): Profile {
    const entry = this.#chains.at(-1);
    if (entry === undefined) throw new Error("a profile has at least one policy");
    return { entry: entry.name, chains: this.#chains, sets: [...this.#sets.values()] };
  }

  policies(policies: readonly NetworkPolicy[]): void {
    const { direction, family, ports } = this.#input;
    const allowances = policies.flatMap((policy) =>
      (policy[direction] ?? []).flatMap((rule, i) =>
        allowancesOf(rule, { policy: refOf(policy), direction, rule: i }, policy.namespace, family, ports),
      ),
    );
    const rules = this.#merge(allowances, { kind: "return" });
    this.#add(policies.map(refOf), [...rules, DENY]);
  }

  /** Rules beside each other with one action are as one. */
  tier(policies: readonly ClusterNetworkPolicy[]): void {
    const { direction, family, ports } = this.#input;
    const next = this.#chains.at(-1)?.name;
    const onward: Verdict = next === undefined ? { kind: "return" } : { kind: "goto", chain: next };
    const runs: { action: ClusterPolicyRule["action"]; allowances: Allowance[] }[] = [];
    for (const policy of policies) {
      policy[direction].forEach((rule, i) => {
        const origin: Origin = { policy: clusterRefOf(policy), direction, rule: i };
        const allowances = allowancesOf(rule, origin, "", family, ports);
        const run = runs.at(-1);
        if (run?.action === rule.action) run.allowances.push(...allowances);
        else runs.push({ action: rule.action, allowances });
      });
    }
    const rules = runs.flatMap(({ action, allowances }) =>
      this.#merge(allowances, action === "Accept" ? { kind: "return" } : action === "Deny" ? { kind: "drop" } : onward),
    );
    const rest: PolicyRule[] =
      next === undefined ? [] : [{ matches: [], verdict: onward, origins: [], counted: false }];
    this.#add(policies.map(clusterRefOf), [...rules, ...rest]);
  }

  #merge(allowances: readonly Allowance[], verdict: Verdict): readonly PolicyRule[] {
    const { rules, sets } = mergeRules(allowances, this.#input.direction, this.#input.family, verdict);
    for (const set of sets) this.#sets.set(set.name, set);
    return rules;
  }

  /** A chain's name is what is in it, so it never changes. */
  #add(policies: readonly PolicyRef[], rules: readonly PolicyRule[]): void {
    const { direction, family } = this.#input;
    const name = `${direction === "ingress" ? "i" : "e"}${family}_${hash(JSON.stringify([policies, rules]))}`;
    this.#chains.push({ name, family, direction, policies, rules });
  }
}

function refOf({ namespace, name }: NetworkPolicy): PolicyRef {
  return { kind: "NetworkPolicy", namespace, name };
}

function clusterRefOf({ name }: ClusterNetworkPolicy): PolicyRef {
  return { kind: "ClusterNetworkPolicy", namespace: undefined, name };
}
