// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { layOut } from "../ipam/layout.ts";
import { parsePrefix } from "../net/prefix.ts";
import { parseRange } from "../net/range.ts";
import { rulesOf } from "./own-rules.ts";

const OWN = ["10.244.1.0/24", "fd00:10:244:1::/64"].map(parsePrefix);

test("of the rules for all nodes, those about this one are left", () => {
  const rules = rulesOf(OWN, {
    draining: ["10.244.1.0/24", "10.244.2.0/24"].map(parsePrefix),
    excluded: ["10.244.1.0/28", "10.244.2.0/28", "fd00:10:244:1::7", "fd00:10:244:2::7"].map(parseRange),
    pools: [
      {
        name: "db",
        ranges: ["10.244.1.128/28", "fd00:10:244:1::1:0/112", "10.244.2.128/28"].map(parseRange),
        namespaces: ["a"],
      },
      { name: "elsewhere", ranges: [parseRange("10.244.2.64/28")], namespaces: [] },
    ],
  });
  expect(rules).toEqual({
    draining: [parsePrefix("10.244.1.0/24")],
    excluded: ["10.244.1.0/28", "fd00:10:244:1::7"].map(parseRange),
    pools: [{ name: "db", ranges: ["10.244.1.128/28", "fd00:10:244:1::1:0/112"].map(parseRange), namespaces: ["a"] }],
  });
  expect(() => layOut(OWN, rules)).not.toThrow();
});

test("what is only partly in a subnet of this node is left, to be refused", () => {
  const rules = rulesOf(OWN, { excluded: [parseRange("10.244.0.250-10.244.1.5")] });
  expect(() => layOut(OWN, rules)).toThrow("excluded 10.244.0.250-10.244.1.5 is not inside one of 10.244.1.0/24");
});
