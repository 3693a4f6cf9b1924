// SPDX-License-Identifier: Apache-2.0
//
// Packets between two pods of a node: throughput by iperf3, round trips by sockperf, over our links and over ptp's.
import { run, startDaemon } from "../../test/helpers/daemon.ts";
import { inNetns } from "../../test/helpers/netns.ts";
import type { Pod } from "../../test/helpers/plugin.ts";
import type { Bench, BenchNode, Case } from "../bench.ts";
import type { Row } from "../samples.ts";
import type { Side } from "../sides.ts";

/** How long each sample takes. */
const SECONDS = 2;
const IPERF_PORT = "5201";
const SOCKPERF_PORT = "11111";
/** Both ends of round trips are on one processor: on two, it is how deep the other one sleeps that is measured. */
const PINNED = ["taskset", "--cpu-list", "0"];
/** Samples are long: this many fewer of them. */
const SHARE = 3;

/** Two pods of a side, with both servers in the second. */
export interface Pair {
  readonly client: Pod;
  readonly server: Pod;
  readonly address: string;
}

export async function openPair({ worker }: BenchNode, side: Side, bench: Bench): Promise<Pair> {
  const [client, server] = (await bench.pods(2)) as [Pod, Pod];
  await worker.one(side.operation("ADD", client));
  const { output } = await worker.one(side.operation("ADD", server));
  const result = JSON.parse(output) as { ips: { address: string }[] };
  const address = (result.ips[0]?.address ?? "").split("/")[0] as string;
  const servers: [string[], string][] = [
    [["iperf3", "--server", "--port", IPERF_PORT], IPERF_PORT],
    [[...PINNED, "sockperf", "server", "--tcp", "--port", SOCKPERF_PORT], SOCKPERF_PORT],
  ];
  for (const [argv, port] of servers) {
    const listens = inNetns(server.netns.path, "ss", "-Hltn", `sport = :${port}`);
    const daemon = await startDaemon({
      argv: inNetns(server.netns.path, ...argv),
      ready: async () => (await run(listens)).trim() !== "",
    });
    bench.cleanup.add(() => daemon.stop());
  }
  return { client, server, address };
}

/** Gbit/s that arrived in one stream. */
async function throughput({ client, address }: Pair): Promise<number> {
  const argv = ["iperf3", "--client", address, "--port", IPERF_PORT, "--time", String(SECONDS), "--json"];
  const report = JSON.parse(await run(inNetns(client.netns.path, ...argv))) as {
    end: { sum_received: { bits_per_second: number } };
  };
  return report.end.sum_received.bits_per_second / 1e9;
}

/** Median round trip in µs; sockperf tells half of it. */
export async function roundTrip({ client, address }: Pair): Promise<number> {
  const argv = [...PINNED, "sockperf", "ping-pong", "--tcp", "-i", address, "-p", SOCKPERF_PORT, "-t", String(SECONDS)];
  const text = await run(inNetns(client.netns.path, ...argv));
  const half = /percentile 50\.000 =\s*([\d.]+)/.exec(text)?.[1];
  if (half === undefined) throw new Error(`sockperf printed no median: ${text}`);
  return 2 * Number(half);
}

export const trafficCases: readonly Case[] = [
  {
    id: "traffic",
    title: "Packets between two pods of a node",
    async run(bench): Promise<Row[]> {
      const node = await bench.node([4]);
      const pairs = { ours: await openPair(node, node.ours, bench), peer: await openPair(node, node.peer, bench) };
      const compared = async (what: string): Promise<Row[]> => {
        const rates: Record<"ours" | "peer", number[]> = { ours: [], peer: [] };
        const trips: Record<"ours" | "peer", number[]> = { ours: [], peer: [] };
        for (let i = -1; i < bench.rounds(SHARE); i++) {
          for (const side of ["ours", "peer"] as const) {
            const [rate, trip] = [await throughput(pairs[side]), await roundTrip(pairs[side])];
            if (i < 0) continue;
            rates[side].push(rate);
            trips[side].push(trip);
          }
        }
        return [
          { what: `one TCP stream${what}`, unit: "Gbit/s", ...rates, peerName: "ptp" },
          { what: `TCP round trip${what}`, unit: "µs", ...trips, peerName: "ptp" },
        ];
      };
      const rows = await compared("");
      // What is left of the difference without the rule that ptp has none of.
      await node.node.stop();
      await node.node.start("--anti-spoof", "false");
      return [...rows, ...(await compared(", without anti-spoofing"))];
    },
  },
];
