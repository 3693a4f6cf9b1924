// SPDX-License-Identifier: Apache-2.0
//
// Many pods at once: what a node does when it starts or is drained.
import type { Pod } from "../../test/helpers/plugin.ts";
import { type Bench, type BenchNode, type Case, timeRows } from "../bench.ts";
import type { BatchResult } from "../operation.ts";
import { cpuMs } from "../process.ts";
import type { Pairs, Row } from "../samples.ts";
import type { Side } from "../sides.ts";

const PODS = 200;
/** A drained node's: kubelet's default is as many (maxPods of its configuration). */
const DRAINED = 110;
/**
 * Kubelet has a worker for each pod and a runtime takes every sandbox at once, but the network is a small part of a sandbox's
 * start: of many that start, so many are at this point.
 */
const USUAL = 8;
/** Rounds are long: this many fewer of them. */
const SHARE = 5;
const DRAIN_SHARE = 2;

/** A batch of one verb, and what the daemon needed for it. */
interface Half extends BatchResult {
  /** Of all plugins and the daemon, whose time is 0 with a side that has none. */
  readonly cpuMs: number;
}

interface UpAndDown {
  readonly add: Half;
  readonly del: Half;
}

/** Adds all pods and deletes them again, so many at once. */
async function upAndDown(node: BenchNode, side: Side, pods: readonly Pod[], up: number, down = up): Promise<UpAndDown> {
  const half = async (verb: string, inFlight: number, results: readonly object[] = []): Promise<Half> => {
    const operations = pods.map((pod, i) => side.operation(verb, pod, {}, results[i]));
    const before = cpuMs(node.node.daemon.pid);
    const batch = await node.worker.run({ operations, inFlight });
    const daemon = side === node.ours ? cpuMs(node.node.daemon.pid) - before : 0;
    return { ...batch, cpuMs: daemon + batch.measured.reduce((sum, one) => sum + one.cpuMs, 0) };
  };
  const add = await half("ADD", up);
  const results = add.measured.map(({ output }) => JSON.parse(output) as object);
  return { add, del: await half("DEL", down, results) };
}

async function alternate<Sample>(
  bench: Bench,
  node: BenchNode,
  share: number,
  once: (side: Side) => Promise<Sample>,
): Promise<Pairs<Sample>> {
  return bench.alternate([node.ours, node.peer], once, { warmUp: 1, rounds: bench.rounds(share) });
}

function mapPairs<From, To>({ ours, peer }: Pairs<From>, change: (sample: From) => To): Pairs<To> {
  return { ours: ours.map(change), peer: peer.map(change) };
}

function burst(inFlight: number): Case {
  return {
    id: `burst-${inFlight}`,
    title: `${PODS} ADDs and then ${PODS} DELs with ${inFlight} in flight`,
    async run(bench): Promise<Row[]> {
      const node = await bench.node([4]);
      const pods = await bench.pods(PODS);
      const samples = await alternate(bench, node, SHARE, (side) => upAndDown(node, side, pods, inFlight));
      const peerName = node.peer.name;
      return (["add", "del"] as const).flatMap((verb): Row[] => {
        const what = `${verb.toUpperCase()}, ${inFlight} in flight`;
        const halves = mapPairs(samples, (sample) => sample[verb]);
        const rates = mapPairs(halves, ({ wallMs }) => (PODS * 1000) / wallMs);
        const ofEach = {
          ours: halves.ours.flatMap(({ measured }) => measured),
          peer: halves.peer.flatMap(({ measured }) => measured),
        };
        return [
          { what: `${what}: rate`, unit: "/s", ...rates, peerName },
          ...timeRows(`each ${what}`, ofEach, peerName),
        ];
      });
    },
  };
}

/** All of it, as a node feels it: the daemon's time is in it, and beginning and end of the crowd. */
const upAndDownCase: Case = {
  id: "pods-200",
  title: `${PODS} pods up and then down, ${USUAL} at once`,
  async run(bench): Promise<Row[]> {
    const node = await bench.node([4]);
    const pods = await bench.pods(PODS);
    const samples = await alternate(bench, node, SHARE, (side) => upAndDown(node, side, pods, USUAL));
    const parts = {
      up: mapPairs(samples, ({ add }) => add),
      down: mapPairs(samples, ({ del }) => del),
      "up and down": mapPairs(samples, ({ add, del }) => ({
        ...add,
        wallMs: add.wallMs + del.wallMs,
        cpuMs: add.cpuMs + del.cpuMs,
      })),
    };
    const row = (what: string, halves: Pairs<Half>, value: (half: Half) => number): Row => ({
      ...{ what, unit: "ms", ...mapPairs(halves, value), peerName: node.peer.name },
    });
    return Object.entries(parts).flatMap(([part, halves]) => [
      row(`${PODS} pods ${part}: wall`, halves, ({ wallMs }) => wallMs),
      row(`${PODS} pods ${part}: CPU of plugins and daemon`, halves, (half) => half.cpuMs),
    ]);
  },
};

/** DELs that share what a veth's end costs, beside one that has it for itself, and beside the starts of as many processes alone. */
const drainCase: Case = {
  id: `drain-${DRAINED}`,
  title: `${DRAINED} DELs at once, as when a node is drained`,
  async run(bench): Promise<Row[]> {
    const node = await bench.node([4]);
    const pods = await bench.pods(DRAINED);
    const [single] = pods as [Pod];
    const once = async (side: Side) => ({
      drained: (await upAndDown(node, side, pods, USUAL, DRAINED)).del,
      one: (await upAndDown(node, side, [single], 1)).del,
      starts: await node.worker.run({
        operations: pods.map((pod) => side.operation("VERSION", pod)),
        inFlight: DRAINED,
      }),
    });
    const samples = await alternate(bench, node, DRAIN_SHARE, once);
    const drained = mapPairs(samples, (sample) => sample.drained);
    const one = mapPairs(samples, (sample) => sample.one);
    const starts = mapPairs(samples, (sample) => sample.starts);
    const wall = ({ wallMs }: BatchResult) => wallMs;
    const peerName = node.peer.name;
    const what = `${DRAINED} DELs at once`;
    const ofEach = {
      ours: drained.ours.flatMap(({ measured }) => measured),
      peer: drained.peer.flatMap(({ measured }) => measured),
    };
    return [
      { what: `${what}: wall`, unit: "ms", ...mapPairs(drained, wall), peerName },
      { what: `${what}: CPU of plugins and daemon`, unit: "ms", ...mapPairs(drained, (half) => half.cpuMs), peerName },
      ...timeRows(`each of ${what}`, ofEach, peerName),
      {
        ...{ what: `${what}, and one DEL: wall`, unit: "ms", peerName: "one DEL of ours" },
        ...{ ours: drained.ours.map(wall), peer: one.ours.map(wall) },
      },
      {
        ...{ what: `${what}, and ${DRAINED} VERSIONs: wall`, unit: "ms", peerName: `${DRAINED} VERSIONs of ours` },
        ...{ ours: drained.ours.map(wall), peer: starts.ours.map(wall) },
      },
    ];
  },
};

export const burstCases: readonly Case[] = [burst(1), burst(8), burst(32), upAndDownCase, drainCase];
