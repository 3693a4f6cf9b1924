// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { planCells } from "./cells.ts";
import { describeAdds, summarize, toReport } from "./report.ts";
import { planTopology, withPodAddresses } from "./topology.ts";
import { judge, judgeCell } from "./verdict.ts";

test("the median of an even number of times is the mean of the two in the middle", () => {
  expect(summarize([4, 1, 3, 2])).toEqual({ count: 4, medianMs: 2.5, maxMs: 4 });
  expect(summarize([7])).toEqual({ count: 1, medianMs: 7, maxMs: 7 });
  expect(summarize([])).toBeUndefined();
});

test("as many times are below the median as above it", () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 1e4, noNaN: true }), { minLength: 1 }), (ms) => {
      const { medianMs, maxMs } = summarize(ms) as { medianMs: number; maxMs: number };
      expect(ms.filter((one) => one < medianMs).length).toBeLessThanOrEqual(ms.length / 2);
      expect(ms.filter((one) => one > medianMs).length).toBeLessThanOrEqual(ms.length / 2);
      expect(Math.max(...ms)).toBe(maxMs);
    }),
  );
});

test("the line about ADD says median, number and maximum", () => {
  expect(describeAdds({ count: 12, medianMs: 12.34, maxMs: 15 })).toBe(
    "ADD took 12.3 ms (median of 12), at most 15.0 ms",
  );
});

test("the report has topology, times, failures and verdict", () => {
  const topology = withPodAddresses(
    planTopology({ name: "lab", nodes: 1, pods: 1, family: "v4" }),
    new Map([["node1-pod1", ["10.244.1.2"]]]),
  );
  const cells = planCells(topology);
  const failures = cells.slice(0, 1).flatMap((cell) => judgeCell(cell, { kind: "failed", error: "refused" }) ?? []);
  const verdict = judge({ nodes: 1, pods: 1, sampled: false, cells, failures }, []);
  const addMs = new Map([["node1-pod1", 12.3456]]);
  expect(toReport({ topology, addMs, cells, failures, late: 2, unclean: [], kept: false, verdict })).toEqual({
    version: 1,
    name: "lab",
    family: "v4",
    underlay: {
      kind: "l2",
      namespace: "flatnet-lab-underlay",
      subnets: ["172.18.0.0/24"],
      links: [{ name: "br0", subnets: ["172.18.0.0/24"], router: [] }],
    },
    nodes: [
      {
        name: "node1",
        namespace: "flatnet-lab-node1",
        addresses: ["172.18.0.11"],
        podCIDRs: ["10.244.1.0/24"],
        pods: [
          {
            name: "node1-pod1",
            namespace: "flatnet-lab-node1-pod1",
            containerId: topology.nodes[0]?.pods[0]?.containerId,
            addresses: ["10.244.1.2"],
            addMs: 12.35,
          },
        ],
      },
    ],
    add: { count: 1, medianMs: 12.35, maxMs: 12.35 },
    proof: {
      cells: 4,
      failed: 1,
      late: 2,
      sampled: false,
      failures: [
        {
          requirement: "pods reach nodes",
          from: "node1-pod1",
          fromAddress: "10.244.1.2",
          to: "node1",
          toAddress: "172.18.0.11",
          family: "IPv4",
          protocol: "tcp",
          detail: "refused",
        },
      ],
    },
    unclean: [],
    kept: false,
    verdict,
  });
});
