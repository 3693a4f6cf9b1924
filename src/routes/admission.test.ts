// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { formatPrefix, hostPrefix, overlaps, parsePrefix } from "../net/prefix.ts";
import { Admission, ownEntryProblem } from "./admission.ts";
import type { Node, Self } from "./source.ts";

const SELF: Self = { name: "self", podCIDRs: ["10.244.0.0/24", "fd00:10:244::/64"].map(parsePrefix) };

function node(name: string, addresses: string[], podCIDRs: string[]): Node {
  return { name, addresses: addresses.map(parseAddress), podCIDRs: podCIDRs.map(parsePrefix) };
}

const A = node("a", ["172.18.0.2", "fd00:18::2"], ["10.244.1.0/24", "fd00:10:244:1::/64"]);
const B = node("b", ["172.18.0.3"], ["10.244.2.0/24"]);

/** "10.244.1.0/24 of a: why" of every subnet that is refused. */
function refused(nodes: readonly Node[], admission = new Admission(SELF)): string[] {
  return [...admission.refuse(nodes)]
    .flatMap(([{ name }, of]) =>
      [...of].map(([prefix, why]) => `${formatPrefix(prefix)} of ${name}: ${why.join("; ")}`),
    )
    .sort();
}

test("subnets that are apart are fine, and so are nodes without any", () => {
  expect(refused([A, B, node("c", [], []), node("self", ["172.18.0.1"], ["10.244.0.0/24"])])).toEqual([]);
});

test.for<[what: string, nodes: Node[], refused: string[]]>([
  [
    "equal subnets",
    [A, node("b", ["172.18.0.3"], ["10.244.1.0/24"])],
    ["a", "b"].map((name) => `10.244.1.0/24 of ${name}: 10.244.1.0/24 of a overlaps 10.244.1.0/24 of b`),
  ],
  [
    "a subnet in another",
    [node("b", ["172.18.0.3"], ["10.244.1.128/25", "10.244.9.0/24"]), A],
    ["10.244.1.0/24 of a", "10.244.1.128/25 of b"].map(
      (of) => `${of}: 10.244.1.0/24 of a overlaps 10.244.1.128/25 of b`,
    ),
  ],
  [
    "two overlapping subnets of one node",
    [node("b", ["172.18.0.3"], ["10.244.2.0/24", "10.244.2.0/25"])],
    ["10.244.2.0/24", "10.244.2.0/25"].map((cidr) => `${cidr} of b: 10.244.2.0/24 of b overlaps 10.244.2.0/25 of b`),
  ],
  [
    "a peer's claim on our own addresses, which are ours to give out",
    [node("b", ["172.18.0.3"], ["10.244.0.0/25", "10.244.0.0/16"]), A],
    [
      "10.244.0.0/16 of b: 10.244.0.0/16 of b overlaps 10.244.0.0/24 of self; 10.244.0.0/16 of b overlaps 10.244.0.0/25 of b; " +
        "10.244.0.0/16 of b overlaps 10.244.1.0/24 of a",
      "10.244.0.0/25 of b: 10.244.0.0/16 of b overlaps 10.244.0.0/25 of b; 10.244.0.0/24 of self overlaps 10.244.0.0/25 of b",
      "10.244.1.0/24 of a: 10.244.0.0/16 of b overlaps 10.244.1.0/24 of a",
    ],
  ],
  [
    "a node inside another's subnet, which loses nothing by it",
    [A, node("b", ["10.244.1.7"], ["10.244.2.0/24"])],
    ["10.244.1.0/24 of a: 10.244.1.0/24 of a contains the address of node b"],
  ],
  [
    "a node inside its own subnet",
    [node("b", ["10.244.2.1"], ["10.244.2.0/24"])],
    ["10.244.2.0/24 of b: 10.244.2.0/24 of b contains the address of node b"],
  ],
  [
    "a node inside our subnet",
    [node("b", ["10.244.0.1"], [])],
    ["10.244.0.0/24 of self: 10.244.0.0/24 of self contains the address of node b"],
  ],
  [
    "our own address inside a peer's subnet",
    [node("self", ["172.18.0.1"], []), node("b", ["192.0.2.1"], ["172.18.0.0/24"])],
    ["172.18.0.0/24 of b: 172.18.0.0/24 of b contains the address of node self"],
  ],
  [
    "two addresses of a family",
    [node("b", ["172.18.0.3", "172.18.0.4", "fd00:18::3"], ["10.244.2.0/24", "fd00:2::/64"])],
    ["10.244.2.0/24 of b: node b has 2 IPv4 addresses, one is the next hop"],
  ],
  [
    "a subnet without a next hop",
    [node("a", ["172.18.0.2"], ["10.244.1.0/24", "fd00:1::/64"])],
    ["fd00:1::/64 of a: node a has fd00:1::/64 but no IPv6 address to reach it by"],
  ],
])("%s: only what clashes is refused, and both sides are named", ([, nodes, expected]) => {
  expect(refused(nodes)).toEqual(expected);
});

test.for([
  "0.0.0.0/0",
  "0.1.0.0/16",
  "127.1.0.0/24",
  "169.254.1.0/24",
  "224.1.0.0/24",
  "255.255.255.0/24",
  "::/0",
  "::/96",
  "fe80:1::/64",
  "ff00::/64",
])("%s is no subnet of pods", (cidr) => {
  const foreign = node("c", [cidr.includes(":") ? "fd00:18::4" : "172.18.0.4"], [cidr]);
  // And it takes nobody along, though it may overlap everybody.
  expect(refused([foreign, A, B])).toEqual([
    expect.stringContaining(`${cidr} of c: node c: ${cidr} is foreign to a pod network`),
  ]);
});

test("an own entry that says otherwise is told, in any order of its subnets", () => {
  expect(ownEntryProblem([A], SELF)).toBeUndefined();
  expect(ownEntryProblem([node("self", [], ["fd00:10:244::/64", "10.244.0.0/24"])], SELF)).toBeUndefined();
  expect(ownEntryProblem([node("self", [], ["10.244.2.0/24"])], SELF)).toBe(
    "node self is this one and has 10.244.0.0/24, fd00:10:244::/64, but the nodes' source says 10.244.2.0/24",
  );
});

/** Few enough addresses that clashes happen, and 11/8 to be free of them. */
const small = fc.tuple(fc.nat(15), fc.integer({ min: 26, max: 30 })).map(([at, length]) => {
  const host = 2 ** (32 - length);
  return `10.0.0.${Math.floor((at * 4) / host) * host}/${length}`;
});
const hop = fc.oneof(
  fc.nat(70).map((n) => `10.0.0.${n}`),
  fc.nat(255).map((n) => `11.0.0.${n}`),
);
const cluster = fc
  .array(fc.tuple(hop, fc.uniqueArray(small, { minLength: 1, maxLength: 2 })), { maxLength: 6 })
  .map((list) => list.map(([address, cidrs], i) => node(`n${i}`, [address], cidrs)));
const NOBODY: Self = { name: "self", podCIDRs: [] };

test("what is refused is exactly what comparing each with each finds", () => {
  fc.assert(
    fc.property(cluster, (nodes) => {
      const subnets = nodes.flatMap((of) => of.podCIDRs.map((prefix) => ({ of, prefix })));
      const hosts = nodes.flatMap(({ addresses }) => addresses.map(hostPrefix));
      const clashing = subnets.filter(
        (a) =>
          subnets.some((b) => b !== a && overlaps(a.prefix, b.prefix)) ||
          hosts.some((host) => overlaps(a.prefix, host)),
      );
      const names = refused(nodes, new Admission(NOBODY)).map((text) => text.split(":")[0]);
      expect(names).toEqual(clashing.map(({ of, prefix }) => `${formatPrefix(prefix)} of ${of.name}`).sort());
    }),
    { numRuns: 500 },
  );
});

test("what was looked at before makes no difference", () => {
  fc.assert(
    fc.property(fc.array(cluster, { minLength: 2, maxLength: 4 }), fc.array(fc.boolean()), (versions, kept) => {
      const admission = new Admission(NOBODY);
      let before: readonly Node[] = [];
      for (const version of versions) {
        // Some of the nodes are those of before, the same objects.
        const nodes = version.map((it, i) => (kept[i] ? (before.find(({ name }) => name === it.name) ?? it) : it));
        expect(refused(nodes, admission)).toEqual(refused(nodes, new Admission(NOBODY)));
        before = nodes;
      }
    }),
  );
});

test("a prefix touches what it covers, is in, or is", () => {
  const wide = fc.oneof(
    small,
    fc.integer({ min: 8, max: 24 }).map((length) => `10.0.0.0/${length}`),
    hop.map((address) => `${address}/32`),
  );
  fc.assert(
    fc.property(cluster, wide, (nodes, cidr) => {
      const admission = new Admission(NOBODY);
      admission.refuse(nodes);
      const prefix = parsePrefix(cidr);
      const all = nodes.flatMap(({ podCIDRs, addresses }) => [...podCIDRs, ...addresses.map(hostPrefix)]);
      // Among subnets that clash a miss would be a look less at what is broken anyway.
      fc.pre(refused(nodes, new Admission(NOBODY)).length === 0);
      expect(admission.touches(prefix)).toBe(all.some((other) => overlaps(prefix, other)));
    }),
  );
});
