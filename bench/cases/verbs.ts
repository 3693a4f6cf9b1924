// SPDX-License-Identifier: Apache-2.0
//
// Each verb, one at a time, as whole processes.

import { type Bench, type Case, liveOnce, processRows } from "../bench.ts";
import type { Measured } from "../operation.ts";
import type { Row } from "../samples.ts";
import type { Side, Wishes } from "../sides.ts";

type Lives = { ours: Record<string, Measured>[]; peer: Record<string, Measured>[] };

async function lives(bench: Bench, families: readonly (4 | 6)[], wishes: Wishes, verbs: readonly string[]) {
  const { worker, ours, peer } = await bench.node(families);
  const [own, other] = await bench.pods(2);
  const podOf = (side: Side) => (side === ours ? own : other) as NonNullable<typeof own>;
  return bench.alternate([ours, peer], (side) => liveOnce(worker, side, podOf(side), wishes, verbs));
}

function ofVerb(samples: Lives, verb: string) {
  const pick = (all: readonly Record<string, Measured>[]) => all.map((life) => life[verb] as Measured);
  return { ours: pick(samples.ours), peer: pick(samples.peer) };
}

/** What runtimes ask every few seconds on every node. */
const CHEAP = { CPU: { oursAtMost: 8 } } as const;

export const verbCases: readonly Case[] = [
  {
    id: "add",
    title: "ADD, CHECK and DEL of an IPv4 pod, one at a time",
    async run(bench): Promise<Row[]> {
      const samples = await lives(bench, [4], {}, ["CHECK"]);
      const peer = "ptp + host-local";
      return [
        ...processRows("ADD", ofVerb(samples, "ADD"), peer, { wall: { atMost: 0.7 }, CPU: { atMost: 0.7 } }),
        ...processRows("CHECK", ofVerb(samples, "CHECK"), peer),
        ...processRows("DEL", ofVerb(samples, "DEL"), peer, { wall: { atMost: 1 } }),
      ];
    },
  },
  {
    id: "add-dual",
    title: "ADD and DEL of a dual-stack pod, one at a time",
    async run(bench): Promise<Row[]> {
      const samples = await lives(bench, [4, 6], {}, []);
      const peer = "ptp + host-local";
      return ["ADD", "DEL"].flatMap((verb) => processRows(`${verb}, dual-stack`, ofVerb(samples, verb), peer));
    },
  },
  {
    id: "add-full",
    title: "ADD and DEL with a hostPort and a bandwidth limit, one at a time",
    async run(bench): Promise<Row[]> {
      const samples = await lives(bench, [4], { portAndLimit: { hostPort: 8080 } }, []);
      const peer = "ptp + host-local + portmap + bandwidth";
      return [
        ...processRows("ADD, hostPort + limit", ofVerb(samples, "ADD"), peer, { wall: { atMost: 0.35 } }),
        ...processRows("DEL, hostPort + limit", ofVerb(samples, "DEL"), peer),
      ];
    },
  },
  {
    id: "status",
    title: "STATUS and VERSION",
    async run(bench): Promise<Row[]> {
      const { worker, ours, peer } = await bench.node([4]);
      const [pod] = await bench.pods(1);
      // Debian's plugins are of before STATUS: their VERSION, which asks nobody, stands for it.
      const samples = await bench.alternate([ours, peer], async (side) => ({
        VERSION: await worker.one(side.operation("VERSION", pod as NonNullable<typeof pod>)),
        STATUS: await worker.one(side.operation(side === ours ? "STATUS" : "VERSION", pod as NonNullable<typeof pod>)),
      }));
      return [
        ...processRows("VERSION", ofVerb(samples, "VERSION"), "ptp VERSION", CHEAP),
        ...processRows("STATUS", ofVerb(samples, "STATUS"), "ptp VERSION", CHEAP),
      ];
    },
  },
];
