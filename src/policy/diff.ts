// SPDX-License-Identifier: Apache-2.0
//
// What makes one ruleset of another. Pure.
import type { ElementChange, NamedSet, NewElement, PolicyChain, Ruleset, RulesetChange } from "./ruleset.ts";

/** What is the same object in both is not looked into. */
export function diff(before: Ruleset, after: Ruleset): RulesetChange {
  const newSets: NamedSet[] = [];
  const elements: ElementChange[] = [];
  const goneSets: string[] = [];
  for (const [name, set] of after.sets) {
    const old = before.sets.get(name);
    if (old === set) continue;
    if (old !== undefined && sameType(old, set)) {
      const change = elementChange(name, old, set);
      if (change !== undefined) elements.push(change);
      continue;
    }
    // One of another type has the same name only by a collision of hashes or in a table that isn't ours.
    if (old !== undefined) throw new Error(`nftables set ${name} can't become another type`);
    newSets.push(withoutChains(set));
    if (set.kind === "map" && set.elements.size > 0) elements.push({ set: name, remove: [], add: elementsOf(set) });
  }
  for (const name of before.sets.keys()) if (!after.sets.has(name)) goneSets.push(name);
  const newChains: PolicyChain[] = [];
  const replacedChains: PolicyChain[] = [];
  for (const [name, chain] of after.chains) {
    const old = before.chains.get(name);
    if (old === undefined) newChains.push(chain);
    else if (old !== chain && !sameChain(old, chain)) replacedChains.push(chain);
  }
  const goneChains = [...before.chains.keys()].filter((name) => !after.chains.has(name));
  return { newSets, newChains, replacedChains, elements, goneChains, goneSets };
}

/** The set as it is made: a map has no elements before its chains are there. */
export function withoutChains(set: NamedSet): NamedSet {
  return set.kind === "map" ? { ...set, elements: new Map() } : set;
}

export function elementsOf(set: NamedSet): NewElement[] {
  if (set.kind === "set") return [...set.elements].map((key) => ({ key }));
  return [...set.elements].map(([key, chain]) => ({ key, chain }));
}

function sameType(a: NamedSet, b: NamedSet): boolean {
  return (
    a.kind === b.kind &&
    a.key.length === b.key.length &&
    a.key.every((type, i) => type === b.key[i]) &&
    (a.kind === "map" || a.interval === (b as typeof a).interval)
  );
}

function elementChange(name: string, before: NamedSet, after: NamedSet): ElementChange | undefined {
  const remove: string[] = [];
  const add: NewElement[] = [];
  if (before.kind === "map" && after.kind === "map") {
    for (const [key, chain] of before.elements) if (after.elements.get(key) !== chain) remove.push(key);
    for (const [key, chain] of after.elements) if (before.elements.get(key) !== chain) add.push({ key, chain });
  } else {
    for (const key of before.elements.keys()) if (!after.elements.has(key)) remove.push(key);
    for (const key of after.elements.keys()) if (!before.elements.has(key)) add.push({ key });
  }
  return remove.length === 0 && add.length === 0 ? undefined : { set: name, remove, add };
}

/** Chains of policies are named after what they have; only base chains are ever other than their name says. */
function sameChain(a: PolicyChain, b: PolicyChain): boolean {
  return a.hook === b.hook && JSON.stringify(a.rules) === JSON.stringify(b.rules);
}
