// SPDX-License-Identifier: Apache-2.0
//
// Network policies: what they cost the daemon, a pod that is added, and packets. The peer of our rules are the same ones written down
// one after the other for iptables, which is what a packet goes through with them.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { hostArch, runtimes } from "../../scripts/pack/runtimes.ts";
import { run, startDaemon } from "../../test/helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../../test/helpers/flatnet-node.ts";
import { writeServiceAccount } from "../../test/helpers/kube-api/api-server.ts";
import { startDouble } from "../../test/helpers/kube-api/double.ts";
import { startRelay } from "../../test/helpers/kube-api/relay.ts";
import { createNetns, inNetns } from "../../test/helpers/netns.ts";
import { createPod, type Pod } from "../../test/helpers/plugin.ts";
import { type Bench, type Case, liveOnce, verbRows } from "../bench.ts";
import { ownNode } from "../kube-cluster.ts";
import { manyLines, manyRules, PODS, podObject } from "../policy-cluster.ts";
import type { Sampled } from "../policy-worker.ts";
import { residentMB } from "../process.ts";
import { ADDRESSES } from "../route-cluster.ts";
import { type Row, summarize } from "../samples.ts";
import { flatnetSide, type Side } from "../sides.ts";
import { Worker } from "../worker-client.ts";
import { uplink } from "./routes.ts";
import { openPair, type Pair, roundTrip } from "./traffic.ts";

/** A round of these takes seconds: so many fewer of them. */
const COMPILE_SHARE = 6;
const TRAFFIC_SHARE = 10;
const MEMORY_SHARE = 15;
const RULES = [0, 100, 10_000] as const;
const CHAIN = "linear iptables-nft chain";
/** First packets of a sample, and those before it that don't count. */
const PACKETS = 20_000;
const WARM_UP = 1000;
const PACKETS_PORT = "5300";
const MANY = 1000;
/** After a start the heap is collected within this time, and how long memory is looked at, in milliseconds. */
const REST_MS = 20_000;
const LOOK_MS = 10_000;

const script = (name: string) => new URL(`../${name}.ts`, import.meta.url).pathname;
const addresses = ADDRESSES.map((address) => address.split("/")[0] as string) as [string, string];

/** A node of which Kubernetes is told by the server, and its daemon's configuration. */
async function openNode(
  bench: Bench,
  server: { url: string; ca?: string | undefined; token: string },
  policy: object = {},
): Promise<FlatnetNode> {
  const node = await createNode("bench", bench.cleanup, { podCidrs: [] });
  await uplink(bench, node.netns);
  const port = 6443;
  await startRelay({ netns: node.netns, address: "127.0.0.1", port }, server.url, bench.cleanup);
  const serviceAccountDir = join(node.directory, "serviceaccount");
  writeServiceAccount(serviceAccountDir, server);
  const kubernetes = { enabled: true, apiServer: `https://127.0.0.1:${port}`, serviceAccountDir };
  // JSON is YAML.
  writeFileSync(configOf(node), JSON.stringify({ kubernetes, policy }));
  return node;
}

const configOf = (node: FlatnetNode) => join(node.directory, "flatnetd.yaml");

/** A side whose pods are those of a namespace of the API server. */
function inNamespace(side: Side, namespace: string): Side {
  return {
    name: side.name,
    operation(verb, pod, wishes, result) {
      const { steps, ...rest } = side.operation(verb, pod, wishes, result);
      const CNI_ARGS = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${pod.netns.name}`;
      return { ...rest, steps: steps.map((step) => ({ ...step, env: { ...step.env, CNI_ARGS } })) };
    },
  };
}

/** Packets from a client to a server that nobody answers: how many of them arrive in a second. */
async function firstPackets({ client, server, address }: Pair): Promise<number> {
  const send = async (count: number) =>
    Number(
      await run(
        inNetns(client.netns.path, process.execPath, script("first-packets"), address, PACKETS_PORT, `${count}`),
      ),
    );
  await send(WARM_UP);
  const before = await delivered(server);
  const ms = await send(PACKETS);
  const arrived = (await delivered(server)) - before;
  if (arrived === 0) throw new Error("packets that the rules allow don't arrive");
  return (1000 * arrived) / ms;
}

/** IPv4 packets that a pod's programs got, or would have if they had read them. */
async function delivered({ netns }: Pod): Promise<number> {
  const text = await run(inNetns(netns.path, "cat", "/proc/self/net/snmp"));
  const [names = [], values = []] = [...text.matchAll(/^Ip: (.*)$/gm)].map((line) => (line[1] as string).split(" "));
  return Number(values[names.indexOf("InDelivers")]);
}

interface Judged {
  readonly pair: Pair;
  /** Brings so many rules about the server into force, in the place of those before. */
  rule(count: number): Promise<void>;
}

async function openJudged(bench: Bench): Promise<Record<"ours" | "peer", Judged>> {
  const open = async () => {
    const node = await bench.node([4]);
    const pair = await openPair(node, node.ours, bench);
    const listen = [process.execPath, script("first-packets"), "0.0.0.0", PACKETS_PORT];
    const listener = await startDaemon({
      argv: inNetns(pair.server.netns.path, ...listen),
      ready: (output) => output.includes("listening"),
    });
    bench.cleanup.add(() => listener.stop());
    return { node, pair, client: await addressIn(pair.client) };
  };
  const [ours, peer] = [await open(), await open()];
  const program = (await runtimes(hostArch())).node;
  return {
    ours: {
      pair: ours.pair,
      rule: async (count) => {
        const argv = ours.node.node.netns.command(program, script("policy-table"), ours.pair.address);
        await run(argv, { input: JSON.stringify(manyRules(count, ours.client)) });
      },
    },
    peer: {
      pair: peer.pair,
      rule: async (count) => {
        const input = manyLines(count, peer.client, peer.pair.address);
        await run(peer.node.node.netns.command("iptables-nft-restore"), { input });
      },
    },
  };
}

async function addressIn({ netns }: Pod): Promise<string> {
  const [link] = JSON.parse(await netns.ip("-json", "-4", "address", "show", "dev", "eth0")) as [
    { addr_info: { local: string }[] },
  ];
  return link.addr_info[0]?.local ?? "";
}

interface Traffic {
  readonly rates: number[];
  readonly trips: number[];
}

const newTraffic = () => new Map(RULES.map((count): [number, Traffic] => [count, { rates: [], trips: [] }]));

async function measureTraffic(bench: Bench): Promise<Row[]> {
  const judged = await openJudged(bench);
  const samples = { ours: newTraffic(), peer: newTraffic() };
  for (let i = -1; i < bench.rounds(TRAFFIC_SHARE); i++) {
    for (const count of RULES) {
      for (const who of ["ours", "peer"] as const) {
        const { pair, rule } = judged[who];
        await rule(count);
        const [rate, trip] = [await firstPackets(pair), await roundTrip(pair)];
        if (i < 0) continue;
        samples[who].get(count)?.rates.push(rate);
        samples[who].get(count)?.trips.push(trip);
      }
    }
  }
  const of = (who: "ours" | "peer", count: number) => samples[who].get(count) as Traffic;
  const rows = RULES.flatMap((count): Row[] => {
    const rules = `${count.toLocaleString("en")} rules`;
    const [ours, peer] = [of("ours", count), of("peer", count)];
    return [
      { what: `${rules}: first packets`, unit: "/s", ours: ours.rates, peer: peer.rates, peerName: CHAIN },
      { what: `${rules}: TCP round trip`, unit: "µs", ours: ours.trips, peer: peer.trips, peerName: CHAIN },
    ];
  });
  const [none, most] = [of("ours", RULES[0]), of("ours", RULES[2])];
  return [
    ...rows,
    {
      what: "first packets with 10,000 rules, and with none",
      unit: "/s",
      ours: most.rates,
      peer: none.rates,
      peerName: "our table without a policy",
    },
  ];
}

/** The pods of this node come as policies have it, and nothing else happens: memory of the daemon at rest, in MB. */
async function measureMemory(bench: Bench, node: FlatnetNode): Promise<number> {
  const { pid } = await node.start("--config", configOf(node));
  const here = Array.from({ length: PODS }, (_, n) => podObject(n)).filter(({ spec }) => spec.nodeName === "node-1");
  const added: Pod[] = [];
  for (const { metadata } of here) {
    const pod = await createPod("bench", bench.cleanup);
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${metadata.namespace};K8S_POD_NAME=${metadata.name}`;
    const { status, stdout } = await node.run("ADD", pod, { env: { CNI_ARGS: args } });
    if (status !== 0) throw new Error(stdout);
    added.push(pod);
  }
  await sleep(REST_MS);
  const memory: number[] = [];
  for (let at = 0; at < LOOK_MS; at += 1000) {
    memory.push(residentMB(pid));
    await sleep(1000);
  }
  for (const pod of added) await node.del(pod);
  await node.stop();
  return summarize(memory).median;
}

async function measureAdds(bench: Bench): Promise<Row[]> {
  const double = await startDouble({ tls: true });
  bench.cleanup.add(() => double.close());
  const { admin } = double;
  await admin.create("/api/v1/nodes", ownNode("node-1", addresses));
  for (const name of ["ruled", "free"]) await admin.create("/api/v1/namespaces", { metadata: { name } });
  for (const policy of manyRules(MANY, "192.0.2.200")) {
    await admin.create("/apis/networking.k8s.io/v1/namespaces/ruled/networkpolicies", policy);
  }
  const node = await openNode(bench, double);
  await node.start("--config", configOf(node));
  const worker = await Worker.start(node.netns, bench.cleanup);
  const [pod, holder] = (await bench.pods(2)) as [Pod, Pod];
  for (const namespace of ["ruled", "free"]) {
    for (const { netns } of [pod, holder]) {
      const object = { metadata: { name: netns.name }, spec: { nodeName: "node-1" } };
      await admin.create(`/api/v1/namespaces/${namespace}/pods`, object);
    }
  }
  const side = flatnetSide(node.socket, node.journalDir);
  const [ruled, free] = [inNamespace(side, "ruled"), inNamespace(side, "free")];
  const places = [
    { worker, side: ruled, pod },
    { worker, side: free, pod },
  ] as const;
  const peerName = "ADD of a pod without policies";
  const first = await bench.lives(places, (place, runner) => liveOnce(runner, place));
  await worker.one(ruled.operation("ADD", holder));
  const next = await bench.lives(places, (place, runner) => liveOnce(runner, place));
  return [
    ...verbRows("ADD, 1,000 rules that no pod had", "ADD", first, peerName),
    ...verbRows("ADD, 1,000 rules that a pod has", "ADD", next, peerName),
  ];
}

export const policyCases: readonly Case[] = [
  {
    id: "policy-compile",
    title: "10,000 pods and 1,000 policies, as rules of a node with 100 of the pods",
    async run(bench): Promise<Row[]> {
      const netns = await createNetns("bench", bench.cleanup);
      const argv = netns.command(
        (await runtimes(hostArch())).node,
        script("policy-worker"),
        `${bench.rounds(COMPILE_SHARE)}`,
      );
      const sampled = JSON.parse(await run(argv, { timeoutMs: 600_000 })) as Sampled[];
      return sampled.map((one) => ({ ...one, unit: "ms" }));
    },
  },
  {
    id: "policy-memory",
    title: "The daemon's memory with 10,000 pods and 1,000 policies",
    async run(bench): Promise<Row[]> {
      const server = await startDaemon({
        argv: [(await runtimes(hostArch())).node, script("policy-server"), ...addresses],
        ready: (output) => output.endsWith("}\n"),
      });
      bench.cleanup.add(() => server.stop("SIGKILL"));
      const at = JSON.parse(server.output()) as { url: string; ca: string; token: string };
      const [ours, peer] = [await openNode(bench, at), await openNode(bench, at, { enabled: false })];
      const samples: { ours: number[]; peer: number[] } = { ours: [], peer: [] };
      for (let round = 0; round < bench.rounds(MEMORY_SHARE); round++) {
        samples.ours.push(await measureMemory(bench, ours));
        samples.peer.push(await measureMemory(bench, peer));
      }
      return [{ what: "resident memory at rest", unit: "MB", ...samples, peerName: "the daemon without policies" }];
    },
  },
  { id: "policy-traffic", title: "Packets to a pod with rules", run: measureTraffic },
  { id: "policy-add", title: "A pod is added while a policy of 1,000 rules is in force", run: measureAdds },
];
