// SPDX-License-Identifier: Apache-2.0
//
// Many pods at once: what a node does when it starts or is drained.
import type { Pod } from "../../test/helpers/plugin.ts";
import type { Bench, BenchNode, Case } from "../bench.ts";
import type { Row } from "../samples.ts";
import type { Side } from "../sides.ts";

const PODS = 200;

/** Adds all pods and deletes them again; operations a second of each half. */
async function upAndDown({ worker }: BenchNode, side: Side, pods: readonly Pod[], inFlight: number) {
  const added = await worker.run({ operations: pods.map((pod) => side.operation("ADD", pod)), inFlight });
  const results = added.measured.map(({ output }) => JSON.parse(output) as object);
  const operations = pods.map((pod, i) => side.operation("DEL", pod, {}, results[i]));
  const deleted = await worker.run({ operations, inFlight });
  const rate = (wallMs: number) => (pods.length * 1000) / wallMs;
  return { add: rate(added.wallMs), del: rate(deleted.wallMs) };
}

/** A run of a burst is long: this many fewer of them. */
const SHARE = 10;

function burst(inFlight: number, budget: { add?: number; del?: number }): Case {
  return {
    id: `burst-${inFlight}`,
    title: `${PODS} ADDs and then ${PODS} DELs with ${inFlight} in flight`,
    async run(bench: Bench): Promise<Row[]> {
      const node = await bench.node([4]);
      const pods = await bench.pods(PODS);
      const runs = Math.max(2, Math.ceil(bench.runs / SHARE));
      const samples: { ours: { add: number; del: number }[]; peer: { add: number; del: number }[] } = {
        ours: [],
        peer: [],
      };
      for (let i = -1; i < runs; i++) {
        const ours = await upAndDown(node, node.ours, pods, inFlight);
        const peer = await upAndDown(node, node.peer, pods, inFlight);
        if (i < 0) continue;
        samples.ours.push(ours);
        samples.peer.push(peer);
      }
      return (["add", "del"] as const).map((verb) => {
        const atLeast = budget[verb];
        return {
          what: `${verb.toUpperCase()}, ${inFlight} in flight: rate`,
          unit: "/s",
          ours: samples.ours.map((sample) => sample[verb]),
          peer: samples.peer.map((sample) => sample[verb]),
          peerName: node.peer.name,
          ...(atLeast !== undefined && { budget: { atLeast } }),
        };
      });
    },
  };
}

export const burstCases: readonly Case[] = [burst(1, {}), burst(8, { add: 1.3, del: 1.3 }), burst(32, { del: 5 })];
