// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parse } from "yaml";
import { bgpConfig } from "./bgp.ts";
import { daemonArgs, isServing, peersFile } from "./daemon.ts";
import { type LabNode, planTopology } from "./topology.ts";

const topology = planTopology({ name: "lab", nodes: 2, pods: 1, family: "dual" });

test("the peers file has every node with its addresses and pod subnets, and nothing else", () => {
  expect(parse(peersFile(topology))).toEqual({
    nodes: [
      { name: "node1", addresses: ["172.18.0.11", "fd00:18::11"], podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"] },
      { name: "node2", addresses: ["172.18.0.12", "fd00:18::12"], podCIDRs: ["10.244.2.0/24", "fd00:10:244:2::/64"] },
    ],
  });
});

test("a daemon gets its node's subnets and files of its own", () => {
  expect(daemonArgs(topology, topology.nodes[1] as LabNode).join(" ")).toBe(
    "--node-name node2 --pod-cidr 10.244.2.0/24 --pod-cidr fd00:10:244:2::/64" +
      " --state-dir /run/flatnet-lab/lab/node2/state --socket /run/flatnet-lab/lab/node2/flatnetd.sock" +
      " --peers /run/flatnet-lab/lab/node2/peers.yaml --log-level info",
  );
});

test("a daemon of a lab with BGP gets a configuration with the router as its peer", () => {
  const planned = planTopology({ name: "lab", nodes: 2, pods: 1, family: "dual", underlay: "bgp" });
  const node = planned.nodes[1] as LabNode;
  expect(daemonArgs(planned, node).join(" ")).toContain("--config /run/flatnet-lab/lab/node2/flatnetd.yaml");
  expect(parse(bgpConfig(planned, node))).toEqual({
    routes: {
      mode: "bgp",
      bgp: {
        asn: 64_512,
        peers: [
          { address: "172.18.2.1", asn: 64_513 },
          { address: "fd00:18:2::1", asn: 64_513 },
        ],
      },
    },
  });
});

test.each([
  ['{"level":30,"msg":"starting"}\n{"level":30,"msg":"serving"}\n', true],
  ['{"level":30,"msg":"serving","socket":"/run/x"}', true],
  ['{"level":30,"msg":"serving"', false],
  ['{"level":30,"msg":"not yet \\"serving\\""}\n', false],
  ['warning: "serving"\nnull\n', false],
  ["", false],
])("whether a daemon serves is read from its log: %j is %j", (log, serving) => {
  expect(isServing(log)).toBe(serving);
});
