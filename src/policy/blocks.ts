// SPDX-License-Identifier: Apache-2.0
//
// Peers that are blocks of addresses, as sets whose elements never overlap, and which grow no faster than what was written. Pure.
import { type Family, formatAddress } from "../net/address.ts";
import { type Interval, merge, union, without } from "../net/intervals.ts";
import { formatPrefix, isWithin, type Prefix, prefixBytes, prefixSize } from "../net/prefix.ts";
import { hash } from "./hash.ts";
import { mergePorts, type PortRange, portElement } from "./ports.ts";
import { addressType, type ElementKey, elementKey, type PolicySet, rangeText } from "./ruleset.ts";

/** A block without its exceptions. */
export interface Block {
  readonly cidr: Prefix;
  readonly except: readonly Prefix[];
}

/** Equal blocks have equal text. */
export function blockText({ cidr, except }: Block): string {
  return [formatPrefix(cidr), ...except.map(formatPrefix).sort()].join("-");
}

/** Whether it is every address of its family. */
export function isEverything({ cidr, except }: Block): boolean {
  return cidr.length === 0 && except.length === 0;
}

export function intervalsOf({ cidr, except }: Block): Interval[] {
  const whole = { first: cidr.base, last: cidr.base + prefixSize(cidr) - 1n };
  return without(whole, union(except, cidr.family));
}

/** The addresses that are in any of the blocks. @returns undefined where that is none, so that nothing needs to be looked up */
export function blockSet(blocks: readonly Block[], family: Family): PolicySet | undefined {
  const elements = merge(blocks.flatMap(intervalsOf)).map((interval) => intervalText(interval, family));
  if (elements.length === 0) return undefined;
  return {
    kind: "set",
    name: `blocks${family}_${hash(elements.join(","))}`,
    key: [addressType(family)],
    interval: true,
    elements: new Set(elements),
  };
}

/** A block and the ports that are for it. */
export interface BlockPorts {
  readonly block: Block;
  readonly ports: readonly PortRange[];
}

/** More elements than this one block with its ports doesn't make: with exceptions they multiply. */
const MOST_PRODUCT = 1024;

/**
 * Any number of blocks with ports of their own, as few sets: one for each depth that the blocks are nested in. Blocks of one depth
 * share no address, so their elements don't overlap, and each is there once.
 * @returns sets to look up addresses with ports in, and what is left for rules of its own because it would make too many elements
 */
export function layers(
  all: readonly BlockPorts[],
  family: Family,
): { sets: readonly PolicySet[]; rest: readonly BlockPorts[] } {
  const units = new Map<string, { block: Block; ports: PortRange[] }>();
  for (const { block, ports } of all) {
    const unit = units.get(blockText(block));
    if (unit === undefined) units.set(blockText(block), { block, ports: [...ports] });
    else unit.ports.push(...ports);
  }
  const ordered = [...units.values()].sort(({ block: a }, { block: b }) =>
    a.cidr.base === b.cidr.base ? a.cidr.length - b.cidr.length : a.cidr.base < b.cidr.base ? -1 : 1,
  );
  const levels: ElementKey[][] = [];
  const rest: BlockPorts[] = [];
  const around: Prefix[] = [];
  for (const { block, ports: some } of ordered) {
    const ports = mergePorts(some);
    const intervals = intervalsOf(block);
    if (intervals.length * ports.length > MOST_PRODUCT && intervals.length > 1 && ports.length > 1) {
      rest.push({ block, ports });
      continue;
    }
    while (around.length > 0 && !isWithin(around.at(-1) as Prefix, block.cidr)) around.pop();
    const level = levels[around.length] ?? [];
    levels[around.length] = level;
    around.push(block.cidr);
    for (const interval of intervals) {
      for (const range of ports) level.push(elementKey(intervalText(interval, family), portElement(range)));
    }
  }
  const sets = levels
    .filter((elements) => elements.length > 0)
    .map(
      (elements): PolicySet => ({
        kind: "set",
        name: `blockports${family}_${hash(elements.join(","))}`,
        key: [addressType(family), "inet_proto", "inet_service"],
        interval: true,
        elements: new Set(elements),
      }),
    );
  return { sets, rest };
}

function intervalText({ first, last }: Interval, family: Family): string {
  const text = (base: bigint) => formatAddress(prefixBytes({ family, base, length: 0 }));
  return rangeText(text(first), text(last));
}
