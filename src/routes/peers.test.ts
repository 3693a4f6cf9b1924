// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { formatAddress, parseAddress } from "../net/address.ts";
import { formatPrefix, hostPrefix, overlaps, type Prefix, parsePrefix } from "../net/prefix.ts";
import { PeersError } from "./errors.ts";
import { parsePeers, type Self } from "./peers.ts";

const SELF: Self = { name: "self", podCIDRs: [parsePrefix("10.244.0.0/24"), parsePrefix("fd00:10:244::/64")] };

interface Entry {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly podCIDRs: readonly string[];
}

/** A peers file with these nodes, and with what else a test puts into them. */
function file(...nodes: readonly Entry[]): string {
  return stringify({ nodes });
}

function refusal(text: string, self = SELF): { code: string; message: string } {
  try {
    parsePeers(text, self);
  } catch (error) {
    expect(error).toBeInstanceOf(PeersError);
    const { code, message } = error as PeersError;
    return { code, message };
  }
  throw new Error("it was accepted");
}

const A: Entry = {
  name: "a",
  addresses: ["172.18.0.2", "fd00:18::2"],
  podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"],
};
const B: Entry = { name: "b", addresses: ["172.18.0.3"], podCIDRs: ["10.244.2.0/24"] };

test("nodes are read with their addresses and subnets", () => {
  const nodes = parsePeers(file(A, B), SELF);
  expect(
    nodes.map(({ name, addresses, podCIDRs }) => ({
      name,
      addresses: addresses.map(formatAddress),
      podCIDRs: podCIDRs.map(formatPrefix),
    })),
  ).toEqual([A, B]);
});

test("the file may be written as people write YAML, or as JSON", () => {
  const yaml = `# the lab
nodes:
  - name: a
    addresses: [172.18.0.2, "fd00:18::2"]
    podCIDRs:
      - 10.244.1.0/24
      - fd00:10:244:1::/64
`;
  expect(parsePeers(yaml, SELF)).toEqual(parsePeers(JSON.stringify({ nodes: [A] }), SELF));
});

test("a node without subnets, and a file without nodes, are fine", () => {
  expect(parsePeers("nodes: []", SELF)).toEqual([]);
  expect(parsePeers(file({ name: "a", addresses: [], podCIDRs: [] }), SELF)).toHaveLength(1);
});

test("the own entry is fine when it says what the daemon was told, in any order", () => {
  const own = {
    name: "self",
    addresses: ["172.18.0.1", "fd00:18::1"],
    podCIDRs: ["fd00:10:244:0::/64", "10.244.0.0/24"],
  };
  expect(parsePeers(file(own, A), SELF)).toHaveLength(2);
});

test.for<[what: string, text: string, code: string, message: string]>([
  ["text that is no YAML", "nodes: [", "PEERS_SYNTAX", "the peers file is not YAML"],
  ["two documents", "nodes: []\n---\nnodes: []", "PEERS_SYNTAX", "the peers file is not YAML"],
  ["a key twice", "nodes: []\nnodes: []", "PEERS_SYNTAX", "the peers file is not YAML"],
  ["an empty file", "", "PEERS_INVALID", "the file: Invalid type: Expected Object but received null"],
  ["a list", "[]", "PEERS_INVALID", "nodes is missing"],
  ["nodes of a wrong type", "nodes: 7", "PEERS_INVALID", "nodes: Invalid type: Expected Array but received 7"],
  ["a node of a wrong type", "nodes: [a]", "PEERS_INVALID", 'nodes.0: Invalid type: Expected Object but received "a"'],
  ["no nodes", "{}", "PEERS_INVALID", "nodes is missing"],
  ["an unknown key", "nodes: []\nnoodles: 7", "PEERS_INVALID", "noodles is no key of a peers file"],
  [
    "an unknown key of a node",
    file(Object.assign({ podCidrs: [] }, A)),
    "PEERS_INVALID",
    "nodes.0.podCidrs is no key of a peers file",
  ],
  [
    "a missing key of a node",
    stringify({ nodes: [{ name: "a", addresses: [] }] }),
    "PEERS_INVALID",
    "nodes.0.podCIDRs is missing",
  ],
  [
    "a name of a wrong type",
    "nodes: [{name: 7, addresses: [], podCIDRs: []}]",
    "PEERS_INVALID",
    "nodes.0.name: Invalid type: Expected string but received 7",
  ],
  [
    "a name that can't be a node's",
    file({ ...A, name: "Node_1" }),
    "PEERS_INVALID",
    'nodes.0.name: "Node_1" is not a node name',
  ],
  ["an empty name", file({ ...A, name: "" }), "PEERS_INVALID", 'nodes.0.name: "" is not a node name'],
  [
    "an address of a wrong type",
    "nodes: [{name: a, addresses: [7], podCIDRs: []}]",
    "PEERS_INVALID",
    "nodes.0.addresses.0: Invalid type: Expected string but received 7",
  ],
  [
    "an address that is none",
    file({ ...A, addresses: ["node-a"] }),
    "PEERS_INVALID",
    'nodes.0 (a).addresses.0: "node-a" is not an IP address',
  ],
  [
    "an address with a length",
    file({ ...B, addresses: ["172.18.0.3/16"] }),
    "PEERS_INVALID",
    '"172.18.0.3/16" is not an IP address',
  ],
  [
    "a subnet that is none",
    file(B, { ...A, podCIDRs: ["10.244.1.0"] }),
    "PEERS_INVALID",
    'nodes.1 (a).podCIDRs.0: "10.244.1.0" is not a subnet',
  ],
  [
    "host bits",
    file({ ...B, podCIDRs: ["10.244.2.1/24"] }),
    "PEERS_INVALID",
    "nodes.0 (b).podCIDRs.0: 10.244.2.1/24 has host bits set; the subnet is 10.244.2.0/24",
  ],
  ["a node twice", file(A, { ...B, name: "a" }), "PEERS_INVALID", "node a is listed twice"],
  [
    "this node twice",
    file({ ...A, name: "self" }, { ...B, name: "self" }),
    "PEERS_INVALID",
    "node self is listed twice",
  ],
  [
    "two addresses of a family",
    file({ ...B, addresses: ["172.18.0.3", "172.18.0.4"] }),
    "PEERS_INVALID",
    "node b has 2 IPv4 addresses, one is the next hop",
  ],
  [
    "a subnet without a next hop",
    file({ ...A, addresses: ["172.18.0.2"] }),
    "PEERS_INVALID",
    "node a has fd00:10:244:1::/64 but no IPv6 address to reach it by",
  ],
  [
    "an own entry that disagrees",
    file({ ...B, name: "self" }),
    "PEERS_INVALID",
    "node self is this one and has 10.244.0.0/24, fd00:10:244::/64, but the file says 10.244.2.0/24",
  ],
  [
    "equal subnets",
    file(A, { ...B, podCIDRs: ["10.244.1.0/24"] }),
    "PEERS_INVALID",
    "10.244.1.0/24 of a overlaps 10.244.1.0/24 of b",
  ],
  [
    "a subnet in another",
    file({ ...B, podCIDRs: ["10.244.1.128/25"] }, A),
    "PEERS_INVALID",
    "10.244.1.0/24 of a overlaps 10.244.1.128/25 of b",
  ],
  [
    "a subnet in our own",
    file({ ...B, podCIDRs: ["10.244.0.0/25"] }),
    "PEERS_INVALID",
    "10.244.0.0/24 of self overlaps 10.244.0.0/25 of b",
  ],
  [
    "two overlapping subnets of one node",
    file({ ...B, podCIDRs: ["10.244.2.0/24", "10.244.2.0/25"] }),
    "PEERS_INVALID",
    "10.244.2.0/24 of b overlaps 10.244.2.0/25 of b",
  ],
  [
    "a node inside another's subnet",
    file(A, { ...B, addresses: ["10.244.1.7"] }),
    "PEERS_INVALID",
    "10.244.1.0/24 of a contains the address of node b",
  ],
  [
    "a node inside its own subnet",
    file({ ...B, addresses: ["10.244.2.1"] }),
    "PEERS_INVALID",
    "10.244.2.0/24 of b contains the address of node b",
  ],
  [
    "a node inside our subnet",
    file({ ...B, addresses: ["10.244.0.1"] }),
    "PEERS_INVALID",
    "10.244.0.0/24 of self contains the address of node b",
  ],
])("%s is refused", ([, text, code, message]) => {
  const error = refusal(text);
  expect(error.code).toBe(code);
  expect(error.message).toContain(message);
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
  const text = file({ name: "a", addresses: [cidr.includes(":") ? "fd00:18::2" : "172.18.0.2"], podCIDRs: [cidr] });
  expect(refusal(text).message).toContain(`node a: ${cidr} is foreign to a pod network`);
});

test("everything that is wrong is said at once", () => {
  const { message } = refusal(file({ ...A, addresses: ["x"] }, { ...B, podCIDRs: ["10.244.2.1/24", "y"] }));
  expect(message.split("; ").length).toBeGreaterThanOrEqual(3);
  for (const text of ['"x"', "10.244.2.1/24", '"y"']) expect(message).toContain(text);
});

test("a node inside a subnet is found though that subnet has others inside it", () => {
  const { message } = refusal(
    file({ ...A, podCIDRs: ["10.0.0.0/8", "10.1.0.0/16"] }, { ...B, addresses: ["10.2.0.1"] }),
  );
  expect(message).toContain("10.0.0.0/8 of a contains the address of node b");
});

test("5,000 dual-stack nodes are read", () => {
  const nodes = Array.from({ length: 5000 }, (_, i) => {
    const n = i + 1;
    return {
      name: `node-${n}`,
      addresses: [`172.18.${n >> 8}.${n & 255}`, `fd00:18::${n.toString(16)}`],
      podCIDRs: [`10.${64 + (n >> 8)}.${n & 255}.0/24`, `fd00:10:${n.toString(16)}::/64`],
    };
  });
  const text = file(...nodes);
  expect(text.length).toBeLessThan(8 * 1024 * 1024);
  const parsed = parsePeers(text, { name: "self", podCIDRs: [parsePrefix("10.63.0.0/24")] });
  expect(parsed).toHaveLength(5000);
  expect(formatPrefix(parsed[4999]?.podCIDRs[1] as Prefix)).toBe("fd00:10:1388::/64");
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

test("a clash is found exactly where comparing each with each finds one, and every one that clashes is named", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(hop, fc.array(small, { minLength: 1, maxLength: 2 })), { maxLength: 6 }), (list) => {
      const nodes = list.map(([address, podCIDRs], i) => ({ name: `n${i}`, addresses: [address], podCIDRs }));
      const subnets = nodes.flatMap(({ name, podCIDRs }) => podCIDRs.map((cidr) => ({ name, cidr })));
      const clashes = new Set<string>();
      for (const [i, a] of subnets.entries()) {
        for (const b of subnets.slice(i + 1)) {
          if (!overlaps(parsePrefix(a.cidr), parsePrefix(b.cidr))) continue;
          for (const { name, cidr } of [a, b]) clashes.add(`${cidr} of ${name}`);
        }
      }
      const inside = nodes.filter(({ addresses: [address] }) =>
        subnets.some(({ cidr }) => overlaps(parsePrefix(cidr), hostPrefix(parseAddress(address as string)))),
      );
      const self = { name: "self", podCIDRs: [] };
      if (clashes.size === 0 && inside.length === 0) {
        expect(parsePeers(file(...nodes), self)).toHaveLength(nodes.length);
        return;
      }
      const { message } = refusal(file(...nodes), self);
      for (const clash of clashes) expect(message).toContain(clash);
      for (const { name } of inside) expect(message).toMatch(new RegExp(`contains the address of node ${name}(;|$)`));
      expect(message.split("; ").filter((problem) => problem.includes("contains"))).toHaveLength(inside.length);
    }),
    { numRuns: 500 },
  );
});
