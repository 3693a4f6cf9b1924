// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { lastAddress, union, without } from "./intervals.ts";
import { parsePrefix } from "./prefix.ts";

test.for<[prefixes: string[], first: string, intervals: [bigint, bigint][]]>([
  [[], "nothing", []],
  [["10.0.0.0/30"], "one subnet", [[0x0a000000n, 0x0a000003n]]],
  [["10.0.0.4/30", "10.0.0.0/30"], "neighbours", [[0x0a000000n, 0x0a000007n]]],
  [["10.0.0.0/24", "10.0.0.128/25", "10.0.0.7/32"], "one within another", [[0x0a000000n, 0x0a0000ffn]]],
  [
    ["10.0.0.0/32", "10.0.0.2/32"],
    "two apart",
    [
      [0x0a000000n, 0x0a000000n],
      [0x0a000002n, 0x0a000002n],
    ],
  ],
  [["0.0.0.0/0", "fd00::/8"], "everything of one family", [[0n, 0xffff_ffffn]]],
])("%j is %s", ([prefixes, , intervals]) => {
  expect(union(prefixes.map(parsePrefix), 4).map(({ first, last }) => [first, last])).toEqual(intervals);
});

test("an address is in the union exactly when it is in one of the prefixes, and no two intervals touch", () => {
  const prefix = fc
    .tuple(fc.nat(0xff), fc.integer({ min: 24, max: 32 }))
    .map(([low, length]) => ({ family: 4 as const, base: BigInt((low >> (32 - length)) << (32 - length)), length }));
  fc.assert(
    fc.property(fc.array(prefix, { maxLength: 12 }), (prefixes) => {
      const merged = union(prefixes, 4);
      for (let address = 0n; address < 256n; address++) {
        const inOne = prefixes.some(
          ({ base, length }) => address >= base && address < base + (1n << BigInt(32 - length)),
        );
        expect(merged.some(({ first, last }) => address >= first && address <= last)).toBe(inOne);
      }
      for (const [i, { first }] of merged.entries()) {
        if (i > 0) expect(first > (merged[i - 1]?.last ?? 0n) + 1n).toBe(true);
      }
    }),
  );
});

test("the last address of a family has all bits", () => {
  expect([lastAddress(4), lastAddress(6)]).toEqual([0xffff_ffffn, 2n ** 128n - 1n]);
});

test("an interval without holes is what is between them", () => {
  const holes = [
    { first: 0n, last: 1n },
    { first: 4n, last: 5n },
    { first: 9n, last: 20n },
  ];
  expect(without({ first: 1n, last: 10n }, holes)).toEqual([
    { first: 2n, last: 3n },
    { first: 6n, last: 8n },
  ]);
  expect(without({ first: 4n, last: 5n }, holes)).toEqual([]);
  expect(without({ first: 2n, last: 3n }, [])).toEqual([{ first: 2n, last: 3n }]);
});
