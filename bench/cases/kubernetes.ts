// SPDX-License-Identifier: Apache-2.0
//
// The daemon in a cluster of 5,000 nodes that it learns from an API server, beside the least that a Node program is that
// knows them too, and beside itself at rest.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { hostArch, runtimes } from "../../scripts/pack/runtimes.ts";
import { type Daemon, startDaemon, waitFor } from "../../test/helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../../test/helpers/flatnet-node.ts";
import { writeServiceAccount } from "../../test/helpers/kube-api/api-server.ts";
import { inNetns } from "../../test/helpers/netns.ts";
import type { Bench, Case } from "../bench.ts";
import { cpuMs, residentMB } from "../process.ts";
import { ADDRESSES, NODES } from "../route-cluster.ts";
import { type Row, summarize } from "../samples.ts";
import { uplink } from "./routes.ts";

/** A round takes a minute and more: so many fewer of them. */
const SHARE = 10;
const PODS = 250;
/** After a start or a change the heap is collected within this time, in milliseconds. */
const REST_MS = 20_000;
/** How long CPU and memory are looked at, in milliseconds. */
const LOOK_MS = 30_000;
interface Watched {
  readonly memoryMB: number;
  readonly cpuMs: number;
}

async function watch(pid: number): Promise<Watched> {
  const before = cpuMs(pid);
  const memory: number[] = [];
  for (let at = 0; at < LOOK_MS; at += 1000) {
    memory.push(residentMB(pid));
    await sleep(1000);
  }
  return { memoryMB: summarize(memory).median, cpuMs: cpuMs(pid) - before };
}

/** From the start on. */
interface Sync {
  readonly wallMs: number;
  readonly cpuMs: number;
}

interface Sample {
  readonly sync: Sync;
  readonly rest: Watched;
  readonly beats: Watched;
}

interface Setting {
  readonly node: FlatnetNode;
  /** The API server's process. */
  readonly server: Daemon;
  readonly peerArgv: readonly string[];
}

async function startSetting(bench: Bench): Promise<Setting> {
  const directory = mkdtempSync(join(tmpdir(), "flatnet-bench-"));
  bench.cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
  const configFile = join(directory, "config.yaml");
  const node = await createNode("bench", bench.cleanup, { podCidrs: [], flags: ["--config", configFile] });
  await uplink(bench, node.netns);
  const script = (name: string) => new URL(`../${name}.ts`, import.meta.url).pathname;
  const program = (await runtimes(hostArch())).node;
  const addresses = ADDRESSES.map((address) => address.split("/")[0] as string);
  const server = await startDaemon({
    argv: inNetns(node.netns.path, program, script("kube-server"), "node-1", ...addresses),
    ready: (output) => output.endsWith("}\n"),
  });
  bench.cleanup.add(() => server.stop("SIGKILL"));
  const { url, ca, token } = JSON.parse(server.output()) as { url: string; ca: string; token: string };
  const account = join(directory, "serviceaccount");
  writeServiceAccount(account, { ca, token });
  const kubernetes = { enabled: true, apiServer: url, serviceAccountDir: account };
  // JSON is YAML.
  writeFileSync(configFile, JSON.stringify({ kubernetes }));
  const peer = inNetns(node.netns.path, program, script("kube-peer"), url, join(account, "ca.crt"), token);
  return { node, server, peerArgv: peer };
}

/** Everything that a daemon leaves: it begins as on a new node. */
async function forget({ netns, stateDir }: FlatnetNode): Promise<void> {
  rmSync(stateDir, { recursive: true, force: true });
  for (const family of ["-4", "-6"]) await netns.ip(family, "route", "flush", "proto", "70");
}

async function measure(server: Daemon, pid: number, sync: Sync): Promise<Sample> {
  await sleep(REST_MS);
  const rest = await watch(pid);
  process.kill(server.pid, "SIGUSR2");
  try {
    await sleep(REST_MS);
    return { sync, rest, beats: await watch(pid) };
  } finally {
    process.kill(server.pid, "SIGHUP");
  }
}

async function measureOurs(bench: Bench, { node, server }: Setting): Promise<Sample> {
  await forget(node);
  const started = performance.now();
  const { pid } = await node.start();
  const routes = () => node.log().filter(({ msg }) => msg === "routes set");
  const count = () => routes().reduce((sum, line) => sum + Number(line["count"]), 0);
  await waitFor(() => count() >= 2 * NODES, { timeoutMs: 120_000 });
  const sync = { wallMs: performance.now() - started, cpuMs: cpuMs(pid) };
  const pods = await bench.pods(PODS);
  for (const pod of pods) await node.add(pod);
  const sample = await measure(server, pid, sync);
  for (const pod of pods) await node.del(pod);
  await node.stop();
  return sample;
}

async function measurePeer({ server, peerArgv }: Setting): Promise<Sample> {
  const started = performance.now();
  const peer = await startDaemon({
    argv: peerArgv,
    ready: (output) => output.includes('"msg":"synced"'),
    timeoutMs: 120_000,
  });
  const sync = { wallMs: performance.now() - started, cpuMs: cpuMs(peer.pid) };
  try {
    return await measure(server, peer.pid, sync);
  } finally {
    await peer.stop("SIGKILL");
  }
}

export const kubernetesCases: readonly Case[] = [
  {
    id: "kubernetes",
    title: "An API server with 5,000 nodes, and 250 pods on this one",
    async run(bench): Promise<Row[]> {
      const setting = await startSetting(bench);
      const samples: { ours: Sample[]; peer: Sample[] } = { ours: [], peer: [] };
      for (let round = 0; round < bench.rounds(SHARE); round++) {
        samples.ours.push(await measureOurs(bench, setting));
        samples.peer.push(await measurePeer(setting));
      }
      const row = (what: string, unit: Row["unit"], value: (sample: Sample) => number) => ({
        ...{
          what,
          unit,
          ours: samples.ours.map(value),
          peer: samples.peer.map(value),
          peerName: "Node that lists and watches",
        },
      });
      const beats = "kubernetes: CPU in 30 s with 17 reports of nodes a second";
      return [
        row("kubernetes: start to 10,000 routes, and to knowing the nodes: wall", "ms", ({ sync }) => sync.wallMs),
        row("kubernetes: start to 10,000 routes, and to knowing the nodes: CPU", "ms", ({ sync }) => sync.cpuMs),
        row("kubernetes: resident memory with 250 pods while nodes report", "MB", (sample) => sample.beats.memoryMB),
        row("kubernetes: resident memory with 250 pods at rest", "MB", ({ rest }) => rest.memoryMB),
        row(beats, "ms", (sample) => sample.beats.cpuMs),
        {
          ...row(`${beats}, and without`, "ms", (sample) => sample.beats.cpuMs),
          peer: samples.ours.map(({ rest }) => rest.cpuMs),
          peerName: "the same daemon",
        },
      ];
    },
  },
];
