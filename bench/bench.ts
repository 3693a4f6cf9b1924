// SPDX-License-Identifier: Apache-2.0
//
// What a case works with: a node of its own, the worker in it, and pods to be used again and again.
import type { Cleanup } from "../test/helpers/daemon.ts";
import { createNode, type FlatnetNode, type NodeOptions } from "../test/helpers/flatnet-node.ts";
import { createPod, type Pod } from "../test/helpers/plugin.ts";
import type { Measured, Operation } from "./operation.ts";
import type { Budget, Row } from "./samples.ts";
import { flatnetSide, referenceSide, type Side, type Wishes } from "./sides.ts";
import { Worker } from "./worker-client.ts";

export interface Case {
  readonly id: string;
  readonly title: string;
  run(bench: Bench): Promise<Row[]>;
}

/** What is measured of whole processes. */
const FIGURES = [
  ["wall", "ms", ({ wallMs }: Measured) => wallMs],
  ["CPU", "ms", ({ cpuMs }: Measured) => cpuMs],
] as const;

type Figure = (typeof FIGURES)[number][0];

export class Bench {
  /** How many pairs are measured, after the warm-up. */
  readonly runs: number;
  readonly cleanup: Cleanup;

  constructor(runs: number, cleanup: Cleanup) {
    this.runs = runs;
    this.cleanup = cleanup;
  }

  /** A node with the daemon, and both sides on it. */
  async node(families: readonly (4 | 6)[], options: Partial<NodeOptions> = {}): Promise<BenchNode> {
    const cidrs = { 4: "10.90.0.0/20", 6: "fd00:90::/64" };
    const reference = { 4: "10.91.0.0/20", 6: "fd00:91::/64" };
    const podCidrs = families.map((family) => cidrs[family]);
    const node = await createNode("bench", this.cleanup, { podCidrs, ...options });
    await node.start();
    const worker = await Worker.start(node.netns, this.cleanup);
    return {
      node,
      worker,
      ours: flatnetSide(node.socket, node.journalDir),
      peer: referenceSide(
        families.map((family) => reference[family]),
        node.directory,
      ),
    };
  }

  async pods(count: number): Promise<Pod[]> {
    const pods: Pod[] = [];
    for (let i = 0; i < count; i++) pods.push(await createPod("bench", this.cleanup));
    return pods;
  }

  /**
   * Measures ours and the peer's in turn: `once` gives one sample of a side.
   * @param warmUp pairs that don't count
   */
  async alternate<Sample>(
    sides: readonly [Side, Side],
    once: (side: Side) => Promise<Sample>,
    warmUp = 3,
  ): Promise<{ ours: Sample[]; peer: Sample[] }> {
    const samples: { ours: Sample[]; peer: Sample[] } = { ours: [], peer: [] };
    for (let i = -warmUp; i < this.runs; i++) {
      const [ours, peer] = [await once(sides[0]), await once(sides[1])];
      if (i < 0) continue;
      samples.ours.push(ours);
      samples.peer.push(peer);
    }
    return samples;
  }
}

export interface BenchNode {
  readonly node: FlatnetNode;
  readonly worker: Worker;
  readonly ours: Side;
  readonly peer: Side;
}

/** Wall clock and CPU time of a verb as rows. */
export function processRows(
  what: string,
  samples: { ours: readonly Measured[]; peer: readonly Measured[] },
  peerName: string,
  budgets: Partial<Record<Figure, Budget>> = {},
): Row[] {
  return FIGURES.map(([figure, unit, value]) => {
    const budget = budgets[figure];
    return {
      what: `${what}: ${figure}`,
      unit,
      ours: samples.ours.map(value),
      peer: samples.peer.map(value),
      peerName,
      ...(budget !== undefined && { budget }),
    };
  });
}

/** ADD, then whatever is measured, then DEL, of one pod; each measured. */
export async function liveOnce(
  worker: Worker,
  side: Side,
  pod: Pod,
  wishes: Wishes,
  verbs: readonly string[] = [],
): Promise<Record<string, Measured>> {
  const measured: Record<string, Measured> = {};
  const one = async (verb: string, operation: Operation) => (measured[verb] = await worker.one(operation));
  const added = await one("ADD", side.operation("ADD", pod, wishes));
  const result = JSON.parse(added.output) as object;
  for (const verb of verbs) await one(verb, side.operation(verb, pod, wishes, result));
  await one("DEL", side.operation("DEL", pod, wishes, result));
  return measured;
}
