// SPDX-License-Identifier: Apache-2.0
//
// hostPorts with the built programs and real traffic: a client on another machine, a node, two pods on it. Who answered and
// whom it saw is said by the pods themselves.

import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { LabHost } from "../../src/lab/host-client.ts";
import type { Probed } from "../../src/lab/probe.ts";
import { SELF_COMMAND } from "../../src/lab/testing/self-command.ts";
import { formatAddress, parseAddress } from "../../src/net/address.ts";
import { Cleanup, type Daemon, run, startDaemon, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel, createNetns, joinByCable, type Netns } from "../helpers/netns.ts";
import { addressesOf, createPod, failureOf, type Pod, resultOf } from "../helpers/plugin.ts";
import { answerSctp, probeSctp, type SctpProbed } from "../helpers/sctp.ts";

const NODE = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
/** A second address of the node. */
const OTHER = { 4: "192.0.2.11", 6: "2001:db8::11" } as const;
const CLIENT = { 4: "192.0.2.2", 6: "2001:db8::2" } as const;
/** What every pod answers on. */
const POD_PORT = 10070;

type Family = 4 | 6;
type Protocol = "tcp" | "udp";

interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: string;
  readonly hostIP?: string;
}

/** A pod with its addresses by family, and the process in it that answers. */
interface RunningPod {
  readonly pod: Pod;
  readonly address: Readonly<Record<Family, string>>;
  readonly host: LabHost;
  readonly hostIfname: string;
  /** What ADD said. */
  readonly prevResult: object;
}

const cases = ([4, 6] as const).flatMap((family) =>
  (["tcp", "udp"] as const).map((protocol) => ({ family, protocol, name: `IPv${family} over ${protocol}` })),
);

describe.runIf(canUseKernel())("hostPorts", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  let client: Netns;
  let clientHost: LabHost;
  let nodeHost: LabHost;

  beforeAll(async () => {
    node = await createNode("hp-node", cleanup, {
      podCidrs: ["10.77.1.0/24", "fd00:77:1::/64"],
      // An address of a pod that is gone is the next pod's: what is left of the first would show.
      flags: ["--cool-down-seconds", "0"],
    });
    client = await createNetns("hp-client", cleanup);
    await joinByCable(
      {
        netns: node.netns,
        ifname: "eth0",
        addresses: [`${NODE[4]}/24`, `${OTHER[4]}/24`, `${NODE[6]}/64`, `${OTHER[6]}/64`],
      },
      { netns: client, ifname: "eth0", addresses: [`${CLIENT[4]}/24`, `${CLIENT[6]}/64`] },
    );
    await node.start();
    clientHost = await startHost("client", client, cleanup);
    nodeHost = await startHost("node", node.netns, cleanup);
  });
  afterAll(() => cleanup.run());

  /** A pod for the rest of the test. */
  async function runPod(label: string, portMappings: readonly PortMapping[]): Promise<RunningPod> {
    const podCleanup = new Cleanup();
    onTestFinished(() => podCleanup.run());
    const pod = await createPod(label, podCleanup);
    podCleanup.add(() => node.del(pod));
    const result = resultOf(await node.add(pod, { runtimeConfig: { portMappings } }));
    const [v4 = "", v6 = ""] = addressesOf(result);
    const host = await startHost(label, pod.netns, podCleanup);
    await host.listen(POD_PORT, [4, 6]);
    return { pod, address: { 4: v4, 6: v6 }, host, hostIfname: result.interfaces[0]?.name ?? "", prevResult: result };
  }

  function bothProtocols(hostPort: number, hostIP?: string): PortMapping[] {
    const on = hostIP === undefined ? {} : { hostIP };
    return ["tcp", "udp"].map((protocol) => ({ hostPort, containerPort: POD_PORT, protocol, ...on }));
  }

  test.each(cases)("lead to the pod from other machines, which it sees by their own addresses: $name", async (c) => {
    const pod = await runPod("web", bothProtocols(8080));
    for (const at of [NODE, OTHER]) {
      expect(await probe(clientHost, at[c.family], 8080, c)).toEqual({
        kind: "answered",
        receiver: "web",
        saw: CLIENT[c.family],
        reachedAt: pod.address[c.family],
        local: CLIENT[c.family],
      });
    }
  });

  test.each(cases)("lead there from other pods of the node, seen by their own addresses: $name", async (c) => {
    const pod = await runPod("web", bothProtocols(8080));
    const other = await runPod("other", []);
    expect(await probe(other.host, NODE[c.family], 8080, c)).toMatchObject({
      receiver: "web",
      saw: other.address[c.family],
      reachedAt: pod.address[c.family],
    });
  });

  test.each(cases)("lead a pod to itself: $name", async (c) => {
    const pod = await runPod("web", bothProtocols(8080));
    const probed = await probe(pod.host, NODE[c.family], 8080, c);
    expect(probed).toMatchObject({ receiver: "web", reachedAt: pod.address[c.family] });
    expect([NODE[c.family], OTHER[c.family]]).toContain((probed as { saw: string }).saw);
  });

  test.each(cases)("lead there from the node, by any of its addresses: $name", async (c) => {
    const pod = await runPod("web", bothProtocols(8080));
    for (const at of [NODE, OTHER]) {
      const probed = await probe(nodeHost, at[c.family], 8080, c);
      expect(probed).toMatchObject({ receiver: "web", reachedAt: pod.address[c.family] });
      // What the node sends to itself is from an address of its own, and stays so.
      const { saw, local } = probed as { saw: string; local: string };
      expect(saw).toBe(local);
    }
  });

  test.each(cases.filter(({ family }) => family === 4))("lead there from the node's 127.0.0.1: $name", async (c) => {
    const pod = await runPod("web", bothProtocols(8080));
    const probed = await probe(nodeHost, "127.0.0.1", 8080, c);
    expect(probed).toMatchObject({ receiver: "web", reachedAt: pod.address[4], local: "127.0.0.1" });
    expect([NODE[4], OTHER[4]]).toContain((probed as { saw: string }).saw);
  });

  test("leave [::1] to what listens there on the node", async () => {
    await runPod("web", bothProtocols(8080));
    const probed = await probe(nodeHost, "::1", 8080, { family: 6, protocol: "tcp" });
    expect(probed).toEqual({ kind: "failed", error: expect.stringContaining("ECONNREFUSED") });
  });

  test.each([4, 6] as const)("of SCTP lead to the pod, until DEL, and then to the next: IPv%d", async (family) => {
    const portMappings = [{ hostPort: 8080, containerPort: POD_PORT, protocol: "sctp" }];
    const init = (timeoutMs: number): Promise<SctpProbed> =>
      // Always from the same port: what the kernel keeps of an association would be found.
      probeSctp(client, { to: NODE[family], port: 8080, sourcePort: 40_000, timeoutMs });
    for (const name of ["first", "second"]) {
      const { pod } = await runPod(name, portMappings);
      const answering = new Cleanup();
      onTestFinished(() => answering.run());
      await answerSctp(pod.netns, name, answering);
      expect(await init(5_000)).toEqual({
        kind: "answered",
        answer: { receiver: name, saw: CLIENT[family], sawPort: 40_000, port: POD_PORT, intact: true },
        intact: true,
      });
      await node.del(pod);
    }
    // What the node itself says of a protocol that it doesn't have.
    await waitFor(async () => JSON.stringify(await init(1_000)).includes(family === 4 ? "ENOPROTOOPT" : "EPROTO"));
  });

  test.each(cases)("of one address of the node are on no other: $name", async (c) => {
    await runPod("first", bothProtocols(8080, NODE[c.family]));
    await runPod("second", bothProtocols(8080, OTHER[c.family]));
    expect(await probe(clientHost, NODE[c.family], 8080, c)).toMatchObject({ receiver: "first" });
    expect(await probe(clientHost, OTHER[c.family], 8080, c)).toMatchObject({ receiver: "second" });
  });

  test("take nothing that is sent to other places than the node", async () => {
    const web = await runPod("web", bothProtocols(POD_PORT));
    const other = await runPod("other", []);
    for (const family of [4, 6] as const) {
      const direct = await probe(web.host, other.address[family], POD_PORT, { family, protocol: "tcp" });
      expect(direct).toMatchObject({ receiver: "other", saw: web.address[family] });
    }
  });

  test("don't let a pod reach what the node has on 127.0.0.1", async () => {
    const { pod, host } = await runPod("web", bothProtocols(8080));
    await nodeHost.listen(POD_PORT, [4]);
    // A pod that may change its routes can send there.
    await run(pod.netns.command("sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1"));
    await pod.netns.ip("address", "delete", "127.0.0.1/8", "dev", "lo");
    await pod.netns.ip("route", "add", "127.0.0.1/32", "via", "169.254.1.1", "dev", "eth0");
    const before = await localnetDrops();
    const probed = await probe(host, "127.0.0.1", POD_PORT, { family: 4, protocol: "udp" }, 500);
    expect(probed).toMatchObject({ kind: "failed" });
    expect(await localnetDrops()).toBeGreaterThan(before);
  });

  test("are gone after DEL, and so are the connections", async () => {
    const { pod, address } = await runPod("web", bothProtocols(8080));
    for (const c of cases) await probe(clientHost, NODE[c.family], 8080, c);
    expect(await table()).toContain("8080");
    expect(await trackedAddresses()).toEqual(expect.arrayContaining([address[4], address[6]]));
    await node.del(pod);
    expect(await table()).not.toContain("8080");
    await waitFor(async () => {
      const left = await trackedAddresses();
      return !left.includes(address[4]) && !left.includes(address[6]);
    });
    expect(await probe(clientHost, NODE[4], 8080, { family: 4, protocol: "tcp" })).toEqual({
      kind: "failed",
      error: expect.stringContaining("ECONNREFUSED"),
    });
  });

  test("pass CHECK after ADD, which names the one that was lost since, a chain that was changed, and the lost table", async () => {
    const portMappings = [
      { hostPort: 8080, containerPort: POD_PORT, protocol: "tcp" },
      { hostPort: 8081, containerPort: POD_PORT, protocol: "udp", hostIP: NODE[4] },
    ];
    const { pod, prevResult } = await runPod("web", portMappings);
    const check = () => node.run("CHECK", pod, { conf: { runtimeConfig: { portMappings }, prevResult } });
    expect(await check()).toMatchObject({ status: 0, stdout: "" });
    await run(node.netns.command("nft", "delete", "element", "inet", "flatnet", "hostport4", "{ tcp . 8080 }"));
    const { code, details } = failureOf(await check());
    expect(code).toBe(102);
    expect(details).toContain("hostPort 8080/tcp does not lead to ");
    expect(details).not.toContain("8081");
    await run(node.netns.command("nft", "insert", "rule", "inet", "flatnet", "hostport", "udp dport 8081 return"));
    expect(failureOf(await check())).toMatchObject({
      code: 102,
      details: expect.stringContaining(
        "chain hostport of nftables table inet flatnet has rules that are not flatnet's",
      ),
    });
    await run(node.netns.command("nft", "delete", "table", "inet", "flatnet"));
    expect(failureOf(await check())).toMatchObject({
      code: 102,
      details: expect.stringContaining("there is no nftables table inet flatnet"),
    });
    // As a new start of the daemon would have it, for the tests after this one.
    await node.stop();
    await node.start();
    expect(await check()).toMatchObject({ status: 0, stdout: "" });
  });

  test("that somebody has are refused with the holder's name, and nothing of the pod stays", async () => {
    const first = await runPod("first", bothProtocols(8080));
    const pod = await createPod("late", cleanup);
    const failure = failureOf(await node.add(pod, { runtimeConfig: { portMappings: bothProtocols(8080, NODE[4]) } }));
    expect(`${failure.msg} ${failure.details}`).toContain(first.pod.containerId);
    expect((await node.traces()).links).toEqual([first.hostIfname]);
  });

  test("let a UDP client that never stops sending reach the next pod at once", async () => {
    const first = await runPod("first", bothProtocols(8080));
    const talker = await startTalker(NODE[4], 8080);
    await heard(talker, "first");
    await first.host.stop();
    await node.del(first.pod);
    await runPod("second", bothProtocols(8080));
    await heard(talker, "second");
  });

  test("keep their connections over a restart of the daemon, which heals what became of the table", async () => {
    const { pod } = await runPod("web", [
      ...bothProtocols(8080),
      { hostPort: 8081, containerPort: 8081, protocol: "tcp" },
    ]);
    const talker = await startTcpTalker(pod.netns, NODE[4], 8081);
    await heard(talker, "web");
    const before = await table();
    await node.stop("SIGKILL");
    await run(node.netns.command("nft", "flush", "map", "inet", "flatnet", "hostport4"));
    await run(node.netns.command("nft", "add", "chain", "inet", "flatnet", "stray"));
    await run(node.netns.command("nft", "insert", "rule", "inet", "flatnet", "hostport", "return"));
    await node.start();
    expect(await table()).toBe(before);
    const answers = countOf(talker, "web");
    await waitFor(() => countOf(talker, "web") > answers + 2);
    expect(await probe(clientHost, NODE[4], 8080, { family: 4, protocol: "tcp" })).toMatchObject({ receiver: "web" });
  });

  test("leave the tables of others alone", async () => {
    const rules = `table inet others {\n\tchain c {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n\t}\n}\n`;
    await run(node.netns.command("nft", "-f", "-"), { input: rules });
    onTestFinished(() => run(node.netns.command("nft", "delete", "table", "inet", "others")).then(() => {}));
    const { pod } = await runPod("web", bothProtocols(8080));
    await node.stop();
    await node.start();
    await node.del(pod);
    expect(await run(node.netns.command("nft", "list", "table", "inet", "others"))).toBe(rules);
  });

  async function startHost(name: string, netns: Netns, until: Cleanup): Promise<LabHost> {
    const host = await LabHost.start(name, netns.name, SELF_COMMAND, new AbortController().signal);
    until.add(() => host.stop());
    return host;
  }

  async function localnetDrops(): Promise<number> {
    const chain = await run(node.netns.command("nft", "list", "chain", "inet", "flatnet", "hostport_localnet"));
    return Number(/counter packets (\d+)/.exec(chain)?.[1]);
  }

  /** Every address in the node's connection tracking table, in full. */
  async function trackedAddresses(): Promise<string[]> {
    const text = await run(node.netns.command("cat", "/proc/net/nf_conntrack"));
    return [...text.matchAll(/(?:src|dst)=(\S+)/g)].map(([, address = ""]) => formatAddress(parseAddress(address)));
  }

  /** One TCP connection for as long as it goes, on which the pod says "web" to every word of the client. */
  async function startTcpTalker(pod: Netns, address: string, port: number): Promise<Daemon> {
    const server = `
      require("node:net").createServer((socket) => socket.on("data", () => socket.write("web\\n")).on("error", () => {}))
        .listen(${port}, () => console.log("listening"));`;
    await startScript(pod, server, "listening");
    const words = `
      const socket = require("node:net").connect(${port}, "${address}", () => console.log("talking"));
      socket.pipe(process.stdout);
      setInterval(() => socket.write("x"), 20);`;
    return startScript(client, words, "talking");
  }

  async function startScript(netns: Netns, script: string, ready: string): Promise<Daemon> {
    const argv = netns.command(process.execPath, "-e", script);
    const talker = await startDaemon({ argv, ready: (output) => output.includes(ready) });
    onTestFinished(async () => {
      await talker.stop("SIGKILL");
    });
    return talker;
  }

  /** Sends a datagram every 20 ms from one port of the client, and prints who answers. */
  function startTalker(address: string, port: number): Promise<Daemon> {
    const script = `
      const socket = require("node:dgram").createSocket("udp4");
      socket.on("message", (message) => console.log(JSON.parse(message).receiver));
      socket.bind(40000);
      setInterval(() => socket.send("x", ${port}, "${address}"), 20);
      console.log("talking");`;
    return startScript(client, script, "talking");
  }

  async function table(): Promise<string> {
    return run(node.netns.command("nft", "-s", "list", "table", "inet", "flatnet"));
  }
});

async function probe(
  from: LabHost,
  address: string,
  port: number,
  { family, protocol }: { family: Family; protocol: Protocol },
  timeoutMs = 5000,
): Promise<Probed | undefined> {
  let probed: Probed | undefined;
  await from.probe([{ address, port, family, protocol }], timeoutMs, (_, result) => {
    probed = result;
  });
  return probed;
}

function countOf(talker: Daemon, receiver: string): number {
  return talker.output().split(`${receiver}\n`).length - 1;
}

async function heard(talker: Daemon, receiver: string): Promise<void> {
  await waitFor(() => countOf(talker, receiver) > 0);
}
