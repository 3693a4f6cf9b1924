// SPDX-License-Identifier: Apache-2.0
//
// Routes to 5,000 dual-stack nodes: ten thousand of them, beside `ip -batch` doing the same and the kernel by itself.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { hostArch, runtimes } from "../../scripts/pack/runtimes.ts";
import { run, startDaemon, waitFor } from "../../test/helpers/daemon.ts";
import { createNode } from "../../test/helpers/flatnet-node.ts";
import { createNetns, inNetns, joinByCable, type Netns } from "../../test/helpers/netns.ts";
import type { Bench, Case } from "../bench.ts";
import { residentMB } from "../process.ts";
import { ADDRESSES, clusterOf } from "../route-cluster.ts";
import type { Samples } from "../route-worker.ts";
import { type Row, summarize } from "../samples.ts";

/** A round takes seconds: so many fewer of them. */
const SHARE = 6;
const IP = "ip -batch";
const FLOOR = "the kernel alone";

const WORDS: Record<keyof Samples, string> = {
  "first sync": "first sync of 10,000 routes",
  "nothing new": "a look at all of them that finds nothing to do",
  "one change": "one node of 5,000 changes, by its peers file",
  "one change of a known set": "one node of 5,000 changes, by a source that knows which",
  rolling: "all nodes move, in 50 steps",
  flap: "all routes again after the uplink was down",
  storm: "all routes again after each of 5 flaps in a row",
};

export async function uplink(bench: Bench, netns: Netns): Promise<void> {
  const fabric = await createNetns("fabric", bench.cleanup);
  await run(inNetns(netns.path, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/keep_addr_on_down"));
  await joinByCable({ netns, ifname: "eth0", addresses: ADDRESSES }, { netns: fabric, ifname: "eth0", addresses: [] });
}

/** How long after a storm the heap has been collected, and the interval of the daemon's looks at all routes, in milliseconds. */
const REST_MS = 20_000;
const LOOKS_MS = 30_000;

export const routeCases: readonly Case[] = [
  {
    id: "routes",
    title: "Routes to 5,000 dual-stack nodes",
    async run(bench): Promise<Row[]> {
      const netns = await createNetns("bench", bench.cleanup);
      await uplink(bench, netns);
      const script = new URL("../route-worker.ts", import.meta.url).pathname;
      const runs = `${bench.rounds(SHARE)}`;
      const argv = netns.command((await runtimes(hostArch())).node, script, runs);
      const samples = JSON.parse(await run(argv, { timeoutMs: 600_000 })) as Samples;
      return Object.entries(samples).flatMap(([name, { ours, ip, floor }]): Row[] => {
        const what = WORDS[name as keyof Samples];
        const row = { what: `${what}, and ${IP}`, unit: "ms" as const, ours, peer: ip, peerName: IP };
        return [row, { ...row, what: `${what}, and ${FLOOR}`, peer: floor, peerName: FLOOR }];
      });
    },
  },
  {
    id: "routes-memory",
    title: "The daemon's memory with 5,000 dual-stack nodes",
    async run(bench): Promise<Row[]> {
      const directory = mkdtempSync(join(tmpdir(), "flatnet-bench-"));
      bench.cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
      const node = await createNode("bench", bench.cleanup, {
        podCidrs: ["10.250.0.0/24", "fd00:250::/64"],
        peers: JSON.stringify({ nodes: clusterOf() }),
      });
      await uplink(bench, node.netns);
      const script = new URL("../empty-server.ts", import.meta.url).pathname;
      const empty = [(await runtimes(hostArch())).node, script];
      const samples: { ours: number[]; peer: number[] } = { ours: [], peer: [] };
      const storms: number[] = [];
      for (let round = 0; round < bench.rounds(SHARE); round++) {
        const daemon = await node.start();
        // Every node moves once, and back: what is left over from that counts too.
        for (const generation of [1, 0]) {
          const from = node.log().length;
          writeFileSync(node.peersFile, JSON.stringify({ nodes: clusterOf(generation) }));
          const done = () =>
            node
              .log()
              .slice(from)
              .some(({ count }) => count === 10_000);
          await waitFor(done, { timeoutMs: 60_000 });
        }
        storms.push(residentMB(daemon.pid));
        await sleep(REST_MS);
        // Over one interval between looks at all routes: each leaves garbage that is collected a while later.
        const resting: number[] = [];
        for (let at = 0; at < LOOKS_MS; at += 1000) {
          resting.push(residentMB(daemon.pid));
          await sleep(1000);
        }
        samples.ours.push(summarize(resting).median);
        await node.stop();
        const peer = await startDaemon({
          argv: node.netns.command(...empty),
          ready: (output) => output.includes('"msg":"serving"'),
        });
        samples.peer.push(residentMB(peer.pid));
        await peer.stop();
      }
      const peerName = "Node with an empty gRPC server";
      const common = { unit: "MB", peer: samples.peer, peerName } as const;
      const what = "daemon: resident memory with 5,000 nodes";
      return [
        { ...common, what: `${what}, after all have moved`, ours: storms },
        { ...common, what: `${what}, half a minute later`, ours: samples.ours },
      ];
    },
  },
];
