// SPDX-License-Identifier: Apache-2.0
//
// The daemon itself: how long it takes to serve, and what it needs. Its peer is the least that a program of its kind can be:
// Node with an empty gRPC server.
import { hostArch, runtimes } from "../../scripts/pack/runtimes.ts";
import { type Daemon, startDaemon } from "../../test/helpers/daemon.ts";
import type { Case } from "../bench.ts";
import { residentMB } from "../process.ts";
import type { Row } from "../samples.ts";

const SHARE = 2;

export const daemonCases: readonly Case[] = [
  {
    id: "daemon",
    title: "The daemon's start, and its memory then",
    async run(bench): Promise<Row[]> {
      const { node } = await bench.node([4, 6]);
      await node.stop();
      const script = new URL("../empty-server.ts", import.meta.url).pathname;
      const empty = [(await runtimes(hostArch())).node, script];
      const ready = (output: string) => output.includes('"msg":"serving"');
      const one = async (start: () => Promise<Daemon>, stop: () => Promise<unknown>) => {
        const started = performance.now();
        const { pid } = await start();
        const startMs = performance.now() - started;
        const memoryMB = residentMB(pid);
        await stop();
        return { startMs, memoryMB };
      };
      const samples: Record<"ours" | "peer", { startMs: number; memoryMB: number }[]> = { ours: [], peer: [] };
      for (let run = -1; run < bench.rounds(SHARE); run++) {
        const ours = await one(
          () => node.start("--log-level", "info"),
          () => node.stop(),
        );
        let daemon: Daemon | undefined;
        const peer = await one(
          async () => (daemon = await startDaemon({ argv: node.netns.command(...empty), ready })),
          async () => daemon?.stop(),
        );
        if (run < 0) continue;
        samples.ours.push(ours);
        samples.peer.push(peer);
      }
      const peerName = "Node with an empty gRPC server";
      const row = (what: string, unit: Row["unit"], key: "startMs" | "memoryMB"): Row => ({
        what,
        unit,
        ours: samples.ours.map((sample) => sample[key]),
        peer: samples.peer.map((sample) => sample[key]),
        peerName,
      });
      return [
        row("daemon: start to serving", "ms", "startMs"),
        row("daemon: resident memory after the start", "MB", "memoryMB"),
      ];
    },
  },
];
