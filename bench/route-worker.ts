// SPDX-License-Identifier: Apache-2.0
//
// Run inside a network namespace with a link to all nodes: measures the reconciler, ip -batch and the bare kernel in turn, and
// prints the samples as JSON. Ours is measured from the text of a peers file to the last answer of the kernel.
import { execFileSync } from "node:child_process";
import { ROUTE_PROTOCOL } from "../src/net/names.ts";
import { BlockingNetlink } from "../src/netlink/blocking.ts";
import { addRoute, deleteRoute, type Route, replaceRoute } from "../src/netlink/route.ts";
import { NetlinkRoutes } from "../src/routes/kernel.ts";
import { PeersParser } from "../src/routes/peers.ts";
import { RoutePlan } from "../src/routes/plan.ts";
import { Reconciler } from "../src/routes/reconciler.ts";
import type { Node } from "../src/routes/source.ts";
import { sys } from "../src/sys/node.ts";
import { batchOf, clusterOf, entryOf, NODES, type PeerEntry } from "./route-cluster.ts";

export const FIGURES = [
  "first sync",
  "nothing new",
  "one change",
  "one change of a known set",
  "rolling",
  "flap",
  "storm",
] as const;
export type Samples = Record<(typeof FIGURES)[number], { ours: number[]; ip: number[]; floor: number[] }>;

const SELF = { name: "self", podCIDRs: [] };
/** A replacement of every node goes in so many steps. */
const ROLLING_STEPS = 50;
/** Changes of one node, each measured by itself. */
const CHANGES = 10;
/** Flaps of a storm, each of which takes all routes away. */
const FLAPS = 5;
const BATCH = 128;

const runs = Number(process.argv[2]);
const samples = Object.fromEntries(
  FIGURES.map((name) => [name, { ours: [], ip: [], floor: [] }]),
) as unknown as Samples;
const bare = BlockingNetlink.open(sys, { strict: true, receiveBuffer: 1 << 20 });
const kernel = new NetlinkRoutes(sys);

const textOf = (entries: readonly PeerEntry[]) => JSON.stringify({ nodes: entries });
const routesOf = (entries: readonly PeerEntry[]): Route[] => {
  const plan = new RoutePlan(SELF);
  plan.update(new PeersParser().parse(textOf(entries)));
  return [...plan.wanted.values()].map(({ route }) => route);
};

async function timed(into: number[] | undefined, work: () => unknown): Promise<void> {
  const started = performance.now();
  await work();
  into?.push(performance.now() - started);
}

function ip(batch: string): void {
  execFileSync("ip", ["-batch", "-"], { input: batch });
}

/** What the kernel itself takes: requests that are made already, in batches with one answer each. */
function send(routes: readonly Route[], toRequest: typeof addRoute): () => void {
  const requests = routes.map(toRequest);
  return () => {
    for (let at = 0; at < requests.length; at += BATCH) {
      for (const error of bare.change(requests.slice(at, at + BATCH))) if (error !== undefined) throw error;
    }
  };
}

function flush(protocol: number): void {
  for (const family of ["-4", "-6"]) {
    try {
      execFileSync("ip", [family, "route", "flush", "proto", `${protocol}`], { stdio: "ignore" });
    } catch {
      // There were none.
    }
  }
}

function flap(): void {
  for (const state of ["down", "up"]) execFileSync("ip", ["link", "set", "eth0", state]);
}

/** One flap behind the other; the kernel's own part of them isn't counted. */
async function storm(into: number[] | undefined, work: () => unknown): Promise<void> {
  const each: number[] = [];
  for (let i = 0; i < FLAPS; i++) {
    flap();
    await timed(each, work);
  }
  into?.push(each.reduce((sum, ms) => sum + ms, 0));
}

for (let run = -1; run < runs; run++) {
  const at = (name: keyof Samples, who: "ours" | "ip" | "floor") => (run < 0 ? undefined : samples[name][who]);
  const [cluster, moved] = [clusterOf(), clusterOf(1)];

  const parser = new PeersParser();
  const reconciler = new Reconciler(kernel, { self: SELF, podMtu: 0 });
  const follow = async (text: string) => {
    await reconciler.pass(parser.parse(text));
    const broken = reconciler.broken();
    if (broken.length > 0) throw new Error(`${broken.length} routes are not in order: ${broken[0]?.why}`);
  };
  const all = textOf(cluster);
  await timed(at("first sync", "ours"), () => follow(all));
  for (let n = 1; n <= CHANGES; n++) {
    const changed = textOf(cluster.with(n, entryOf(n + 1, 1)));
    await timed(at("one change", "ours"), () => follow(changed));
  }
  await follow(all);
  const known = parser.parse(all);
  for (let n = 1; n <= CHANGES; n++) {
    const next = known.with(n, new PeersParser().parse(textOf([entryOf(n + 1, 1)]))[0] as Node);
    await timed(at("one change of a known set", "ours"), () => reconciler.pass(next));
  }
  await timed(at("nothing new", "ours"), () => {
    reconciler.lookAgain();
    return reconciler.pass(known);
  });
  await timed(at("rolling", "ours"), async () => {
    for (let step = 1; step <= ROLLING_STEPS; step++) {
      const done = (NODES * step) / ROLLING_STEPS;
      await follow(textOf([...moved.slice(0, done), ...cluster.slice(done)]));
    }
  });
  flap();
  await timed(at("flap", "ours"), async () => {
    reconciler.lookAgain();
    await follow(textOf(moved));
  });
  await storm(at("storm", "ours"), async () => {
    reconciler.lookAgain();
    await follow(textOf(moved));
  });
  flush(ROUTE_PROTOCOL);

  await timed(at("first sync", "ip"), () => ip(batchOf(cluster, "add")));
  for (const name of ["one change", "one change of a known set"] as const) {
    await timed(at(name, "ip"), () => ip(batchOf([entryOf(1, 1)], "replace")));
  }
  await timed(at("nothing new", "ip"), () => {
    for (const family of ["-4", "-6"])
      execFileSync("ip", [family, "route", "show", "proto", "71"], { maxBuffer: 1 << 26 });
  });
  await timed(at("rolling", "ip"), () => ip(batchOf(moved, "replace")));
  flap();
  await timed(at("flap", "ip"), () => ip(batchOf(moved, "replace")));
  await storm(at("storm", "ip"), () => ip(batchOf(moved, "replace")));
  flush(71);

  const [old, fresh] = [routesOf(cluster), routesOf(moved)];
  await timed(at("first sync", "floor"), send(old, addRoute));
  const two = fresh.slice(0, 2);
  for (const name of ["one change", "one change of a known set"] as const) {
    await timed(at(name, "floor"), send(two, replaceRoute));
  }
  await timed(at("nothing new", "floor"), () => kernel.routes());
  await timed(at("rolling", "floor"), send(fresh, replaceRoute));
  flap();
  await timed(at("flap", "floor"), send(fresh, replaceRoute));
  await storm(at("storm", "floor"), send(fresh, replaceRoute));
  send(fresh, deleteRoute)();
}
process.stdout.write(JSON.stringify(samples));
