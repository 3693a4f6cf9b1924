// SPDX-License-Identifier: Apache-2.0
//
// A change of a ruleset as the kernel would take it: whatever the kernel refuses is an error.
import type { NamedSet, PolicyChain, PolicyRule, Ruleset, RulesetChange } from "../ruleset.ts";

export function applyChange(before: Ruleset, change: RulesetChange): Ruleset {
  const sets = new Map([...before.sets].map(([name, set]) => [name, copy(set)]));
  const chains = new Map(before.chains);
  for (const set of change.newSets) {
    refuse(sets.has(set.name), `set ${set.name} is there already`);
    sets.set(set.name, copy(set));
  }
  for (const chain of change.newChains) {
    refuse(chains.has(chain.name), `chain ${chain.name} is there already`);
    chains.set(chain.name, chain);
  }
  for (const chain of change.replacedChains) {
    refuse(!chains.has(chain.name), `no chain ${chain.name}`);
    chains.set(chain.name, chain);
  }
  for (const chain of [...change.newChains, ...change.replacedChains]) {
    for (const name of setsOf(chain)) refuse(!sets.has(name), `chain ${chain.name} names set ${name}`);
  }
  for (const { set: name, remove, add } of change.elements) {
    const set = sets.get(name);
    if (set === undefined) throw new Error(`no set ${name}`);
    for (const key of remove) refuse(!set.elements.delete(key), `set ${name} has no ${key}`);
    for (const { key, chain } of add) {
      refuse(set.elements.has(key), `set ${name} has ${key}`);
      if (set.kind === "set") set.elements.add(key);
      else {
        refuse(chain === undefined || !chains.has(chain), `map ${name} names chain ${chain}`);
        set.elements.set(key, chain as string);
      }
    }
  }
  for (const name of change.goneChains) refuse(!chains.delete(name), `no chain ${name}`);
  for (const name of change.goneSets) refuse(!sets.delete(name), `no set ${name}`);
  const after = { sets, chains };
  refuseDangling(after);
  return after;
}

/** What is named must be there, or the kernel has refused to delete it. */
export function refuseDangling({ sets, chains }: Ruleset): void {
  for (const set of sets.values()) {
    if (set.kind === "map") for (const chain of set.elements.values()) refuse(!chains.has(chain), `no chain ${chain}`);
  }
  for (const chain of chains.values()) {
    for (const name of setsOf(chain)) refuse(!sets.has(name), `chain ${chain.name}: no set ${name}`);
    for (const { verdict } of chain.rules)
      refuse(verdict.kind === "goto" && !chains.has(verdict.chain), `chain ${chain.name}: no chain to go to`);
  }
}

type Copy =
  | { kind: "set"; name: string; key: NamedSet["key"]; interval: boolean; elements: Set<string> }
  | { kind: "map"; name: string; key: NamedSet["key"]; elements: Map<string, string> };

function copy(set: NamedSet): Copy {
  return set.kind === "set" ? { ...set, elements: new Set(set.elements) } : { ...set, elements: new Map(set.elements) };
}

function setsOf({ rules }: PolicyChain): string[] {
  return rules.flatMap(({ matches, verdict }: PolicyRule) => [
    ...matches.flatMap((match) => (match.kind === "lookup" ? [match.set] : [])),
    ...(verdict.kind === "vmap" ? [verdict.map] : []),
  ]);
}

function refuse(wrong: boolean, why: string): void {
  if (wrong) throw new Error(why);
}
