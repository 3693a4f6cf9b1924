// SPDX-License-Identifier: Apache-2.0
import type { AddressRules } from "../ipam/layout.ts";
import { formatPrefix, type Prefix, prefixSize } from "../net/prefix.ts";
import { type AddressRange, rangesMeet } from "../net/range.ts";

/**
 * Of rules that are about the subnets of many nodes, those that are about these: nodes of a cluster share one configuration,
 * and which subnets each has is known to Kubernetes only. Pure.
 */
export function rulesOf(
  subnets: readonly Prefix[],
  { draining = [], excluded = [], pools = [] }: AddressRules,
): AddressRules {
  const texts = new Set(subnets.map(formatPrefix));
  const own = subnets.map(rangeOf);
  // One that is only partly in a subnet stays, and is refused for that.
  const isOwn = (range: AddressRange) => own.some((subnet) => rangesMeet(subnet, range));
  return {
    draining: draining.filter((prefix) => texts.has(formatPrefix(prefix))),
    excluded: excluded.filter(isOwn),
    pools: pools
      .map((pool) => ({ ...pool, ranges: pool.ranges.filter(isOwn) }))
      .filter(({ ranges }) => ranges.length > 0),
  };
}

function rangeOf(prefix: Prefix): AddressRange {
  const { family, base: first } = prefix;
  return { family, first, last: first + prefixSize(prefix) - 1n, text: formatPrefix(prefix) };
}
