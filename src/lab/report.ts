// SPDX-License-Identifier: Apache-2.0
//
// The lab for programs: what `--json` prints. Fields are only ever added.
import { type Cell, isSampled } from "./cells.ts";
import { addressOf, type Topology } from "./topology.ts";
import type { Failure, Verdict } from "./verdict.ts";

/** Failures beyond this number are counted, not listed. */
const MAX_FAILURES_LISTED = 1000;

/** How long ADD took, in milliseconds from spawn to exit. */
export interface AddTimes {
  readonly count: number;
  readonly medianMs: number;
  readonly maxMs: number;
}

/** Median and maximum; undefined of nothing. */
export function summarize(ms: readonly number[]): AddTimes | undefined {
  if (ms.length === 0) return undefined;
  const sorted = [...ms].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] as number;
  const lower = sorted[Math.floor((sorted.length - 1) / 2)] as number;
  return { count: sorted.length, medianMs: (lower + upper) / 2, maxMs: sorted[sorted.length - 1] as number };
}

/** "ADD took 12.3 ms (median of 12), at most 15.0 ms". */
export function describeAdds(times: AddTimes): string {
  return `ADD took ${times.medianMs.toFixed(1)} ms (median of ${times.count}), at most ${times.maxMs.toFixed(1)} ms`;
}

/** A value for JSON.stringify. `addMs` has the milliseconds of each pod's ADD, and is empty when a kept lab is proven again. */
export function toReport(lab: {
  topology: Topology;
  addMs: ReadonlyMap<string, number>;
  cells: readonly Cell[];
  failures: readonly Failure[];
  late: number;
  unclean: readonly string[];
  kept: boolean;
  verdict: Verdict;
}): object {
  const { topology } = lab;
  return {
    version: 1,
    name: topology.name,
    family: topology.family,
    underlay: topology.underlay,
    nodes: topology.nodes.map((node) => ({
      name: node.name,
      namespace: node.namespace,
      addresses: node.addresses,
      podCIDRs: node.podCIDRs,
      pods: node.pods.map((pod) => ({
        name: pod.name,
        namespace: pod.namespace,
        containerId: pod.containerId,
        addresses: pod.addresses,
        ...(lab.addMs.has(pod.name) ? { addMs: round(lab.addMs.get(pod.name) as number) } : {}),
      })),
    })),
    add: addReport(summarize([...lab.addMs.values()])),
    proof: {
      cells: lab.cells.length,
      failed: lab.failures.length,
      late: lab.late,
      sampled: isSampled(topology),
      failures: lab.failures.slice(0, MAX_FAILURES_LISTED).map(({ cell, requirement, detail }) => ({
        requirement,
        from: cell.from.name,
        fromAddress: addressOf(cell.from, cell.family) ?? null,
        to: cell.to.name,
        toAddress: addressOf(cell.to, cell.family) ?? null,
        family: cell.family === 4 ? "IPv4" : "IPv6",
        protocol: cell.protocol,
        detail,
      })),
    },
    unclean: lab.unclean,
    kept: lab.kept,
    verdict: lab.verdict,
  };
}

function addReport(times: AddTimes | undefined): object | null {
  if (times === undefined) return null;
  return { count: times.count, medianMs: round(times.medianMs), maxMs: round(times.maxMs) };
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}
