// SPDX-License-Identifier: Apache-2.0
//
// What a set of policies means for the pods that have exactly these, in one direction and one family: chains that they share. Pure.
import type { NetworkPolicy } from "../kube/network-policy.ts";
import type { NamedPort } from "../kube/objects.ts";
import type { Family } from "../net/address.ts";
import { allowancesOf, refOf } from "./allowance.ts";
import { hash } from "./hash.ts";
import { mergeRules } from "./merged-rules.ts";
import type { ChainName, Direction, PolicyChain, PolicyRef, PolicyRule } from "./ruleset.ts";
import type { SetDefinition } from "./set-definition.ts";

export interface Profile {
  /** The chain that packets of its pods get to. */
  readonly entry: ChainName;
  readonly chains: readonly PolicyChain[];
  readonly sets: readonly SetDefinition[];
}

export interface ProfileInput {
  readonly direction: Direction;
  readonly family: Family;
  /** Those that select the pods and are about the direction, ordered by name; at least one. */
  readonly policies: readonly NetworkPolicy[];
  /** What of the pods' ports the policies name. */
  readonly ports: readonly NamedPort[];
}

export function buildProfile({ direction, family, policies, ports }: ProfileInput): Profile {
  const allowances = policies.flatMap((policy) => allowancesOf(policy, direction, family, ports));
  const { rules, sets } = mergeRules(allowances, direction, family, { kind: "return" });
  const chain = namedChain(direction, family, policies.map(refOf), [...rules, DENY]);
  return { entry: chain.name, chains: [chain], sets };
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

/** A chain's name is what is in it, so it never changes. */
function namedChain(
  direction: Direction,
  family: Family,
  policies: readonly PolicyRef[],
  rules: readonly PolicyRule[],
): PolicyChain {
  const content = hash(JSON.stringify([policies, rules]));
  return { name: `${direction === "ingress" ? "i" : "e"}${family}_${content}`, family, direction, policies, rules };
}
