// SPDX-License-Identifier: Apache-2.0
//
// Nodes that learn each other's subnets by BGP: the built daemon with Debian's BIRD 2, on nodes that are joined by a bridge.
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { probe, startReceiver } from "../helpers/containerd/probe.ts";
import { Cleanup, run, runToEnd, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, type IpRoute, listRoutes } from "../helpers/flatnet-node.ts";
import { canUseKernel, createNetns, joinByCable, type Netns } from "../helpers/netns.ts";
import { addressesOf, built, createPod, type Pod, resultOf } from "../helpers/plugin.ts";
import { endProcesses, RouteHistory } from "../helpers/route-history.ts";

interface Member {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly podCIDRs: readonly string[];
}

const MEMBERS = [1, 2, 3].map(
  (n): Member => ({
    name: `node-${n}`,
    addresses: [`172.31.0.${n}`, `fd00:31::${n}`],
    podCIDRs: [`10.77.${n}.0/24`, `fd00:77:${n}::/64`],
  }),
);

const PEERS = JSON.stringify({ nodes: MEMBERS });

interface Cluster {
  readonly fabric: Netns;
  readonly nodes: FlatnetNode[];
}

/** Nodes on one bridge, their daemons not yet started. */
async function createCluster(cleanup: Cleanup, routes: object, members = MEMBERS): Promise<Cluster> {
  const fabric = await createNetns("fabric", cleanup);
  await fabric.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0");
  await fabric.ip("link", "set", "br0", "up");
  const nodes: FlatnetNode[] = [];
  for (const { name, addresses, podCIDRs } of members) {
    const node = await createNode(name, cleanup, { podCidrs: podCIDRs, peers: PEERS });
    // BIRD outlives its daemon.
    cleanup.add(async () => {
      await node.stop();
      await endProcesses(node.netns);
    });
    await node.netns.ip("link", "add", "uplink", "type", "veth", "peer", "name", name, "netns", fabric.name);
    for (const [i, address] of addresses.entries()) {
      await node.netns.ip(
        "address",
        "add",
        `${address}/${i === 0 ? 24 : 64}`,
        "dev",
        "uplink",
        ...(i === 0 ? [] : ["nodad"]),
      );
    }
    await node.netns.ip("link", "set", "uplink", "up");
    await fabric.ip("link", "set", name, "master", "br0", "up");
    configure(node, routes);
    nodes.push(node);
  }
  return { fabric, nodes };
}

const configOf = (node: FlatnetNode) => join(node.directory, "flatnetd.yaml");
const birdOf = (node: FlatnetNode) => join(node.stateDir, "bird");

/** What the daemon's next start finds; JSON is YAML. */
function configure(node: FlatnetNode, routes: object): void {
  writeFileSync(configOf(node), JSON.stringify({ routes }));
}

async function start(node: FlatnetNode, index: number): Promise<void> {
  await node.start("--node-name", `node-${index + 1}`, "--config", configOf(node));
}

async function startAll({ nodes }: Cluster): Promise<void> {
  await Promise.all(nodes.map(start));
}

async function allRoutes(netns: Netns): Promise<IpRoute[]> {
  return [...(await listRoutes(netns, 4)), ...(await listRoutes(netns, 6))];
}

/** Routes to pod subnets, as words: "10.77.2.0/24 via 172.31.0.2 bird". */
async function podRoutes(netns: Netns): Promise<string[]> {
  const found = (await allRoutes(netns)).filter(({ dst }) => /^(10\.77\.\d\.0\/24|fd00:77:\d::\/64)$/.test(dst));
  const names: Record<string, string> = { 12: "bird", 70: "flatnet" };
  return found
    .map(
      ({ dst, gateway, protocol = "" }) =>
        `${dst} ${gateway === undefined ? "unreachable" : `via ${gateway}`} ${names[protocol]}`,
    )
    .sort();
}

/** What a node should have: its own subnets unreachable, and one route of that maker to each subnet of each other one. */
function expectedRoutes(self: Member, maker: "bird" | "flatnet", members = MEMBERS): string[] {
  return members
    .flatMap((member) =>
      member.podCIDRs.map((cidr, i) =>
        member === self ? `${cidr} unreachable flatnet` : `${cidr} via ${member.addresses[i]} ${maker}`,
      ),
    )
    .sort();
}

async function waitForRoutes(node: FlatnetNode, expected: readonly string[]): Promise<void> {
  await waitFor(async () => JSON.stringify(await podRoutes(node.netns)) === JSON.stringify(expected), {
    timeoutMs: 40_000,
  }).catch(() => {});
  expect(await podRoutes(node.netns)).toEqual(expected);
}

async function waitForAll({ nodes }: Cluster, maker: "bird" | "flatnet"): Promise<void> {
  for (const [i, node] of nodes.entries()) await waitForRoutes(node, expectedRoutes(MEMBERS[i] as Member, maker));
}

const subnetsBeside = (index: number) => MEMBERS.filter((_, i) => i !== index).flatMap(({ podCIDRs }) => podCIDRs);

async function birdPid(node: FlatnetNode): Promise<number> {
  const pid = Number(readFileSync(join(birdOf(node), "bird.pid"), "utf8"));
  process.kill(pid, 0);
  return pid;
}

/** Watches that no node is without a route to another's subnet, until the returned function is called. */
async function watchForGaps({ nodes }: Cluster): Promise<() => Promise<string[]>> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  const histories = await Promise.all(nodes.map((node) => RouteHistory.begin(node.netns, cleanup)));
  return async () => (await Promise.all(histories.map((history, i) => history.gapsOf(subnetsBeside(i))))).flat();
}

describe.runIf(canUseKernel())("a full mesh of three dual-stack nodes", () => {
  const cleanup = new Cleanup();
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = await createCluster(cleanup, { mode: "bgp" });
    await startAll(cluster);
    await waitForAll(cluster, "bird");
  });

  afterAll(() => cleanup.run());

  test("has pods that reach each other at their own addresses, over both families", async () => {
    const pods: { pod: Pod; addresses: string[]; node: FlatnetNode }[] = [];
    for (const node of cluster.nodes) {
      const pod = await createPod("pod", cleanup);
      pods.push({ pod, node, addresses: addressesOf(resultOf(await node.add(pod))) });
    }
    const [one, two, three] = pods;
    for (const target of [two, three]) {
      const own = new Cleanup();
      onTestFinished(() => own.run());
      const { tcp: port } = await startReceiver(target?.pod.netns.path ?? "", own);
      const questions = (target?.addresses ?? []).map((address) => ({ protocol: "tcp" as const, address, port }));
      const answers = await probe(one?.pod.netns.path ?? "", questions);
      expect(answers).toEqual(one?.addresses.map((address) => ({ local: address, seen: address })));
    }
    for (const { node, pod } of pods) await node.del(pod);
  });

  test("tells flatnetctl which way BIRD sends packets to each node's pods", async () => {
    const [node] = cluster.nodes as [FlatnetNode];
    const { status, stdout } = await runToEnd([built("flatnetctl"), "routes", "--json", "--socket", node.socket]);
    const { routes } = JSON.parse(stdout) as {
      routes: { node: string; nextHop: string; state: string; link: string }[];
    };
    expect(status).toBe(0);
    const ways = routes.map(({ node: name, nextHop, state, link }) => `${name} ${nextHop} ${state} ${link}`.trim());
    expect(ways.sort()).toEqual([
      ...["node-1  installed", "node-1  installed"],
      ...["node-2 172.31.0.2 installed uplink", "node-2 fd00:31::2 installed uplink"],
      ...["node-3 172.31.0.3 installed uplink", "node-3 fd00:31::3 installed uplink"],
    ]);
  });

  test("tells in the log who is up, and keeps its files to root", async () => {
    const [node] = cluster.nodes as [FlatnetNode];
    for (const peer of ["172.31.0.2 (node-2)", "fd00:31::2 (node-2)", "172.31.0.3 (node-3)", "fd00:31::3 (node-3)"]) {
      await waitFor(() => node.log().some(({ msg }) => msg === `BGP with ${peer} is up`));
    }
    expect((statSync(birdOf(node)).mode & 0o777).toString(8)).toBe("700");
    expect((statSync(join(birdOf(node), "bird.conf")).mode & 0o777).toString(8)).toBe("600");
  });

  test("has every route all the time while its daemons are restarted", async () => {
    const gaps = await watchForGaps(cluster);
    const pids = await Promise.all(cluster.nodes.map(birdPid));
    for (const [i, node] of cluster.nodes.entries()) {
      await node.stop(i === 0 ? "SIGKILL" : "SIGTERM");
      await start(node, i);
    }
    expect(await gaps()).toEqual([]);
    expect(await Promise.all(cluster.nodes.map(birdPid))).toEqual(pids);
    await waitForAll(cluster, "bird");
  });

  test("has every route all the time while a BIRD that dies is started again", async () => {
    const gaps = await watchForGaps(cluster);
    const [node] = cluster.nodes as [FlatnetNode];
    const [pid, from] = [await birdPid(node), node.log().length];
    process.kill(pid, "SIGKILL");
    await waitFor(
      () =>
        node
          .log()
          .slice(from)
          .filter(({ msg }) => /^BGP with .* is up$/.test(String(msg))).length >= 4,
      {
        timeoutMs: 40_000,
      },
    );
    // Peers keep the routes of before until they are told that these were all.
    await waitFor(async () => readFileSync(join(birdOf(node), "bird.log"), "utf8").includes("Graceful restart done"), {
      timeoutMs: 40_000,
    });
    expect(await gaps()).toEqual([]);
    expect(await birdPid(node)).not.toBe(pid);
    await waitForAll(cluster, "bird");
  });

  test("has routes again that somebody took away, and is as before when the link was down", async () => {
    const [node] = cluster.nodes as [FlatnetNode];
    for (const family of ["-4", "-6"]) await node.netns.ip(family, "route", "flush", "proto", "bird");
    await waitForAll(cluster, "bird");
    await node.netns.ip("link", "set", "uplink", "down");
    await node.netns.ip("link", "set", "uplink", "up");
    // The kernel takes IPv6 addresses away with the link.
    await node.netns.ip("address", "replace", "fd00:31::1/64", "dev", "uplink", "nodad");
    await waitForAll(cluster, "bird");
  });

  test("follows the peers file: a node that is struck off has no route any more", async () => {
    const [node] = cluster.nodes as [FlatnetNode];
    const [first, second] = MEMBERS as [Member, Member];
    writeFileSync(node.peersFile, JSON.stringify({ nodes: [first, second] }));
    await waitForRoutes(node, expectedRoutes(first, "bird", [first, second]));
    writeFileSync(node.peersFile, PEERS);
    await waitForRoutes(node, expectedRoutes(first, "bird"));
  });

  test("has every route all the time while it goes over to static routes node by node, and back", async () => {
    const gaps = await watchForGaps(cluster);
    for (const mode of ["static", "bgp"] as const) {
      for (const [i, node] of cluster.nodes.entries()) {
        configure(node, { mode });
        await node.stop();
        await start(node, i);
        // BIRD's routes are gone only when BIRD is.
        if (mode === "static") await waitFor(() => !existsSync(birdOf(node)), { timeoutMs: 40_000 });
      }
      await waitForAll(cluster, mode === "bgp" ? "bird" : "flatnet");
    }
    expect(await gaps()).toEqual([]);
  });

  test("that goes over to static routes when BIRD is dead has nothing left of it", async () => {
    const gaps = await watchForGaps(cluster);
    const [node] = cluster.nodes as [FlatnetNode];
    await node.stop();
    process.kill(await birdPid(node), "SIGKILL");
    configure(node, { mode: "static" });
    await start(node, 0);
    await waitFor(() => !existsSync(birdOf(node)), { timeoutMs: 40_000 });
    await waitForRoutes(node, expectedRoutes(MEMBERS[0] as Member, "flatnet"));
    expect(await gaps()).toEqual([]);
    const pids = (await run(["ip", "netns", "pids", node.netns.name])).trim().split("\n");
    const programs = pids.map((pid) => readFileSync(`/proc/${pid}/comm`, "utf8").trim());
    expect(programs).not.toContain("bird");
  });
});

describe.runIf(canUseKernel())("a mesh with BFD and passwords", () => {
  const cleanup = new Cleanup();
  let cluster: Cluster;
  const secret = "correct horse; battery{staple}";

  beforeAll(async () => {
    cluster = await createCluster(cleanup, {});
    for (const node of cluster.nodes) {
      const passwordFile = join(node.directory, "password");
      writeFileSync(passwordFile, `${secret}\n`);
      configure(node, { mode: "bgp", bgp: { bfd: true, passwordFile } });
    }
    await startAll(cluster);
    await waitForAll(cluster, "bird");
  });

  afterAll(() => cleanup.run());

  test("withdraws the routes of a node that goes down, and has them again when it is back", async () => {
    const { fabric, nodes } = cluster as Cluster & { nodes: [FlatnetNode, FlatnetNode, FlatnetNode] };
    const members = MEMBERS as [Member, Member, Member];
    await fabric.ip("link", "set", "node-3", "down");
    for (const i of [0, 1] as const)
      await waitForRoutes(nodes[i], expectedRoutes(members[i], "bird", members.slice(0, 2)));
    await fabric.ip("link", "set", "node-3", "up");
    await waitForAll(cluster, "bird");
  });

  test("has its password in no log", () => {
    for (const node of cluster.nodes) {
      expect(node.daemon.output()).not.toContain(secret);
      expect(readFileSync(join(birdOf(node), "bird.log"), "utf8")).not.toContain(secret);
      expect(readFileSync(join(birdOf(node), "bird.conf"), "utf8")).toContain(secret);
    }
  });

  test("does not talk to a node with another password, and says with whom", async () => {
    const [node] = cluster.nodes as [FlatnetNode];
    writeFileSync(join(node.directory, "password"), "another\n");
    await waitForRoutes(node, expectedRoutes(MEMBERS[0] as Member, "bird", MEMBERS.slice(0, 1)));
    await waitFor(
      () => node.log().some(({ msg }) => String(msg).startsWith("BGP with 172.31.0.2 (node-2) is not up")),
      {
        timeoutMs: 30_000,
      },
    );
    writeFileSync(join(node.directory, "password"), "\n");
    await waitFor(() => JSON.stringify(node.log()).includes("password has no BGP password"));
    writeFileSync(join(node.directory, "password"), secret);
    await waitForAll(cluster, "bird");
  });
});

describe.runIf(canUseKernel())("nodes with a route reflector among them", () => {
  test("talk to it alone, and route to each other directly", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const cluster = await createCluster(cleanup, { mode: "bgp", bgp: { reflectors: ["node-2"] } });
    await startAll(cluster);
    await waitForAll(cluster, "bird");
    const config = readFileSync(join(birdOf(cluster.nodes[0] as FlatnetNode), "bird.conf"), "utf8");
    expect(config.match(/neighbor \S+/g)).toEqual(["neighbor 172.31.0.2", "neighbor fd00:31::2"]);
  });
});

describe.runIf(canUseKernel())("two nodes on two links", () => {
  test.each([
    ["a top-of-rack router of another AS", 64_513],
    ["a router that is the route reflector", 64_512],
  ])("learn from %s without a peers file, and have their routes through it", async (_what, asn) => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const router = await createNetns("router", cleanup);
    cleanup.add(() => endProcesses(router));
    await run(
      router.command(
        "sh",
        "-c",
        "for f in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 > /proc/sys/net/$f; done",
      ),
    );
    const nodes: FlatnetNode[] = [];
    const sessions: string[] = [];
    for (const n of [1, 2]) {
      const node = await createNode(`link-${n}`, cleanup, { podCidrs: [`10.77.${n}.0/24`, `fd00:77:${n}::/64`] });
      cleanup.add(async () => {
        await node.stop();
        await endProcesses(node.netns);
      });
      const [hops, own] = [1, 2].map((host) => [`172.31.${n}.${host}`, `fd00:31:${n}::${host}`]) as [
        string[],
        string[],
      ];
      const withLength = (addresses: string[]) => addresses.map((address, i) => `${address}/${i === 0 ? 24 : 64}`);
      await joinByCable(
        { netns: node.netns, ifname: "uplink", addresses: withLength(own) },
        { netns: router, ifname: `port${n}`, addresses: withLength(hops) },
      );
      for (const hop of hops) await node.netns.ip("route", "add", "default", "via", hop);
      configure(node, { mode: "bgp", bgp: { peers: hops.map((address) => ({ address, asn })) } });
      nodes.push(node);
      for (const [i, address] of own.entries()) {
        sessions.push(
          `protocol bgp { local ${hops[i]} as ${asn}; neighbor ${address} as 64512; direct; ${asn === 64_512 ? "rr client;" : ""}
             connect delay time 1; error wait time 1, 5; ipv${i === 0 ? 4 : 6} { import all; export all; }; }`,
        );
      }
    }
    const directory = (nodes[0] as FlatnetNode).directory;
    const [config, socket, pid] = ["conf", "ctl", "pid"].map((ext) => join(directory, `router.${ext}`)) as [
      string,
      string,
      string,
    ];
    const kernels = [4, 6].map((f) => `protocol kernel { ipv${f} { import none; export where source = RTS_BGP; }; }`);
    writeFileSync(
      config,
      [
        "router id 192.0.2.1;",
        "protocol device { }",
        "protocol direct { ipv4; ipv6; }",
        ...kernels,
        ...sessions,
        "",
      ].join("\n"),
    );
    await run(router.command("/usr/sbin/bird", "-c", config, "-s", socket, "-P", pid));
    await Promise.all(nodes.map(start));
    await waitForRoutes(nodes[0] as FlatnetNode, [
      "10.77.1.0/24 unreachable flatnet",
      "10.77.2.0/24 via 172.31.1.1 bird",
      "fd00:77:1::/64 unreachable flatnet",
      "fd00:77:2::/64 via fd00:31:1::1 bird",
    ]);
    await waitForRoutes(nodes[1] as FlatnetNode, [
      "10.77.1.0/24 via 172.31.2.1 bird",
      "10.77.2.0/24 unreachable flatnet",
      "fd00:77:1::/64 via fd00:31:2::1 bird",
      "fd00:77:2::/64 unreachable flatnet",
    ]);
  });
});

describe.runIf(canUseKernel())("a node in BGP mode", () => {
  test.each([
    [{ mode: "ospf" }, /routes\.mode is "ospf"/],
    [{ mode: "bgp", bgp: { asn: 23456 } }, /routes\.bgp\.asn is 23456/],
    [
      { mode: "bgp", bgp: { peers: [{ address: "fe80::1", asn: 64513 }] } },
      /routes\.bgp\.peers\.0\.address is "fe80::1"/,
    ],
    [{ mode: "bgp", bgp: { bird: "/nonexistent/bird" } }, /routes\.bgp\.bird: \/nonexistent\/bird is not there/],
  ])("refuses to start with %j, naming the field", async (routes, words) => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const node = await createNode("wrong", cleanup, { podCidrs: ["10.77.1.0/24"] });
    configure(node, routes);
    const { status, stdout, stderr } = await runToEnd(node.command(...node.flags("--config", configOf(node))));
    expect([1, 2]).toContain(status);
    expect(stdout + stderr).toMatch(words);
    expect(await podRoutes(node.netns)).toEqual([]);
  });

  test("leaves the routes of another BIRD alone, and says so", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const { nodes } = await createCluster(cleanup, { mode: "bgp" }, MEMBERS.slice(0, 1));
    const [node] = nodes as [FlatnetNode];
    await node.netns.ip("route", "add", "192.0.2.0/24", "via", "172.31.0.9", "proto", "bird", "metric", "32");
    await start(node, 0);
    await waitFor(() => node.daemon.output().includes("another BIRD has routes"));
    expect(await run(["ip", "-n", node.netns.name, "route", "show", "192.0.2.0/24"])).toContain("via 172.31.0.9");
    expect(existsSync(join(birdOf(node), "bird.pid"))).toBe(false);
  });
});
