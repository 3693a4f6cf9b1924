// SPDX-License-Identifier: Apache-2.0
//
// One pod among many: what grows with the pods that are there already.
import { type Bench, type BenchNode, type Case, liveOnce, type Place, verbRows } from "../bench.ts";
import type { Row } from "../samples.ts";

const PODS = 250;
/** How many come at once, in the setting up. */
const IN_FLIGHT = 8;
const VERBS = ["ADD", "CHECK", "DEL"];

/** A node of one side alone, so that the other's pods are none of its crowd, with so many pods that stay. */
async function openPlace(bench: Bench, which: keyof Pick<BenchNode, "ours" | "peer">, crowd: number): Promise<Place> {
  const node = await bench.node([4]);
  const [{ worker }, side] = [node, node[which]];
  const [pod, ...others] = (await bench.pods(1 + crowd)) as [Place["pod"], ...Place["pod"][]];
  const operations = others.map((other) => side.operation("ADD", other));
  if (crowd > 0) await worker.run({ operations, inFlight: IN_FLIGHT });
  return { worker, side, pod };
}

export const crowdCases: readonly Case[] = [
  {
    id: "add-250",
    title: `ADD, CHECK and DEL of a pod while ${PODS} others exist`,
    async run(bench): Promise<Row[]> {
      const [ours, peer] = [await openPlace(bench, "ours", PODS), await openPlace(bench, "peer", PODS)];
      const alone = await openPlace(bench, "ours", 0);
      const [beside, besideNone] = [
        await bench.lives([ours, peer], (place, runner) => liveOnce(runner, place, {}, ["CHECK"])),
        await bench.lives([ours, alone], (place, runner) => liveOnce(runner, place, {}, ["CHECK"])),
      ];
      return [
        ...VERBS.flatMap((verb) => verbRows(`${verb} among ${PODS} pods`, verb, beside, peer.side.name)),
        ...VERBS.flatMap((verb) => verbRows(`${verb} among ${PODS} pods, and none`, verb, besideNone, "ours alone")),
      ];
    },
  },
];
