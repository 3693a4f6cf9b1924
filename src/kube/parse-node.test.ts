// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress } from "../net/address.ts";
import { formatPrefix } from "../net/prefix.ts";
import { NODE_ADDRESSES_ANNOTATION, parseNode } from "./parse-node.ts";

function read(parts: { spec?: object; status?: object; annotations?: object; labels?: object }) {
  const { annotations, labels, ...rest } = parts;
  const node = parseNode({ metadata: { name: "node-1", uid: "u1", annotations, labels }, ...rest });
  if (node === undefined) throw new Error("no node");
  return { ...node, podCIDRs: node.podCIDRs.map(formatPrefix), addresses: node.addresses.map(formatAddress) };
}

const addresses = (...pairs: [type: string, address: string][]) => ({
  status: { addresses: pairs.map(([type, address]) => ({ type, address })) },
});

test("a node has its subnets, its first InternalIP of each family, and flatnet's own annotations", () => {
  const node = read({
    spec: { podCIDR: "10.244.1.0/24", podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"], taints: [{ key: "a" }] },
    ...addresses(
      ["Hostname", "node-1"],
      ["ExternalIP", "203.0.113.1"],
      ["InternalIP", "172.18.0.2"],
      ["InternalIP", "172.18.0.3"],
      ["InternalIP", "fd00:18::2"],
    ),
    annotations: { "flatnet.dev/x": "1", "example.com/y": "2" },
    labels: { zone: "a" },
  });
  expect(node).toMatchObject({
    name: "node-1",
    uid: "u1",
    podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"],
    addresses: ["172.18.0.2", "fd00:18::2"],
    annotations: { "flatnet.dev/x": "1" },
    taints: ["a"],
    problem: undefined,
  });
});

test("a node of before dual stack has one subnet; one that has none yet has none", () => {
  expect(read({ spec: { podCIDR: "10.244.1.0/24" } }).podCIDRs).toEqual(["10.244.1.0/24"]);
  expect(read({ spec: {} })).toMatchObject({ podCIDRs: [], problem: undefined });
  expect(read({})).toMatchObject({ podCIDRs: [], addresses: [], problem: undefined });
});

test("a subnet that is listed twice is one", () => {
  expect(read({ spec: { podCIDRs: ["fd00:1::/64", "fd00:1:0::/64"] } }).podCIDRs).toEqual(["fd00:1::/64"]);
});

test("a subnet or an address that can't be read is left out and named, and the others stay", () => {
  const node = read({
    spec: { podCIDRs: ["10.244.1.7/24", "fd00:1::/64"] },
    ...addresses(["InternalIP", "172.18.0"], ["InternalIP", "172.18.0.2"]),
  });
  expect(node.podCIDRs).toEqual(["fd00:1::/64"]);
  expect(node.addresses).toEqual(["172.18.0.2"]);
  expect(node.problem).toMatch(
    /spec\.podCIDRs has "10\.244\.1\.7\/24": .*10\.244\.1\.0\/24; .*InternalIP "172\.18\.0"/,
  );
});

test("the annotation names the addresses in place of InternalIPs, of both families", () => {
  const annotations = { [NODE_ADDRESSES_ANNOTATION]: "192.0.2.1, fd00:99::1" };
  expect(read({ ...addresses(["InternalIP", "172.18.0.2"]), annotations }).addresses).toEqual([
    "192.0.2.1",
    "fd00:99::1",
  ]);
});

test.each(["192.0.2.1,192.0.2.2", "", "192.0.2.1,", "node-1"])(
  "an annotation that says %j is a problem, and then the node has no address rather than one that wasn't meant",
  (text) => {
    const node = read({
      ...addresses(["InternalIP", "172.18.0.2"]),
      annotations: { [NODE_ADDRESSES_ANNOTATION]: text },
    });
    expect(node.addresses).toEqual([]);
    expect(node.problem).toContain(`annotation ${NODE_ADDRESSES_ANNOTATION} is ${JSON.stringify(text)}`);
  },
);

test("what has no name is no node, and nothing that JSON can say makes the parser throw", () => {
  expect(parseNode({ metadata: {} })).toBeUndefined();
  const part = fc.jsonValue({ maxDepth: 4 });
  const shaped = fc.record({
    metadata: fc.record({ name: fc.constant("n"), uid: part, annotations: part, labels: part }),
    spec: fc.oneof(part, fc.record({ podCIDRs: part, podCIDR: part, taints: part })),
    status: fc.oneof(part, fc.record({ addresses: part, conditions: part })),
  });
  fc.assert(fc.property(part, (raw) => void parseNode(raw)));
  fc.assert(
    fc.property(shaped, (raw) => {
      expect(parseNode(raw)?.name).toBe("n");
    }),
  );
});
