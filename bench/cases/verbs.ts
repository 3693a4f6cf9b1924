// SPDX-License-Identifier: Apache-2.0
//
// Each verb, one at a time, as whole processes.

import { type Bench, type Case, type Life, type Lives, liveOnce, type Place, verbRows } from "../bench.ts";
import type { Measured } from "../operation.ts";
import type { Row } from "../samples.ts";
import type { Runner } from "../scales.ts";
import type { Wishes } from "../sides.ts";

type Places = readonly [ours: Place, peer: Place];

/** Both sides on one node, each with a pod. */
async function placesOf(bench: Bench, families: readonly (4 | 6)[]): Promise<Places> {
  const { worker, ours, peer } = await bench.node(families);
  const [own, other] = (await bench.pods(2)) as [Place["pod"], Place["pod"]];
  return [
    { worker, side: ours, pod: own },
    { worker, side: peer, pod: other },
  ];
}

async function livesOf(
  bench: Bench,
  families: readonly (4 | 6)[],
  wishes: Wishes,
  verbs: readonly string[],
): Promise<Lives> {
  const places = await placesOf(bench, families);
  return bench.lives(places, (place, runner) => liveOnce(runner, place, wishes, verbs));
}

export const verbCases: readonly Case[] = [
  {
    id: "status",
    title: "STATUS and VERSION",
    async run(bench): Promise<Row[]> {
      const places = await placesOf(bench, [4]);
      const [{ side: ours }] = places;
      // Debian's plugins are of before STATUS: their VERSION, which asks nobody, stands for it.
      const once = async <Of extends Measured>({ side, pod }: Place, runner: Runner<Of>): Promise<Life<Of>> => ({
        VERSION: await runner.one(side.operation("VERSION", pod)),
        STATUS: await runner.one(side.operation(side === ours ? "STATUS" : "VERSION", pod)),
      });
      const lives = await bench.lives(places, once);
      return ["VERSION", "STATUS"].flatMap((verb) => verbRows(verb, verb, lives, "ptp VERSION"));
    },
  },
  {
    id: "add",
    title: "ADD, CHECK and DEL of an IPv4 pod, one at a time",
    async run(bench): Promise<Row[]> {
      const lives = await livesOf(bench, [4], {}, ["CHECK"]);
      return ["ADD", "CHECK", "DEL"].flatMap((verb) => verbRows(verb, verb, lives, "ptp + host-local"));
    },
  },
  {
    id: "add-dual",
    title: "ADD, CHECK and DEL of a dual-stack pod, one at a time",
    async run(bench): Promise<Row[]> {
      const lives = await livesOf(bench, [4, 6], {}, ["CHECK"]);
      const rows = (verb: string) => verbRows(`${verb}, dual-stack`, verb, lives, "ptp + host-local");
      return ["ADD", "CHECK", "DEL"].flatMap(rows);
    },
  },
  {
    id: "add-full",
    title: "ADD and DEL with a hostPort and a bandwidth limit, one at a time",
    async run(bench): Promise<Row[]> {
      // Without CHECK: that of Debian's portmap looks for a chain of IPv6 that its ADD of an IPv4 pod doesn't make.
      const lives = await livesOf(bench, [4], { portAndLimit: { hostPort: 8080 } }, []);
      const peer = "ptp + host-local + portmap + bandwidth";
      const rows = (verb: string) => verbRows(`${verb}, hostPort + limit`, verb, lives, peer);
      return ["ADD", "DEL"].flatMap(rows);
    },
  },
];
