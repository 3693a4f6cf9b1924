// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { formatAddress } from "../net/address.ts";
import { formatPrefix, type Prefix } from "../net/prefix.ts";
import { PeersError } from "./errors.ts";
import { PeersParser } from "./peers.ts";

const parsePeers = (text: string) => new PeersParser().parse(text);

interface Entry {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly podCIDRs: readonly string[];
}

/** A peers file with these nodes, and with what else a test puts into them. */
function file(...nodes: readonly Entry[]): string {
  return stringify({ nodes });
}

function refusal(text: string): { code: string; message: string } {
  try {
    parsePeers(text);
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
  const nodes = parsePeers(file(A, B));
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
  expect(parsePeers(yaml)).toEqual(parsePeers(JSON.stringify({ nodes: [A] })));
});

test("a node without subnets, and a file without nodes, are fine", () => {
  expect(parsePeers("nodes: []")).toEqual([]);
  expect(parsePeers(file({ name: "a", addresses: [], podCIDRs: [] }))).toHaveLength(1);
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
])("%s is refused", ([, text, code, message]) => {
  const error = refusal(text);
  expect(error.code).toBe(code);
  expect(error.message).toContain(message);
});

test("everything that is wrong is said at once", () => {
  const { message } = refusal(file({ ...A, addresses: ["x"] }, { ...B, podCIDRs: ["10.244.2.1/24", "y"] }));
  expect(message.split("; ").length).toBeGreaterThanOrEqual(3);
  for (const text of ['"x"', "10.244.2.1/24", '"y"']) expect(message).toContain(text);
});

test("a node that hasn't changed is the same object in the next version of the file, in whatever order", () => {
  const parser = new PeersParser();
  const [a, b] = parser.parse(file(A, B));
  const [moved, ...same] = parser.parse(JSON.stringify({ nodes: [{ ...B, addresses: ["172.18.0.9"] }, A] }));
  expect(same).toEqual([a]);
  expect(same[0]).toBe(a);
  expect(moved).not.toBe(b);
  expect(moved?.addresses.map(formatAddress)).toEqual(["172.18.0.9"]);
});

test("an unchanged node with a key more is not passed over", () => {
  const parser = new PeersParser();
  parser.parse(file(A));
  expect(() => parser.parse(JSON.stringify({ nodes: [{ ...A, podCidrs: [] }] }))).toThrow("podCidrs is no key");
});

test("a version that is refused leaves no trace in the next", () => {
  const parser = new PeersParser();
  const [a] = parser.parse(file(A, B));
  expect(() => parser.parse(file(A, { ...B, podCIDRs: ["x"] }))).toThrow(PeersError);
  expect(parser.parse(file(A))[0]).toBe(a);
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
  const parsed = parsePeers(text);
  expect(parsed).toHaveLength(5000);
  expect(formatPrefix(parsed[4999]?.podCIDRs[1] as Prefix)).toBe("fd00:10:1388::/64");
});
