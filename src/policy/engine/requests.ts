// SPDX-License-Identifier: Apache-2.0
//
// What the kernel is asked for, so that one ruleset becomes another. Pure.
import type { Request } from "../../netlink/message.ts";
import {
  addChains,
  addElements,
  addSets,
  removeChains,
  removeElements,
  removeSets,
  replaceRules,
  replaceTableAtOnce,
} from "../../nft/table.ts";
import { POLICY_TABLE, type Ruleset, type RulesetChange } from "../ruleset.ts";
import { type EncodeOptions, encodeChain, encodeElement, encodeSet, encodeTable } from "./encode.ts";

/** All of it, whatever was there. */
export function replaceRequests(ruleset: Ruleset, options: EncodeOptions): Request[] {
  return replaceTableAtOnce(encodeTable(ruleset, options));
}

/** @param after the change */
export function changeRequests(change: RulesetChange, after: Ruleset, options: EncodeOptions): Request[] {
  const newSets = change.newSets.map(encodeSet);
  return [
    ...addSets(POLICY_TABLE, newSets),
    ...newSets.flatMap(({ name, elements }) => addElements(POLICY_TABLE, name, elements)),
    ...addChains(
      POLICY_TABLE,
      change.newChains.map((chain) => encodeChain(chain, options)),
    ),
    ...change.replacedChains.flatMap((chain) => replaceRules(POLICY_TABLE, encodeChain(chain, options))),
    ...change.elements.flatMap(({ set: name, remove, add }) => {
      // Only of sets that are still there: the others go as a whole.
      const set = after.sets.get(name);
      if (set === undefined) return [];
      const gone = remove.flatMap((key) => encodeElement(set, key));
      const come = add.flatMap(({ key, chain }) => encodeElement(set, key, chain));
      return [...removeElements(POLICY_TABLE, name, gone), ...addElements(POLICY_TABLE, name, come)];
    }),
    ...removeChains(POLICY_TABLE, change.goneChains),
    ...removeSets(POLICY_TABLE, change.goneSets),
  ];
}
