// SPDX-License-Identifier: Apache-2.0
//
// Stretches of addresses as people write them: a subnet, an address, or the first and the last one. Pure.
import { type Family, familyOf, formatAddress, parseAddress } from "./address.ts";
import { addressNumber, parsePrefix, prefixSize } from "./prefix.ts";

/** Neighbouring addresses of one family, both ends included. */
export interface AddressRange {
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
  /** As it is shown: "10.244.1.0/28", "10.244.1.7" or "10.244.1.200-10.244.1.210". */
  readonly text: string;
}

/** Text that is no range. `value` is the text. */
export class RangeTextError extends Error {
  override readonly name = "RangeTextError";
  readonly code = "RANGE_INVALID";
  readonly value: string;
  constructor(value: string, why: string, cause?: unknown) {
    super(`${JSON.stringify(value)} ${why}`, { cause });
    this.value = value;
  }
}

/** @throws RangeTextError */
export function parseRange(text: string): AddressRange {
  try {
    if (text.includes("/")) {
      const prefix = parsePrefix(text);
      return { family: prefix.family, first: prefix.base, last: prefix.base + prefixSize(prefix) - 1n, text };
    }
    const [from = "", to = from, ...more] = text.split("-").map((end) => end.trim());
    const [first, last] = [parseAddress(from), parseAddress(to)];
    if (more.length > 0) throw new RangeTextError(text, "has more than two ends");
    if (first.length !== last.length) throw new RangeTextError(text, "has ends of two families");
    if (addressNumber(first) > addressNumber(last)) throw new RangeTextError(text, "ends before it begins");
    const ends = [formatAddress(first), formatAddress(last)];
    return {
      family: familyOf(first),
      first: addressNumber(first),
      last: addressNumber(last),
      text: first === last || ends[0] === ends[1] ? `${ends[0]}` : ends.join("-"),
    };
  } catch (cause) {
    if (cause instanceof RangeTextError) throw cause;
    throw new RangeTextError(text, "is not a subnet, an address or a range like 10.244.1.200-10.244.1.210", cause);
  }
}

/** Whether two ranges share an address. */
export function rangesMeet(a: AddressRange, b: AddressRange): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}
