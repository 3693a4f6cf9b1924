// SPDX-License-Identifier: Apache-2.0
//
// What the kernel's table is other than it should be, in words. Pure.
import type { FoundChain, FoundElement, FoundRule, FoundSet } from "../../nft/contents.ts";
import { type Element, typeIdOf } from "../../nft/table.ts";
import { POLICY_TABLE, type Ruleset } from "../ruleset.ts";
import { type EncodeOptions, encodeTable } from "./encode.ts";

/** What is in the kernel, read part by part. */
export interface FoundTable {
  readonly chains: readonly FoundChain[];
  readonly rules: readonly FoundRule[];
  readonly sets: readonly FoundSet[];
  /** Of each set by its name. */
  readonly elements: ReadonlyMap<string, readonly FoundElement[]>;
}

/** A sentence each; none when it is as it should be. */
export function differences(wanted: Ruleset, found: FoundTable, options: EncodeOptions): string[] {
  const table = encodeTable(wanted, options);
  const problems: string[] = [];
  const chains = new Map(found.chains.filter((one) => one.table === POLICY_TABLE).map((one) => [one.name, one]));
  const rules = Map.groupBy(found.rules, ({ chain }) => chain);
  for (const chain of table.chains) {
    const { name, hook, marks = [] } = chain;
    const there = chains.get(name);
    chains.delete(name);
    if (there === undefined) problems.push(`chain ${name} is missing`);
    else if ((there.hook === undefined) !== (hook === undefined)) problems.push(`chain ${name} is in another hook`);
    else {
      const same = textOf(marks) === textOf((rules.get(name) ?? []).map(({ mark }) => mark));
      if (!same) problems.push(`the rules of chain ${name} are others`);
    }
  }
  for (const name of chains.keys()) problems.push(`chain ${name} is foreign`);
  const sets = new Map(found.sets.map((one) => [one.name, one]));
  for (const { name, key, elements } of table.sets) {
    const there = sets.get(name);
    sets.delete(name);
    if (there === undefined) problems.push(`set ${name} is missing`);
    else if (there.keyType !== typeIdOf(key)) problems.push(`set ${name} has other types`);
    else {
      const { missing, foreign } = compareElements(elements, found.elements.get(name) ?? []);
      if (missing > 0) problems.push(`set ${name} lacks ${missing} of its elements`);
      if (foreign > 0) problems.push(`set ${name} has ${foreign} elements too many`);
    }
  }
  for (const name of sets.keys()) problems.push(`set ${name} is foreign`);
  return problems;
}

function compareElements(wanted: readonly Element[], found: readonly FoundElement[]) {
  const left = new Set(
    wanted.map(({ key, keyEnd, jump, intervalEnd }) => textOfElement(key, keyEnd, jump, intervalEnd)),
  );
  let foreign = 0;
  for (const { key, keyEnd, chain, intervalEnd } of found) {
    if (!left.delete(textOfElement(key, keyEnd, chain, intervalEnd))) foreign++;
  }
  return { missing: left.size, foreign };
}

/** An end of a range that is its beginning is the same as none. */
function textOfElement(
  key: Uint8Array,
  keyEnd: Uint8Array | undefined,
  chain: string | undefined,
  intervalEnd: boolean | undefined,
): string {
  const [first, last] = [hex(key), keyEnd === undefined ? undefined : hex(keyEnd)];
  return `${first}-${last ?? first} ${chain ?? ""} ${intervalEnd === true ? "end" : ""}`;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

function textOf(marks: readonly (Uint8Array | undefined)[]): string {
  return marks.map((mark) => (mark === undefined ? "" : hex(mark))).join("\n");
}
