// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parsePrefix } from "../net/prefix.ts";
import { drawSubnet, legend, namespaceLetters, type SubnetSight } from "./subnet-map.ts";
import { allocation, gateway } from "./testing/fixtures.ts";

function sight(cidr: string, more: Partial<SubnetSight> = {}): SubnetSight {
  return { prefix: parsePrefix(cidr), allocations: [], resting: [], keptBack: [], ...more };
}

const range = (first: string, last = first) => ({ first, last });
const draw = (of: SubnetSight) => drawSubnet(of, namespaceLetters(of.allocations));

test("every address of a subnet is a cell: a namespace's letter, no pod, a gateway, resting, kept back, free", () => {
  const allocations = [
    gateway("10.0.0.1"),
    allocation(["10.0.0.2"], "b/one"),
    allocation(["10.0.0.3"], "a/two"),
    allocation(["10.0.0.4"], "b/three"),
    allocation(["10.0.0.9"], ""),
    allocation(["10.9.9.9"], "a/elsewhere"),
  ];
  const resting = [{ address: "10.0.0.5", releasedAtMs: 0n, restsUntilMs: 1n, keptFor: "" }];
  const keptBack = [range("10.0.0.0"), range("10.0.0.13", "10.0.0.15"), range("10.1.0.1")];
  const of = sight("10.0.0.0/28", { allocations, resting, keptBack });
  expect(draw(of)).toEqual(["10.0.0.0  -^bab~.. .#...---"]);
  expect(legend(of, namespaceLetters(allocations))).toEqual([
    ["a", "namespace a (1)"],
    ["b", "namespace b (2)"],
    ["#", "no pod (1)"],
    ["^", "gateway (1)"],
    ["~", "resting (1)"],
    ["-", "kept back"],
    [".", "free"],
  ]);
});

test("a /24 is eight rows of 32, each with its first address", () => {
  const rows = draw(sight("10.0.0.0/24", { keptBack: [range("10.0.0.0"), range("10.0.0.255")] }));
  expect(rows).toHaveLength(8);
  expect(rows[0]).toBe("10.0.0.0    -....... ........ ........ ........");
  expect(rows[7]).toBe("10.0.0.224  ........ ........ ........ .......-");
});

test("of a larger subnet only rows in which something is are shown, and how many addresses are between them", () => {
  const allocations = [allocation(["10.0.1.1"], "a/one"), allocation(["10.0.255.254"], "a/two")];
  expect(draw(sight("10.0.0.0/16", { allocations }))).toEqual([
    "… 256 that nobody has",
    "10.0.1.0      .a...... ........ ........ ........",
    "… 65,216 that nobody has",
    "10.0.255.224  ........ ........ ........ ......a.",
  ]);
});

test("a /64 is as short as what is in it", () => {
  const allocations = [allocation(["fd00::1"], "a/one"), allocation(["fd00::ffff:ffff:ffff:ffff"], "a/two")];
  expect(draw(sight("fd00::/64", { allocations }))).toEqual([
    "fd00::                     .a...... ........ ........ ........",
    "… more that nobody has",
    "fd00::ffff:ffff:ffff:ffe0  ........ ........ ........ .......a",
  ]);
});

test("a picture has at most 64 rows, and says how many more there are", () => {
  const allocations = Array.from({ length: 70 }, (_, i) => allocation([`10.0.${i}.1`], "a/one"));
  const rows = draw(sight("10.0.0.0/16", { allocations }));
  expect(rows.filter((row) => row.startsWith("10."))).toHaveLength(64);
  expect(rows.at(-1)).toBe("… 6 more rows with addresses; ipam list has them all");
});

test("a subnet smaller than a row is what it is", () => {
  expect(draw(sight("10.0.0.0/31"))).toEqual(["10.0.0.0  .."]);
  expect(draw(sight("10.0.0.7/32", { allocations: [allocation(["10.0.0.7"], "a/one")] }))).toEqual(["10.0.0.7  a"]);
});

test("of a subnet that gives out nothing more only what is held stands out", () => {
  const allocations = [allocation(["10.0.0.2"], "a/one")];
  const of = sight("10.0.0.0/29", { allocations, keptBack: [range("10.0.0.0", "10.0.0.7")] });
  expect(draw(of)).toEqual(["10.0.0.0  --a-----"]);
});

test("more namespaces than letters share a sign", () => {
  const allocations = Array.from({ length: 60 }, (_, i) => allocation([`10.0.0.${i + 1}`], `ns-${i + 10}/pod`));
  const of = sight("10.0.0.0/26", { allocations });
  expect(draw(of).join("")).toMatch(/Z### #####/);
  expect(legend(of, namespaceLetters(allocations))).toContainEqual(["#", "other namespaces (8)"]);
});
