// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { indexOf, overlaps, parsePrefix } from "../net/prefix.ts";
import { MAX_NAME, MAX_NODES, UNDERLAYS } from "./options.ts";
import { nodePaths } from "./state.ts";
import { endsOf, isNamespaceOf, namespacesOf, planTopology, withPodAddresses } from "./topology.ts";

const labName = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$/);

test("a dual-stack node has an address and a pod subnet of each family", () => {
  const [, node2] = planTopology({ name: "lab", nodes: 2, pods: 1, family: "dual" }).nodes;
  expect(node2).toMatchObject({
    name: "node2",
    namespace: "flatnet-lab-node2",
    addresses: ["172.18.0.12", "fd00:18::12"],
    podCIDRs: ["10.244.2.0/24", "fd00:10:244:2::/64"],
  });
  expect(node2?.pods[0]).toMatchObject({ name: "node2-pod1", namespace: "flatnet-lab-node2-pod1", addresses: [] });
});

test("a single-stack lab has nothing of the other family", () => {
  const v4 = JSON.stringify(planTopology({ name: "lab", nodes: 3, pods: 0, family: "v4" }));
  const v6 = JSON.stringify(planTopology({ name: "lab", nodes: 3, pods: 0, family: "v6" }));
  expect(v4).not.toContain("fd00:");
  expect(v6).not.toMatch(/172\.18|10\.244/);
});

test.each(UNDERLAYS)(
  "the largest %s lab's subnets are valid, do not overlap, and its nodes are on the underlay",
  (underlay) => {
    const topology = planTopology({ name: "lab", nodes: MAX_NODES, pods: 1, family: "dual", underlay });
    const links = topology.underlay.subnets.map(parsePrefix);
    const subnets = [...topology.nodes.flatMap((node) => node.podCIDRs.map(parsePrefix)), ...links];
    for (const [i, a] of subnets.entries()) for (const b of subnets.slice(i + 1)) expect(overlaps(a, b)).toBe(false);
    for (const address of topology.nodes.flatMap((node) => node.addresses)) {
      expect(links.some((subnet) => indexOf(subnet, parseAddress(address)) !== undefined)).toBe(true);
    }
  },
);

test("a router's links have the first half of the nodes and the second, each with the router's address", () => {
  const { underlay, nodes } = planTopology({ name: "lab", nodes: 3, pods: 1, family: "dual", underlay: "routed" });
  expect(underlay.links).toEqual([
    { name: "rack1", subnets: ["172.18.1.0/24", "fd00:18:1::/64"], router: ["172.18.1.1", "fd00:18:1::1"] },
    { name: "rack2", subnets: ["172.18.2.0/24", "fd00:18:2::/64"], router: ["172.18.2.1", "fd00:18:2::1"] },
  ]);
  expect(nodes.map(({ link, addresses }) => [link, ...addresses])).toEqual([
    ["rack1", "172.18.1.11", "fd00:18:1::11"],
    ["rack1", "172.18.1.12", "fd00:18:1::12"],
    ["rack2", "172.18.2.13", "fd00:18:2::13"],
  ]);
});

test("container IDs and UIDs are valid, unique, and the same in an equal lab", () => {
  const plan = (name: string) =>
    planTopology({ name, nodes: 3, pods: 4, family: "v4" }).nodes.flatMap((node) => node.pods);
  const pods = plan("lab");
  expect(plan("lab")).toEqual(pods);
  expect(new Set([...pods, ...plan("other")].map((pod) => pod.containerId)).size).toBe(24);
  for (const pod of pods) {
    expect(pod.containerId).toMatch(/^[0-9a-f]{64}$/);
    expect(pod.uid).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  }
});

test("a lab's namespaces belong to it, and never to a lab of another name", () => {
  fc.assert(
    fc.property(labName, labName, (mine, other) => {
      fc.pre(mine !== other);
      for (const namespace of namespacesOf(planTopology({ name: mine, nodes: 2, pods: 2, family: "v4" }))) {
        expect(isNamespaceOf(mine, namespace)).toBe(true);
        expect(isNamespaceOf(other, namespace)).toBe(false);
      }
    }),
  );
  expect(isNamespaceOf("lab", "flatnet-lab-2-node1")).toBe(false);
  expect(isNamespaceOf("lab", "flatnet-lab-node1-underlay")).toBe(false);
  expect(isNamespaceOf("lab", "flatnet-lab-node1-pod1x")).toBe(false);
});

test("the longest name's socket path fits into a unix socket address", () => {
  expect(nodePaths("x".repeat(MAX_NAME), `node${MAX_NODES}`).socket.length).toBeLessThanOrEqual(107);
});

test("ends are each node and then its pods, with the addresses that ADD gave", () => {
  const planned = planTopology({ name: "lab", nodes: 2, pods: 1, family: "v4" });
  const topology = withPodAddresses(planned, new Map([["node2-pod1", ["10.244.2.9"]]]));
  expect(endsOf(topology).map((end) => [end.name, end.kind, end.node, ...end.addresses])).toEqual([
    ["node1", "node", "node1", "172.18.0.11"],
    ["node1-pod1", "pod", "node1"],
    ["node2", "node", "node2", "172.18.0.12"],
    ["node2-pod1", "pod", "node2", "10.244.2.9"],
  ]);
});
