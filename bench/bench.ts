// SPDX-License-Identifier: Apache-2.0
//
// What a case works with: a node of its own, the worker in it, and pods to be used again and again.
import { setTimeout } from "node:timers/promises";
import type { Cleanup } from "../test/helpers/daemon.ts";
import { createNode, type FlatnetNode, type NodeOptions } from "../test/helpers/flatnet-node.ts";
import { createPod, type Pod } from "../test/helpers/plugin.ts";
import type { Measured, Operation } from "./operation.ts";
import type { Pairs, Row } from "./samples.ts";
import { type Runner, Scales, type Weighed } from "./scales.ts";
import { flatnetSide, referenceSide, type Side, type Wishes } from "./sides.ts";
import { Worker } from "./worker-client.ts";

export interface Case {
  readonly id: string;
  readonly title: string;
  run(bench: Bench): Promise<Row[]>;
}

/** A pod on a side, and the worker that runs the side's plugins for it. */
export interface Place {
  readonly worker: Worker;
  readonly side: Side;
  readonly pod: Pod;
}

/** What the verbs of one pod's life cost, by verb. */
export type Life<Of extends Measured = Measured> = Readonly<Record<string, Of>>;

/** Of many lives: time is taken of some, and peak memory of others. */
export interface Lives {
  readonly timed: Pairs<Life>;
  readonly weighed: Pairs<Life<Weighed>>;
}

/**
 * Before each life, in ms: the kernel frees what a deletion left for 30 ms and more (RCU), and neither side shall pay for what the
 * other's DEL left. On a node there are seconds between them.
 */
export const SETTLE_MS = 60;

/** Peak memory hardly differs from one run to the next: this many fewer of them. */
const WEIGHED_SHARE = 5;

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

  /** How many pairs there are of what takes seconds: so many times fewer, but two at least. */
  rounds(share: number): number {
    return Math.max(2, Math.ceil(this.runs / share));
  }

  /**
   * Measures ours and the peer's in turn: `once` gives one sample of a side.
   * @param warmUp pairs that don't count
   */
  async alternate<Who, Sample>(
    sides: readonly [ours: Who, peer: Who],
    once: (who: Who) => Promise<Sample>,
    { warmUp = 3, rounds = this.runs } = {},
  ): Promise<Pairs<Sample>> {
    const samples: { ours: Sample[]; peer: Sample[] } = { ours: [], peer: [] };
    for (let i = -warmUp; i < rounds; i++) {
      const [ours, peer] = [await once(sides[0]), await once(sides[1])];
      if (i < 0) continue;
      samples.ours.push(ours);
      samples.peer.push(peer);
    }
    return samples;
  }

  /** Measures time and then peak memory of a life in both places in turn. */
  async lives(
    places: readonly [ours: Place, peer: Place],
    once: <Of extends Measured>(place: Place, runner: Runner<Of>) => Promise<Life<Of>>,
  ): Promise<Lives> {
    const timed = await this.alternate(places, async (place) => {
      await setTimeout(SETTLE_MS);
      return once(place, place.worker);
    });
    const scales = new Map(places.map((place) => [place, new Scales(place.worker, this.cleanup)]));
    const weigh = (place: Place) => once(place, scales.get(place) as Scales);
    const weighed = await this.alternate(places, weigh, { warmUp: 0, rounds: this.rounds(WEIGHED_SHARE) });
    return { timed, weighed };
  }
}

export interface BenchNode {
  readonly node: FlatnetNode;
  readonly worker: Worker;
  readonly ours: Side;
  readonly peer: Side;
}

/** Wall clock, CPU time and peak memory of a verb as rows. */
export function verbRows(what: string, verb: string, { timed, weighed }: Lives, peerName: string): Row[] {
  return [
    ...timeRows(what, { ours: ofVerb(timed.ours, verb), peer: ofVerb(timed.peer, verb) }, peerName),
    {
      what: `${what}: peak memory`,
      unit: "MB",
      ours: ofVerb(weighed.ours, verb).map(({ peakMB }) => peakMB),
      peer: ofVerb(weighed.peer, verb).map(({ peakMB }) => peakMB),
      peerName,
    },
  ];
}

function ofVerb<Of extends Measured>(lives: readonly Life<Of>[], verb: string): Of[] {
  return lives.map((life) => life[verb] as Of);
}

/** Wall clock and CPU time of operations as rows. */
export function timeRows(what: string, { ours, peer }: Pairs<Measured>, peerName: string): Row[] {
  const row = (figure: string, value: (measured: Measured) => number): Row => ({
    ...{ what: `${what}: ${figure}`, unit: "ms", ours: ours.map(value), peer: peer.map(value), peerName },
  });
  return [row("wall", ({ wallMs }) => wallMs), row("CPU", (measured) => measured.cpuMs)];
}

/** ADD, then whatever is measured, then DEL, of one pod; each measured. */
export async function liveOnce<Of extends Measured>(
  runner: Runner<Of>,
  { side, pod }: Pick<Place, "side" | "pod">,
  wishes: Wishes = {},
  verbs: readonly string[] = [],
): Promise<Life<Of>> {
  const measured: Record<string, Of> = {};
  const one = async (verb: string, operation: Operation) => (measured[verb] = await runner.one(operation));
  const added = await one("ADD", side.operation("ADD", pod, wishes));
  const result = JSON.parse(added.output) as object;
  for (const verb of verbs) await one(verb, side.operation(verb, pod, wishes, result));
  await one("DEL", side.operation("DEL", pod, wishes, result));
  return measured;
}
