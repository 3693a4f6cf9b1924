// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { formatAddress } from "../net/address.ts";
import { parsePrefix } from "../net/prefix.ts";
import { egressTable, intervalsOf } from "./ruleset.ts";

/** A set as nft would list its ends: an interval's first address, and "…" before the first one behind it. */
function endsOf(pods: string[], inside: string[], name: string): string[] {
  const intervals = intervalsOf({ pods: pods.map(parsePrefix), inside: inside.map(parsePrefix) });
  const set = egressTable(intervals).sets.find((one) => one.name === name);
  return (set?.elements ?? []).map(({ key, intervalEnd }) => `${intervalEnd ? "…" : ""}${formatAddress(key)}`);
}

test("pods are this node's subnets, each in the set of its family", () => {
  const pods = ["10.244.1.0/24", "fd00:10:244:1::/64"];
  expect(endsOf(pods, [], "pods4")).toEqual(["10.244.1.0", "…10.244.2.0"]);
  expect(endsOf(pods, [], "pods6")).toEqual(["fd00:10:244:1::", "…fd00:10:244:2::"]);
});

test("neighbouring subnets inside are one interval, and nodes are addresses", () => {
  const inside = ["10.244.2.0/24", "10.244.1.0/24", "172.18.0.3/32", "10.244.1.128/25"];
  expect(endsOf([], inside, "inside4")).toEqual(["10.244.1.0", "…10.244.3.0", "172.18.0.3", "…172.18.0.4"]);
});

test("an interval that goes on to the last address there is has no end", () => {
  expect(endsOf([], ["255.0.0.0/8"], "inside4")).toEqual(["255.0.0.0"]);
  expect(endsOf([], ["::/0"], "inside6")).toEqual(["::"]);
});
