// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parsePrefix } from "../net/prefix.ts";
import { parseRange } from "../net/range.ts";
import { type AddressRules, layOut, type NamedPool } from "./layout.ts";

const pool = (name: string, ranges: string[], namespaces: string[] = []): NamedPool => {
  return { name, ranges: ranges.map(parseRange), namespaces };
};
const laidOut = (subnets: string[], rules: AddressRules = {}) => layOut(subnets.map(parsePrefix), rules);

test("a subnet without rules is the default pool's, but for its first and last address", () => {
  expect(laidOut(["10.0.0.0/24", "fd00::/64"])).toMatchObject([
    { draining: false, reserved: 2n, sections: [{ pool: "default", spans: [{ first: 1n, end: 255n }] }] },
    { draining: false, reserved: 1n, sections: [{ pool: "default", spans: [{ first: 1n, end: 1n << 64n }] }] },
  ]);
});

test("excluded ranges and other pools' are cut out of the default pool, and excluded ones out of those", () => {
  const excluded = ["10.0.0.0/28", "10.0.0.200-10.0.0.210"].map(parseRange);
  const pools = [pool("db", ["10.0.0.192/28", "10.0.0.208/28"])];
  expect(laidOut(["10.0.0.0/24"], { excluded, pools })).toMatchObject([
    {
      // 16 and the broadcast address, and 11.
      reserved: 28n,
      sections: [
        {
          pool: "default",
          spans: [
            { first: 16n, end: 192n },
            { first: 224n, end: 255n },
          ],
        },
        {
          pool: "db",
          spans: [
            { first: 192n, end: 200n },
            { first: 211n, end: 224n },
          ],
        },
      ],
    },
  ]);
});

test("only draining subnets are draining", () => {
  const draining = [parsePrefix("10.0.1.0/24")];
  expect(laidOut(["10.0.0.0/24", "10.0.1.0/24"], { draining })).toMatchObject([
    { draining: false },
    { draining: true },
  ]);
});

describe("what doesn't fit together is refused:", () => {
  const cases: [string[], AddressRules, string][] = [
    [[], {}, "no subnet is configured"],
    [["10.0.0.0/24", "10.0.0.0/25"], {}, "subnet 10.0.0.0/25 overlaps subnet 10.0.0.0/24"],
    [
      ["10.0.0.0/24"],
      { draining: [parsePrefix("10.0.0.0/25")] },
      "the draining subnet 10.0.0.0/25 is none of 10.0.0.0/24",
    ],
    [
      ["10.0.0.0/24"],
      { excluded: [parseRange("10.0.0.9-10.0.1.9")] },
      "excluded 10.0.0.9-10.0.1.9 is not inside one of",
    ],
    [
      ["10.0.0.0/24"],
      { pools: [pool("db", ["10.0.1.0/28"])] },
      "pool db: 10.0.1.0/28 is not inside one of 10.0.0.0/24",
    ],
    [["10.0.0.0/24"], { pools: [pool("default", ["10.0.0.0/28"])] }, "pool default is what no other pool has"],
    [["10.0.0.0/24", "fd00::/64"], { pools: [pool("db", ["10.0.0.0/28"])] }, "pool db has no range of IPv6"],
    [
      ["10.0.0.0/24"],
      { pools: [pool("a", ["10.0.0.0/28"]), pool("b", ["10.0.0.15"])] },
      "10.0.0.15 of pool b overlaps 10.0.0.0/28 of pool a",
    ],
    [
      ["10.0.0.0/24"],
      { pools: [pool("a", ["10.0.0.0/28"], ["x"]), pool("b", ["10.0.0.16"], ["y", "x"])] },
      "namespace x is in pools a and b",
    ],
  ];
  for (const [subnets, rules, message] of cases) {
    test(message, () => {
      expect(() => laidOut(subnets, rules)).toThrow(expect.objectContaining({ code: "IPAM_INVALID" }));
      expect(() => laidOut(subnets, rules)).toThrow(message);
    });
  }
});

test("every usable address is in exactly one pool or kept back, and spans are in order and apart", () => {
  const range = fc
    .tuple(fc.nat({ max: 31 }), fc.nat({ max: 31 }))
    .map(([a, b]) => `10.0.0.${Math.min(a, b)}-10.0.0.${Math.max(a, b)}`);
  fc.assert(
    fc.property(fc.array(range, { maxLength: 3 }), range, range, (excluded, a, b) => {
      const [inA, inB] = [parseRange(a), parseRange(b)];
      fc.pre(inA.last < inB.first || inB.last < inA.first);
      const has = (text: string, index: bigint) => {
        const { first, last } = parseRange(text);
        return parsePrefix("10.0.0.0/27").base + index >= first && parsePrefix("10.0.0.0/27").base + index <= last;
      };
      const [layout] = laidOut(["10.0.0.0/27"], {
        excluded: excluded.map(parseRange),
        pools: [pool("a", [a]), pool("b", [b])],
      });
      let given = 0n;
      for (let index = 0n; index < 32n; index++) {
        const there = layout?.sections.filter(({ spans }) =>
          spans.some(({ first, end }) => index >= first && index < end),
        );
        const out = index === 0n || index === 31n || excluded.some((text) => has(text, index));
        const expected = has(a, index) ? "a" : has(b, index) ? "b" : "default";
        expect(there?.map(({ pool }) => pool)).toEqual(out ? [] : [expected]);
        if (!out) given++;
      }
      expect(layout?.reserved).toBe(32n - given);
      for (const { spans } of layout?.sections ?? []) {
        for (const [i, { first, end }] of spans.entries()) {
          expect(end).toBeGreaterThan(first);
          if (i > 0) expect(first).toBeGreaterThan(spans[i - 1]?.end ?? 0n);
        }
      }
    }),
  );
});
