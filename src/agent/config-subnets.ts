// SPDX-License-Identifier: Apache-2.0
//
// Subnets and ranges of the configuration: each is one, and they fit each other.
import { IpamError } from "../ipam/errors.ts";
import { type AddressRules, layOut } from "../ipam/layout.ts";
import { formatPrefix, overlaps, type Prefix, parsePrefix } from "../net/prefix.ts";
import { type AddressRange, parseRange } from "../net/range.ts";
import { invalid } from "./config-error.ts";

/**
 * @param name of the key or flag that has them
 * @throws ConfigError that names all that are none, or overlap
 */
export function parseSubnets(texts: readonly string[], name: string): Prefix[] {
  const problems: string[] = [];
  const prefixes: Prefix[] = [];
  for (const text of texts) {
    try {
      const prefix = parsePrefix(text);
      const clash = prefixes.find((other) => overlaps(other, prefix));
      if (clash !== undefined) problems.push(`${name} ${text} overlaps ${formatPrefix(clash)}`);
      prefixes.push(prefix);
    } catch (error) {
      problems.push(`${name}: ${(error as Error).message}`);
    }
  }
  if (problems.length > 0) throw invalid(problems);
  return prefixes;
}

/**
 * @param name of the key or flag that has them
 * @throws ConfigError that names all that are none
 */
export function parseRanges(texts: readonly string[], name: string): AddressRange[] {
  const problems: string[] = [];
  const ranges = texts.flatMap((text) => {
    try {
      return [parseRange(text)];
    } catch (error) {
      problems.push(`${name}: ${(error as Error).message}`);
      return [];
    }
  });
  if (problems.length > 0) throw invalid(problems);
  return ranges;
}

/** Before the daemon touches anything. @throws ConfigError when the rules don't fit the subnets */
export function checkRules(subnets: readonly Prefix[], rules: AddressRules): void {
  try {
    layOut(subnets, rules);
  } catch (error) {
    if (error instanceof IpamError) throw invalid([error.message]);
    throw error;
  }
}
