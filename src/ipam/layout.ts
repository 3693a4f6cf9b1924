// SPDX-License-Identifier: Apache-2.0
//
// How the node's subnets are divided: what is given out at all, and which part of it belongs to which pool. Pure; made once,
// when the daemon starts.
import { formatPrefix, overlaps, type Prefix, prefixSize } from "../net/prefix.ts";
import { type AddressRange, rangesMeet } from "../net/range.ts";
import { IpamError } from "./errors.ts";
import { type Span, usableSpan } from "./pool.ts";

/** Name of the pool that has whatever no other has. */
export const DEFAULT_POOL = "default";

/** A part of the subnets that is given only to those who ask for it by name or live in one of its namespaces. */
export interface NamedPool {
  readonly name: string;
  readonly ranges: readonly AddressRange[];
  /** Namespaces whose pods get their addresses here, unless their network says otherwise. */
  readonly namespaces: readonly string[];
}

/** What is said of the subnets beside which they are. */
export interface AddressRules {
  /** Some of the subnets: nothing new is given out of them. */
  readonly draining?: readonly Prefix[];
  /** Never given out. */
  readonly excluded?: readonly AddressRange[];
  readonly pools?: readonly NamedPool[];
}

/** A pool's part of a subnet. */
export interface Section {
  readonly pool: string;
  /** Positions in the subnet, in ascending order, none touching another; maybe none. */
  readonly spans: readonly Span[];
}

/** A subnet, divided. */
export interface SubnetLayout {
  readonly prefix: Prefix;
  readonly draining: boolean;
  /** The default pool's first. */
  readonly sections: readonly Section[];
  /** How many addresses are in no section, and which. */
  readonly reserved: bigint;
  readonly gaps: readonly Span[];
}

/**
 * @param subnets at least one, none overlapping another
 * @throws IpamError IPAM_INVALID naming what doesn't fit together
 */
export function layOut(subnets: readonly Prefix[], rules: AddressRules): SubnetLayout[] {
  const { draining = [], excluded = [], pools = [] } = rules;
  checkSubnets(subnets, draining);
  for (const range of excluded) home(subnets, range, "excluded");
  checkPools(subnets, pools);
  return subnets.map((prefix): SubnetLayout => {
    const inSubnet = (ranges: readonly AddressRange[]) => ranges.flatMap((range) => spanOf(prefix, range));
    const usable = without([usableSpan(prefix)], inSubnet(excluded));
    const named = pools.map(({ name, ranges }): Section => {
      return { pool: name, spans: within(usable, joined(inSubnet(ranges))) };
    });
    const rest = without(usable, inSubnet(pools.flatMap(({ ranges }) => ranges)));
    const sections = [{ pool: DEFAULT_POOL, spans: rest }, ...named.filter(({ spans }) => spans.length > 0)];
    const gaps = without(
      [{ first: 0n, end: prefixSize(prefix) }],
      sections.flatMap(({ spans }) => spans),
    );
    const reserved = gaps.reduce((sum, { first, end }) => sum + end - first, 0n);
    const drained = draining.some((other) => overlaps(other, prefix));
    return { prefix, draining: drained, sections, reserved, gaps };
  });
}

function checkSubnets(subnets: readonly Prefix[], draining: readonly Prefix[]): void {
  if (subnets.length === 0) throw new IpamError("IPAM_INVALID", "no subnet is configured");
  for (const [i, a] of subnets.entries()) {
    const b = subnets.slice(0, i).find((other) => overlaps(a, other));
    if (b !== undefined) throw invalid(`subnet ${formatPrefix(a)} overlaps subnet ${formatPrefix(b)}`);
  }
  const texts = new Set(subnets.map(formatPrefix));
  for (const text of draining.map(formatPrefix)) {
    if (!texts.has(text)) throw invalid(`the draining subnet ${text} is none of ${[...texts].join(", ")}`);
  }
}

function checkPools(subnets: readonly Prefix[], pools: readonly NamedPool[]): void {
  for (const [i, { name, ranges, namespaces }] of pools.entries()) {
    if (name === DEFAULT_POOL) throw invalid(`pool ${name} is what no other pool has; it can't have ranges of its own`);
    for (const range of ranges) home(subnets, range, `pool ${name}:`);
    for (const { family } of subnets) {
      if (!ranges.some((range) => range.family === family)) throw invalid(`pool ${name} has no range of IPv${family}`);
    }
    for (const other of pools.slice(0, i)) {
      if (other.name === name) throw invalid(`there are two pools ${name}`);
      const both = namespaces.find((namespace) => other.namespaces.includes(namespace));
      if (both !== undefined) throw invalid(`namespace ${both} is in pools ${other.name} and ${name}`);
      for (const range of ranges) {
        const clash = other.ranges.find((one) => rangesMeet(one, range));
        if (clash === undefined) continue;
        throw invalid(`${range.text} of pool ${name} overlaps ${clash.text} of pool ${other.name}`);
      }
    }
  }
}

/** @throws IpamError when the range isn't inside one subnet: routes follow subnets */
function home(subnets: readonly Prefix[], range: AddressRange, what: string): void {
  if (subnets.some((prefix) => has(prefix, range))) return;
  throw invalid(`${what} ${range.text} is not inside one of ${subnets.map(formatPrefix).join(", ")}`);
}

function has(prefix: Prefix, { family, first, last }: AddressRange): boolean {
  return family === prefix.family && first >= prefix.base && last < prefix.base + prefixSize(prefix);
}

/** The range's positions in the subnet, if it is there. */
function spanOf(prefix: Prefix, range: AddressRange): Span[] {
  if (!has(prefix, range)) return [];
  return [{ first: range.first - prefix.base, end: range.last - prefix.base + 1n }];
}

/** In ascending order, those that overlap or touch made one. */
function joined(spans: readonly Span[]): Span[] {
  const result: Span[] = [];
  for (const span of spans.toSorted((a, b) => (a.first < b.first ? -1 : 1))) {
    const last = result.at(-1);
    if (last === undefined || span.first > last.end) result.push(span);
    else if (span.end > last.end) result[result.length - 1] = { first: last.first, end: span.end };
  }
  return result;
}

/** What is left of `spans` without `cuts`. */
function without(spans: readonly Span[], cuts: readonly Span[]): readonly Span[] {
  return cuts.reduce(
    (rest, cut) =>
      rest
        .flatMap(({ first, end }) => [
          { first, end: cut.first < end ? cut.first : end },
          { first: cut.end > first ? cut.end : first, end },
        ])
        .filter(({ first, end }) => first < end),
    spans,
  );
}

/** What `spans` and `others`, of which none touch, share. */
function within(spans: readonly Span[], others: readonly Span[]): Span[] {
  return spans.flatMap((a) =>
    others.flatMap((b) => {
      const first = a.first > b.first ? a.first : b.first;
      const end = a.end < b.end ? a.end : b.end;
      return first < end ? [{ first, end }] : [];
    }),
  );
}

function invalid(message: string): IpamError {
  return new IpamError("IPAM_INVALID", message);
}
