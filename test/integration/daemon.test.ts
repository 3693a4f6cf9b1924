// SPDX-License-Identifier: Apache-2.0
//
// The built daemon in a node's namespace with an uplink to its peers. What it did is read by iproute2, nft and from files.

import { existsSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { probe, startReceiver } from "../helpers/containerd/probe.ts";
import { Cleanup, type Finished, run, runToEnd, startDaemon, waitFor } from "../helpers/daemon.ts";
import { openMailbox, sendDatagrams } from "../helpers/datagrams.ts";
import { createNode, type FlatnetNode, type IpRoute, listRoutes, parseLog } from "../helpers/flatnet-node.ts";
import { canUseKernel, createNetns, inNetns, joinByCable, type Netns } from "../helpers/netns.ts";
import { addressesOf, createPod, type Pod, resultOf } from "../helpers/plugin.ts";

const OWN = ["10.77.1.0/24", "fd00:77:1::/64"] as const;
const NODE = { name: "node-1", addresses: ["172.31.0.1", "fd00:31::1"], podCIDRs: OWN };
const PEER_2 = {
  name: "node-2",
  addresses: ["172.31.0.2", "fd00:31::2"],
  podCIDRs: ["10.77.2.0/24", "fd00:77:2::/64"],
};
const PEER_3 = {
  name: "node-3",
  addresses: ["172.31.0.3", "fd00:31::3"],
  podCIDRs: ["10.77.3.0/24", "fd00:77:3::/64"],
};
const PROTOCOL = "70";

/** Text of a peers file. JSON is YAML. */
const peersText = (...nodes: object[]) => JSON.stringify({ nodes });

/** A node with an uplink, and what is at the uplink's other end. */
interface Site {
  readonly node: FlatnetNode;
  readonly fabric: Netns;
}

async function createSite(cleanup: Cleanup, peers: string | undefined, flags: string[] = []): Promise<Site> {
  const node = await createNode("node", cleanup, { podCidrs: OWN, flags, ...(peers === undefined ? {} : { peers }) });
  const fabric = await createNetns("fabric", cleanup);
  // A new namespace has some of these from the host, which may be a router that filters.
  await setSysctl(node.netns, "ipv4/ip_forward", "0");
  await setSysctl(node.netns, "ipv6/conf/all/forwarding", "0");
  for (const netns of [node.netns, fabric]) {
    for (const which of ["all", "default"]) await setSysctl(netns, `ipv4/conf/${which}/rp_filter`, "0");
  }
  await joinByCable(
    { netns: node.netns, ifname: "uplink", addresses: ["172.31.0.1/24", "fd00:31::1/64"] },
    { netns: fabric, ifname: "port", addresses: ["172.31.0.2/24", "fd00:31::2/64", "172.31.0.3/24", "fd00:31::3/64"] },
  );
  return { node, fabric };
}

/** Makes a site for the rest of the test, its daemon not yet started. */
async function newSite(peers?: string, flags?: string[]): Promise<Site> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  return createSite(cleanup, peers, flags);
}

async function newPod(): Promise<Pod> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  return createPod("pod", cleanup);
}

/** The routes of both families that carry flatnet's number, as words: "10.77.2.0/24 via 172.31.0.2". */
async function ourRoutes(netns: Netns): Promise<string[]> {
  return (await allRoutes(netns)).filter(({ protocol }) => protocol === PROTOCOL).map(inWords);
}

async function allRoutes(netns: Netns): Promise<IpRoute[]> {
  return [...(await listRoutes(netns, 4)), ...(await listRoutes(netns, 6))];
}

function inWords({ type, dst, gateway, dev }: IpRoute): string {
  // iproute2 prints the number of "unreachable" when it prints numbers.
  if (type === "unreachable" || type === "7") return `unreachable ${dst}`;
  return gateway === undefined ? `${dst} dev ${dev}` : `${dst} via ${gateway}`;
}

const OWN_ROUTES = OWN.map((cidr) => `unreachable ${cidr}`);
const routesTo = ({ addresses, podCIDRs }: typeof PEER_2) => podCIDRs.map((cidr, i) => `${cidr} via ${addresses[i]}`);

/** Waits until exactly these routes of ours are there. */
async function waitForRoutes(netns: Netns, expected: readonly string[]): Promise<void> {
  const wanted = [...expected].sort();
  await waitFor(async () => JSON.stringify((await ourRoutes(netns)).sort()) === JSON.stringify(wanted)).catch(() => {});
  expect((await ourRoutes(netns)).sort()).toEqual(wanted);
}

/** Waits for a line of the daemon's log, at or after the given one, that has all the words; returns it as text. */
async function waitForLog(node: FlatnetNode, from: number, ...words: string[]): Promise<string> {
  const find = () =>
    node
      .log()
      .slice(from)
      .map((line) => JSON.stringify(line))
      .find((line) => words.every((word) => line.includes(word)));
  await waitFor(() => find() !== undefined).catch(() => {});
  expect(node.log().slice(from)).toEqual(expect.arrayContaining([expect.anything()]));
  return find() ?? expect.fail(`no line has ${words.join(", ")}:\n${node.daemon.output()}`);
}

async function sysctl(netns: Netns, name: string): Promise<string> {
  return (await run(inNetns(netns.path, "cat", `/proc/sys/net/${name}`))).trim();
}

async function setSysctl(netns: Netns, name: string, value: string): Promise<void> {
  await run(inNetns(netns.path, "sh", "-c", `echo ${value} > /proc/sys/net/${name}`));
}

async function nftTables(netns: Netns): Promise<string> {
  return run(inNetns(netns.path, "nft", "list", "ruleset"));
}

const withoutCounters = (rules: string) => rules.replace(/packets \d+ bytes \d+/g, "");

const modeOf = (path: string) => (statSync(path).mode & 0o7777).toString(8);

/** Runs the daemon to its end, which the flags are to bring about at once. */
function runDaemon(node: FlatnetNode, flags: readonly string[]): Promise<Finished> {
  return runToEnd(node.command(...flags), { timeoutMs: 30_000 });
}

describe.runIf(canUseKernel())("a daemon with peers", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    ({ node } = await createSite(cleanup, peersText(NODE, PEER_2, PEER_3)));
    await setSysctl(node.netns, "ipv6/conf/uplink/accept_ra", "1");
    await node.start();
  });

  afterAll(() => cleanup.run());

  test("serves on a socket that is root's alone, in directories that are root's alone", async () => {
    expect(statSync(node.socket).isSocket()).toBe(true);
    expect(modeOf(node.socket)).toBe("600");
    for (const directory of [join(node.directory, "run"), node.stateDir, node.journalDir]) {
      expect(modeOf(directory)).toBe("700");
    }
    for (const name of readdirSync(node.stateDir)) {
      expect(`${name} ${modeOf(join(node.stateDir, name))}`).toMatch(/ [67]00$/);
    }
    expect(await node.allocations()).toMatchObject({ allocations: [], subnets: [{ cidr: OWN[0] }, { cidr: OWN[1] }] });
  });

  test("has a route to each peer's subnet through that peer, and its own subnets end here", async () => {
    expect((await ourRoutes(node.netns)).sort()).toEqual(
      [...OWN_ROUTES, ...routesTo(PEER_2), ...routesTo(PEER_3)].sort(),
    );
    for (const nobodys of ["10.77.1.200", "fd00:77:1::200"]) {
      const { status, stderr } = await runToEnd(["ip", "-n", node.netns.name, "route", "get", nobodys]);
      expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringContaining("No route to host") });
    }
  });

  test("forwards both families, and its uplink goes on listening to router advertisements", async () => {
    expect(await sysctl(node.netns, "ipv4/ip_forward")).toBe("1");
    expect(await sysctl(node.netns, "ipv6/conf/all/forwarding")).toBe("1");
    expect(await sysctl(node.netns, "ipv6/conf/uplink/accept_ra")).toBe("2");
  });

  test("logs one JSON object a line, each with its time, level and node", async () => {
    expect(node.log().length).toBeGreaterThan(0);
    for (const line of node.log()) {
      expect(line).toMatchObject({ time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/), node: "node-1" });
      expect(["trace", "debug", "info", "warn", "error", "fatal"]).toContain(line["level"]);
      expect(line["msg"]).toEqual(expect.any(String));
    }
  });

  test("refuses a second daemon on its state directory, which says who holds it", async () => {
    const other = join(node.directory, "other.sock");
    const { status, stdout } = await runDaemon(node, node.flags("--socket", other));
    expect(status).toBe(1);
    const last = parseLog(stdout).at(-1);
    expect(last).toMatchObject({ level: "fatal", msg: expect.stringContaining(`process ${node.daemon.pid} `) });
    expect(last?.["msg"]).toContain(node.stateDir);
    expect(existsSync(other)).toBe(false);
    expect((await node.allocations()).allocations).toEqual([]);
  });

  test("refuses a second daemon on its socket, which changes nothing", async () => {
    const before = await allRoutes(node.netns);
    const peers = join(node.directory, "no-peers.yaml");
    writeFileSync(peers, "nodes: []\n");
    const other = ["--state-dir", join(node.directory, "other-state"), "--peers", peers];
    const { status, stdout } = await runDaemon(node, node.flags(...other));
    expect(status).toBe(1);
    expect(await allRoutes(node.netns)).toEqual(before);
    expect(parseLog(stdout).at(-1)?.["msg"]).toContain(node.socket);
    expect((await node.allocations()).allocations).toEqual([]);
  });
});

describe.runIf(canUseKernel())("the peers file", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    ({ node } = await createSite(cleanup, peersText(NODE, PEER_2)));
    await node.start();
  });

  afterEach(async () => {
    writeFileSync(node.peersFile, peersText(NODE, PEER_2));
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(PEER_2)]);
  });

  afterAll(() => cleanup.run());

  test("that is written over: the routes follow", async () => {
    writeFileSync(node.peersFile, peersText(NODE, PEER_3));
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(PEER_3)]);
  });

  test("that is replaced by a rename: the routes follow", async () => {
    writeFileSync(`${node.peersFile}.new`, peersText(NODE, PEER_2, PEER_3));
    renameSync(`${node.peersFile}.new`, node.peersFile);
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(PEER_2), ...routesTo(PEER_3)]);
  });

  test("with another address for a peer: its routes move", async () => {
    const moved = { ...PEER_2, addresses: PEER_3.addresses };
    writeFileSync(node.peersFile, peersText(NODE, moved));
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(moved)]);
  });

  test("that breaks changes nothing, is complained of with field and value, and heals", async () => {
    const before = await allRoutes(node.netns);
    const from = node.log().length;
    writeFileSync(node.peersFile, peersText(NODE, { ...PEER_3, podCIDRs: ["10.77.3.0/33"] }));
    await waitForLog(node, from, '"level":"error"', "nodes.1 (node-3).podCIDRs.0", "10.77.3.0/33");
    expect(await allRoutes(node.netns)).toEqual(before);
    const broken = node.log().length;
    writeFileSync(node.peersFile, peersText(NODE, PEER_3));
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(PEER_3)]);
    await waitForLog(node, broken, "in order again");
  });

  test("that vanishes changes nothing until it is back", async () => {
    const before = await allRoutes(node.netns);
    const from = node.log().length;
    rmSync(node.peersFile);
    await waitForLog(node, from, '"level":"error"', node.peersFile);
    expect(await allRoutes(node.netns)).toEqual(before);
  });

  test("with a peer that is not on the link: its routes fail and are named, all others are there", async () => {
    const far = {
      name: "far",
      addresses: ["198.51.100.9", "fd00:39::9"],
      podCIDRs: ["10.77.9.0/24", "fd00:77:9::/64"],
    };
    const from = node.log().length;
    writeFileSync(node.peersFile, peersText(NODE, PEER_2, far, PEER_3));
    const line = await waitForLog(node, from, '"level":"error"', "10.77.9.0/24 via 198.51.100.9");
    expect(line).toContain("fd00:77:9::/64 via fd00:39::9");
    expect(line).not.toContain("10.77.2.0");
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(PEER_2), ...routesTo(PEER_3)]);
  });
});

describe.runIf(canUseKernel())("subnets that can't be where the peers file says", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    ({ node } = await createSite(cleanup, peersText(NODE, PEER_2)));
    await node.start();
  });

  afterAll(() => cleanup.run());

  test.each<[what: string, nodes: object[], words: string[]]>([
    ["two next hops of a family", [{ ...PEER_2, addresses: ["172.31.0.2", "172.31.0.4"] }], ["node-2 has 2 IPv4"]],
    ["no next hop of a family", [{ ...PEER_2, addresses: [] }], ["node-2", "fd00:77:2::/64", "no IPv6 address"]],
    ["a foreign subnet", [{ ...PEER_2, podCIDRs: ["127.0.0.0/16"] }], ["node-2", "127.0.0.0/16", "foreign"]],
    ["everything as a subnet", [{ ...PEER_2, podCIDRs: ["0.0.0.0/0"] }], ["node-2", "0.0.0.0/0"]],
    [
      "two peers' subnets that overlap",
      [PEER_2, { ...PEER_2, name: "node-4", podCIDRs: ["10.77.2.128/25", "fd00:77:2::/64"] }],
      ["10.77.2.0/24 of node-2 overlaps 10.77.2.128/25 of node-4", "fd00:77:2::/64"],
    ],
    [
      "a peer's subnet inside our own",
      [{ ...PEER_2, podCIDRs: ["10.77.1.64/26"] }],
      ["10.77.1.0/24 of node-1 overlaps 10.77.1.64/26 of node-2"],
    ],
    [
      "a node's address inside a subnet",
      [{ ...PEER_2, podCIDRs: ["172.31.0.0/24"] }],
      ["172.31.0.0/24 of node-2 contains the address of node node-1"],
    ],
  ])("%s: those are refused by name, and all others have their routes", async (_what, nodes, words) => {
    const from = node.log().length;
    writeFileSync(node.peersFile, peersText(NODE, PEER_3, ...nodes));
    await waitForLog(node, from, '"level":"error"', ...words);
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(PEER_3)]);
    writeFileSync(node.peersFile, peersText(NODE, PEER_2));
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(PEER_2)]);
  });

  test("are none of the reasons not to start", async () => {
    await node.stop();
    writeFileSync(node.peersFile, peersText({ ...NODE, podCIDRs: ["10.88.0.0/24"] }, PEER_2, PEER_3));
    await node.start();
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(PEER_2), ...routesTo(PEER_3)]);
    await waitForLog(node, 0, '"level":"error"', "node-1 is this one and has 10.77.1.0/24", "10.88.0.0/24");
  });
});

describe.runIf(canUseKernel())("a peers file that is wrong at the start", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    ({ node } = await createSite(cleanup, ""));
  });

  afterAll(() => cleanup.run());

  test.each<[string, string, string[]]>([
    ["no YAML", "nodes: [", ["YAML"]],
    ["no map", "[]", ["nodes"]],
    ["nothing in it", "", ["the file"]],
    ["no nodes", "{}", ["nodes"]],
    ["a key that nobody knows", peersText({ ...PEER_2, podCidr: "10.77.2.0/24" }), ["podCidr"]],
    ["a name that is none", peersText({ ...PEER_2, name: "Node 2" }), ["nodes.0.name", "Node 2"]],
    ["a name that is a number", peersText({ ...PEER_2, name: 2 }), ["nodes.0.name", "2"]],
    ["a name twice", peersText(PEER_2, { ...PEER_3, name: "node-2" }), ["node-2", "twice"]],
    ["an address that is none", peersText({ ...PEER_2, addresses: ["172.31.0"] }), ["addresses.0", "172.31.0"]],
    ["a subnet with host bits", peersText({ ...PEER_2, podCIDRs: ["10.77.2.1/24"] }), ["podCIDRs.0", "10.77.2.1/24"]],
    ["a subnet that is none", peersText({ ...PEER_2, podCIDRs: ["10.77.2.0"] }), ["podCIDRs.0", "10.77.2.0"]],
  ])("%s: the daemon refuses to start and leaves nothing in kernel or store", async (_what, text, words) => {
    const before = [await allRoutes(node.netns), await nftTables(node.netns)];
    writeFileSync(node.peersFile, text);
    const { status, stdout, stderr } = await runDaemon(node, node.flags());
    expect({ status, stderr }).toEqual({ status: 1, stderr: "" });
    const last = parseLog(stdout).at(-1);
    expect(last).toMatchObject({ level: "fatal" });
    for (const word of words) expect(last?.["msg"]).toContain(word);
    expect([await allRoutes(node.netns), await nftTables(node.netns)]).toEqual(before);
    expect(await sysctl(node.netns, "ipv4/ip_forward")).toBe("0");
    expect(await sysctl(node.netns, "ipv6/conf/all/forwarding")).toBe("0");
    expect(existsSync(node.stateDir)).toBe(false);
    expect(existsSync(node.socket)).toBe(false);
  });
});

describe.runIf(canUseKernel())("routes that are there before the daemon", () => {
  test("a stale one of a node that is gone is swept; host routes of pods stay; nothing foreign is touched", async () => {
    const { node } = await newSite(peersText(NODE, PEER_2));
    const add = (...args: string[]) => node.netns.ip("route", "add", ...args);
    await add("10.77.66.0/24", "via", "172.31.0.66", "proto", PROTOCOL);
    await add("fd00:77:66::/64", "via", "fd00:31::66", "proto", PROTOCOL);
    await add("unreachable", "10.77.67.0/24", "proto", PROTOCOL);
    await add("10.77.1.9/32", "dev", "uplink", "proto", PROTOCOL);
    await add("fd00:77:1::9/128", "dev", "uplink", "proto", PROTOCOL);
    await add("10.99.0.0/16", "via", "172.31.0.99", "proto", "static");
    await add("fd00:99::/48", "via", "fd00:31::99", "proto", "static");
    const foreign = (await allRoutes(node.netns)).filter(({ protocol }) => protocol !== PROTOCOL);
    await node.start();
    expect((await ourRoutes(node.netns)).sort()).toEqual(
      [...OWN_ROUTES, ...routesTo(PEER_2), "10.77.1.9 dev uplink", "fd00:77:1::9 dev uplink"].sort(),
    );
    expect((await allRoutes(node.netns)).filter(({ protocol }) => protocol !== PROTOCOL)).toEqual(foreign);
  });

  test("a wrong one to a peer that is there is put right", async () => {
    const { node } = await newSite(peersText(NODE, PEER_2));
    await node.netns.ip("route", "add", "10.77.2.0/24", "via", "172.31.0.66", "proto", PROTOCOL);
    await node.netns.ip("route", "add", "fd00:77:2::/64", "via", "fd00:31::66", "proto", PROTOCOL);
    await node.netns.ip("route", "add", "unreachable", "10.77.3.0/24", "proto", PROTOCOL);
    await node.start();
    expect((await ourRoutes(node.netns)).sort()).toEqual([...OWN_ROUTES, ...routesTo(PEER_2)].sort());
  });

  test("a foreign one to a peer's subnet is never changed, and the conflict is reported", async () => {
    const { node } = await newSite(peersText(NODE, PEER_2, PEER_3));
    const foreign = ["10.77.3.0/24 via 172.31.0.99", "fd00:77:3::/64 via fd00:31::99"];
    await node.netns.ip("route", "add", "10.77.3.0/24", "via", "172.31.0.99", "proto", "static");
    await node.netns.ip("route", "add", "fd00:77:3::/64", "via", "fd00:31::99", "proto", "static", "metric", "1024");
    await node.start();
    const line = await waitForLog(node, 0, '"level":"error"', "10.77.3.0/24 via 172.31.0.3", "EEXIST");
    expect(line).toContain("fd00:77:3::/64 via fd00:31::3");
    expect((await ourRoutes(node.netns)).sort()).toEqual([...OWN_ROUTES, ...routesTo(PEER_2)].sort());
    const there = (await allRoutes(node.netns)).filter(({ protocol }) => protocol === "4").map(inWords);
    expect(there).toEqual(foreign);

    // And once it is gone, ours takes its place at the next pass.
    await node.netns.ip("route", "delete", "10.77.3.0/24");
    await node.netns.ip("-6", "route", "delete", "fd00:77:3::/64");
    await waitForRoutes(node.netns, [...OWN_ROUTES, ...routesTo(PEER_2), ...routesTo(PEER_3)]);
  });

  test("a foreign one to the node's own subnet comes first, and ours stands behind it", async () => {
    const { node } = await newSite(peersText(NODE, PEER_2));
    await node.netns.ip("route", "add", OWN[0], "via", "172.31.0.99", "proto", "static");
    await node.start();
    expect(await node.netns.ip("route", "get", "10.77.1.200")).toContain("via 172.31.0.99");
    expect((await ourRoutes(node.netns)).sort()).toEqual([...OWN_ROUTES, ...routesTo(PEER_2)].sort());
    expect((await allRoutes(node.netns)).map(inWords)).toContain(`${OWN[0]} via 172.31.0.99`);
    expect((await node.allocations()).allocations).toEqual([]);
  });
});

describe.runIf(canUseKernel())("anti-spoofing", () => {
  const cleanup = new Cleanup();
  let site: Site;

  beforeAll(async () => {
    site = await createSite(cleanup, peersText(NODE, PEER_2));
    for (const cidr of OWN)
      await site.fabric.ip("route", "add", cidr, "via", cidr.includes(":") ? "fd00:31::1" : "172.31.0.1");
  });

  afterEach(async () => {
    await site.node.stop();
  });

  afterAll(() => cleanup.run());

  async function changeAddress(verb: "add" | "delete", { netns }: Pod, address: string): Promise<void> {
    const [length, ...nodad] = address.includes(":") ? ["128", ...(verb === "add" ? ["nodad"] : [])] : ["32"];
    await netns.ip("address", verb, `${address}/${length}`, "dev", "eth0", ...nodad);
  }

  /**
   * What arrives at a neighbouring pod, at the node and outside when a pod sends from its own addresses, from addresses
   * nobody has, from another pod's and from the node's.
   */
  async function arrivals(): Promise<Record<string, string[]>> {
    const { node, fabric } = site;
    const own = new Cleanup();
    try {
      const [sender, victim, neighbour] = [await newPod(), await newPod(), await newPod()];
      const [mine, victims, neighbours] = [
        addressesOf(resultOf(await node.add(sender))),
        addressesOf(resultOf(await node.add(victim))),
        addressesOf(resultOf(await node.add(neighbour))),
      ];
      for (const pod of [sender, victim, neighbour]) own.add(() => node.del(pod));
      const foreign = { nobody: ["10.66.6.6", "fd66::6"], victim: victims, node: NODE.addresses };
      const names = new Map<string, string>();
      for (const [name, addresses] of Object.entries({ own: mine, ...foreign })) {
        for (const address of addresses) names.set(address, `${name} ${address.includes(":") ? "v6" : "v4"}`);
      }
      const found: Record<string, string[]> = {};
      const targets = {
        neighbour: { netns: neighbour.netns.path, addresses: neighbours },
        outside: { netns: fabric.path, addresses: PEER_2.addresses },
        node: { netns: node.netns.path, addresses: NODE.addresses },
      };
      for (const [target, { netns, addresses }] of Object.entries(targets)) {
        const mailbox = await openMailbox(netns, own);
        // A pod that has the receiver's address would talk to itself.
        const lists = Object.values(foreign).filter((list) => list !== addresses);
        for (const address of lists.flat()) await changeAddress("add", sender, address);
        // The own addresses last: when those are there, whatever else was to come has come.
        const datagrams = [...lists, mine].flatMap((list) =>
          list.map((from, i) => ({ from, to: addresses[i] ?? "", port: mailbox.port, text: from })),
        );
        await sendDatagrams(sender.netns.path, datagrams);
        await waitFor(() => mine.every((address) => mailbox.received().some(({ from }) => from === address)));
        found[target] = mailbox.received().map(({ from }) => names.get(from) ?? from);
        for (const address of lists.flat()) await changeAddress("delete", sender, address);
      }
      return found;
    } finally {
      await own.run();
    }
  }

  test("lets a pod send from its own addresses only", async () => {
    await site.node.start();
    expect(await arrivals()).toEqual({
      neighbour: ["own v4", "own v6"],
      node: ["own v4", "own v6"],
      outside: ["own v4", "own v6"],
    });
    const rules = await nftTables(site.node.netns);
    expect(rules).toMatch(/table inet flatnet \{/);
    expect(rules).toMatch(
      /iifgroup & 65535 == 26220 fib saddr \. iif oif (missing|0) counter packets \d+ bytes \d+ drop/,
    );
  });

  test("switched off takes its table away, and a pod may send from any address", async () => {
    await site.node.start();
    expect(await nftTables(site.node.netns)).toContain("table inet flatnet");
    await site.node.stop();
    await site.node.start("--anti-spoof", "false");
    expect(await nftTables(site.node.netns)).toBe("");
    const { neighbour, outside } = await arrivals();
    expect(neighbour).toEqual(
      expect.arrayContaining(["nobody v4", "nobody v6", "victim v4", "victim v6", "own v4", "own v6"]),
    );
    expect(outside).toEqual(
      expect.arrayContaining(["nobody v4", "nobody v6", "victim v4", "victim v6", "own v4", "own v6"]),
    );
  });

  test("leaves other tables alone, on and off", async () => {
    const { node } = site;
    await run(inNetns(node.netns.path, "nft", "add table inet other { chain c { counter; }; }"));
    onTestFinished(() => run(inNetns(node.netns.path, "nft", "delete table inet other")).then(() => {}));
    for (const antiSpoof of ["true", "false"]) {
      await node.start("--anti-spoof", antiSpoof);
      expect(await nftTables(node.netns)).toContain("table inet other {");
      await node.stop();
    }
  });

  test("repairs its table at the start", async () => {
    const { node } = site;
    await node.start();
    const rules = withoutCounters(await nftTables(node.netns));
    await node.stop();
    await run(inNetns(node.netns.path, "nft", "flush chain inet flatnet antispoof"));
    await run(inNetns(node.netns.path, "nft", "add chain inet flatnet stale"));
    await node.start();
    expect(withoutCounters(await nftTables(node.netns))).toBe(rules);
  });
});

describe.runIf(canUseKernel())("the MTU of pods", () => {
  async function mtuOfNewPod(node: FlatnetNode): Promise<number[]> {
    const pod = await newPod();
    const { interfaces } = resultOf(await node.add(pod));
    const [{ mtu }] = JSON.parse(await pod.netns.ip("-json", "link", "show", "eth0"));
    const [host] = JSON.parse(await node.netns.ip("-json", "link", "show", interfaces[0]?.name ?? ""));
    await node.del(pod);
    return [mtu, host.mtu, ...interfaces.map((link) => link.mtu ?? 0)];
  }

  test("is that of the uplink to the peers, and follows it", async () => {
    const { node } = await newSite(peersText(NODE, PEER_2));
    await node.netns.ip("link", "set", "uplink", "mtu", "1400");
    await node.start();
    expect(await mtuOfNewPod(node)).toEqual([1400, 1400, 1400, 1400]);
    const from = node.log().length;
    await node.netns.ip("link", "set", "uplink", "mtu", "1380");
    await waitForLog(node, from, "MTU of new pods", "1380");
    expect(await mtuOfNewPod(node)).toEqual([1380, 1380, 1380, 1380]);
  });

  test("is that of the way out on a node without peers", async () => {
    const { node } = await newSite();
    await node.netns.ip("link", "set", "uplink", "mtu", "1420");
    await node.netns.ip("route", "add", "default", "via", "172.31.0.2");
    await node.start();
    expect(await mtuOfNewPod(node)).toEqual([1420, 1420, 1420, 1420]);
  });

  test("is what --mtu says", async () => {
    const { node } = await newSite(peersText(NODE, PEER_2), ["--mtu", "1300"]);
    await node.start();
    expect(await mtuOfNewPod(node)).toEqual([1300, 1300, 1300, 1300]);
  });
});

describe.runIf(canUseKernel())("a daemon that ends", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  let pods: [Pod, Pod];
  let addresses: [string[], string[]];

  beforeAll(async () => {
    ({ node } = await createSite(cleanup, peersText(NODE, PEER_2)));
    await node.start();
    pods = [await createPod("pod", cleanup), await createPod("pod", cleanup)];
    addresses = [addressesOf(resultOf(await node.add(pods[0]))), addressesOf(resultOf(await node.add(pods[1])))];
  });

  afterAll(() => cleanup.run());

  async function podsReachEachOther(): Promise<boolean> {
    const own = new Cleanup();
    try {
      const { tcp: port } = await startReceiver(pods[1].netns.path, own);
      const answers = await probe(
        pods[0].netns.path,
        addresses[1].map((address) => ({ protocol: "tcp", address, port })),
      );
      expect(answers).toEqual(addresses[0].map((address) => ({ local: address, seen: address })));
      return true;
    } finally {
      await own.run();
    }
  }

  const state = async () => [
    await allRoutes(node.netns),
    withoutCounters(await nftTables(node.netns)),
    // The uplink's own link-local address is tentative for its first second, whatever we do.
    (await node.netns.ip("address")).replace(/ tentative/g, ""),
  ];

  test.each(["SIGTERM", "SIGINT"] as const)(
    "by %s: exit status 0, no socket; routes, rules and pods stay",
    async (signal) => {
      const before = await state();
      const { daemon } = node;
      expect(await node.stop(signal)).toBe(0);
      expect(
        parseLog(daemon.output())
          .map(({ msg }) => msg)
          .slice(-2),
      ).toEqual(["stopping", "stopped"]);
      expect(existsSync(node.socket)).toBe(false);
      expect(await state()).toEqual(before);
      expect(await podsReachEachOther()).toBe(true);
      await node.start();
      expect(await state()).toEqual(before);
    },
  );

  test("by SIGKILL and is started again: records and kernel are as before, and the dead socket is replaced", async () => {
    const records = (await node.allocations()).allocations;
    const before = await state();
    await node.stop("SIGKILL");
    expect(existsSync(node.socket)).toBe(true);
    expect(await state()).toEqual(before);
    await node.start();
    expect((await node.allocations()).allocations).toEqual(records);
    expect(await state()).toEqual(before);
    expect(await podsReachEachOther()).toBe(true);
  });

  test("and comes back gives an attachment that lost its link the addresses it had", async () => {
    await node.stop("SIGKILL");
    for (const { ifname } of JSON.parse(await node.netns.ip("-json", "link")) as { ifname: string }[]) {
      if (ifname.startsWith("fl")) await node.netns.ip("link", "delete", ifname);
    }
    await node.start();
    for (const i of [0, 1] as const) expect(addressesOf(resultOf(await node.add(pods[i])))).toEqual(addresses[i]);
    expect(await podsReachEachOther()).toBe(true);
    expect((await node.traces()).records).toEqual(addresses.flat().sort());
  });
});

describe.runIf(canUseKernel())("the configuration", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    node = await createNode("config", cleanup, { podCidrs: [OWN[0]] });
  });

  afterEach(() => node.stop());

  afterAll(() => cleanup.run());

  const configFile = (text: string) => {
    const path = join(node.directory, "flatnetd.yaml");
    writeFileSync(path, text);
    return path;
  };

  const document = (more: object = {}) => ({
    nodeName: "from-the-file",
    podCIDRs: ["10.78.1.0/24"],
    stateDir: node.stateDir,
    socket: node.socket,
    peers: node.peersFile,
    logLevel: "debug",
    mtu: 1400,
    antiSpoof: false,
    coolDownSeconds: 0,
    ...more,
  });

  test("may come from a file with every flag as a key, and flags win", async () => {
    writeFileSync(node.peersFile, peersText());
    const config = configFile(JSON.stringify(document()));
    const started = async (...flags: string[]) => {
      const child = await startDaemon({
        argv: node.command("--config", config, ...flags),
        ready: (output) => output.includes('"msg":"serving"'),
      });
      onTestFinished(() => child.stop().then(() => {}));
      const { subnets } = await node.allocations();
      const pod = await newPod();
      const { interfaces, ips } = resultOf(await node.add(pod));
      await node.del(pod);
      const cooling = (await node.allocations()).subnets[0]?.cooling;
      await child.stop();
      const names = new Set(parseLog(child.output()).map((line) => line["node"]));
      const spoofable = !(await nftTables(node.netns)).includes("flatnet");
      return {
        names: [...names],
        cidr: subnets[0]?.cidr,
        mtu: interfaces[0]?.mtu,
        ips: ips.length,
        cooling,
        spoofable,
      };
    };
    expect(await started()).toEqual({
      names: ["from-the-file"],
      cidr: "10.78.1.0/24",
      mtu: 1400,
      ips: 1,
      cooling: 0,
      spoofable: true,
    });
    rmSync(node.stateDir, { recursive: true });
    const flags = [
      "--node-name",
      "from-the-flag",
      "--pod-cidr",
      "10.79.1.0/24",
      "--mtu",
      "1300",
      "--anti-spoof",
      "true",
    ];
    expect(await started(...flags, "--cool-down-seconds", "60")).toEqual({
      names: ["from-the-flag"],
      cidr: "10.79.1.0/24",
      mtu: 1300,
      ips: 1,
      cooling: 1,
      spoofable: false,
    });
  });

  test.each<[string[], string]>([
    [["--no-such-flag"], "--no-such-flag"],
    [["--mtu"], "--mtu"],
    [["--mtu", "--log-level"], "--mtu"],
    [["--mtu", "large"], "--mtu"],
    [["--mtu", "67"], "--mtu"],
    [["--mtu", "70000"], "--mtu"],
    [["--mtu=-1"], "--mtu"],
    [["--log-level", "loud"], "--log-level"],
    [["--anti-spoof", "maybe"], "--anti-spoof"],
    [["--cool-down-seconds", "soon"], "--cool-down-seconds"],
    [["--state-dir", "relative"], "--state-dir"],
    [["--socket", "relative"], "--socket"],
    [["--socket", `/${"s".repeat(120)}`], "--socket"],
    [["--peers", "relative"], "--peers"],
    [["--node-name", "Node 1"], "--node-name"],
    [["--node-name", ""], "--node-name"],
    [["--pod-cidr", "10.77.2.1/24"], "--pod-cidr"],
    [["--pod-cidr", "10.77.2.0"], "--pod-cidr"],
    [["--pod-cidr", "10.77.1.0/25"], "--pod-cidr"],
    [["--config", "/nonexistent/flatnetd.yaml"], "--config"],
    [["--config"], "--config"],
    [["surplus"], "surplus"],
  ])("%j is refused with exit status 2 and one line that names it", async (flags, name) => {
    const { status, stdout, stderr } = await runDaemon(node, [...node.flags(), ...flags]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(/^flatnetd: [^\n]+\n$/);
    expect(stderr).toContain(name);
  });

  test("without a name or a subnet is refused, and both are named", async () => {
    const { status, stderr } = await runDaemon(node, []);
    expect(status).toBe(2);
    expect(stderr).toContain("--node-name");
    expect(stderr).toContain("--pod-cidr");
    expect(stderr).toMatch(/^[^\n]+\n$/);
  });

  test.each<[string, string, string[]]>([
    ["no YAML", "nodeName: [", ["--config", "YAML"]],
    ["no map", "- nodeName", ["--config", "map"]],
    ["a key nobody knows", "nodename: a", ["nodename"]],
    ["a number for a name", "nodeName: 5", ["nodeName", "5"]],
    ["a text for a list", "podCIDRs: 10.77.1.0/24", ["podCIDRs", "10.77.1.0/24"]],
    ["a list in a list", "podCIDRs: [[]]", ["podCIDRs"]],
    ["a text for a number", 'mtu: "1500"', ["mtu", "1500"]],
    ["a text for a truth value", 'antiSpoof: "yes"', ["antiSpoof", "yes"]],
  ])("a file with %s is refused with exit status 2 and one line that names it", async (_what, text, words) => {
    const config = configFile(text);
    const { status, stdout, stderr } = await runDaemon(node, ["--config", config]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(/^flatnetd: [^\n]+\n$/);
    for (const word of words) expect(stderr).toContain(word);
  });

  test("that repairs is refused without the right to hear pods, which is named; one that doesn't serves", async () => {
    const deaf = ["setpriv", "--bounding-set=-net_broadcast", "--inh-caps=-net_broadcast", "--"];
    const { status, stdout } = await runToEnd([...deaf, ...node.command(...node.flags())]);
    expect(status).toBe(1);
    expect(parseLog(stdout).at(-1)).toMatchObject({
      level: "fatal",
      msg: expect.stringMatching(/CAP_NET_BROADCAST .*`repair: false`/),
    });
    const daemon = await startDaemon({
      argv: [...deaf, ...node.command(...node.flags("--repair", "false"))],
      ready: (output) => output.includes('"msg":"serving"'),
    });
    expect(await daemon.stop()).toBe(0);
  });

  test("--help prints the flags and exits with 0", async () => {
    const { status, stdout, stderr } = await runDaemon(node, ["--help"]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    for (const flag of ["--config", "--node-name", "--pod-cidr", "--state-dir", "--socket", "--peers", "--log-level"]) {
      expect(stdout).toContain(flag);
    }
  });
});
