// SPDX-License-Identifier: Apache-2.0

import { parseAddress } from "../../net/address.ts";
import { addressNumber } from "../../net/prefix.ts";
import type { Ruleset } from "../ruleset.ts";

/** Pairs of elements of one set that have something in common, which the kernel refuses. */
export function overlaps({ sets }: Ruleset): [set: string, one: string, other: string][] {
  const found: [string, string, string][] = [];
  for (const { name, elements } of sets.values()) {
    const all = [...elements.keys()].map((text) => ({ text, fields: text.split(" . ").map(rangeOf) }));
    all.forEach((one, i) => {
      for (const other of all.slice(0, i)) {
        const both = one.fields.every(([first, last], at) => {
          const [from, to] = other.fields[at] as [bigint, bigint];
          return first <= to && from <= last;
        });
        if (both) found.push([name, one.text, other.text]);
      }
    });
  }
  return found;
}

const PROTOCOLS = ["tcp", "udp", "sctp"];

function rangeOf(field: string): [bigint, bigint] {
  const [first = "", last = first] = field.split("-");
  return [numberOf(first), numberOf(last)];
}

function numberOf(text: string): bigint {
  if (PROTOCOLS.includes(text)) return BigInt(PROTOCOLS.indexOf(text));
  return /^\d+$/.test(text) ? BigInt(text) : addressNumber(parseAddress(text));
}
