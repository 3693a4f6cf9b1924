// SPDX-License-Identifier: Apache-2.0
//
// flatnet-ipam as the `ipam` of Debian's reference plugins, in real namespaces: the address comes from our daemon, the
// link from somebody else (CNI spec, section 4, "Plugin Delegation").

import { randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { newPod, reach } from "../helpers/attachments.ts";
import { Chain, type PluginEntry } from "../helpers/chain.ts";
import { Cleanup, type Finished, runToEnd } from "../helpers/daemon.ts";
import { startFakeDaemon } from "../helpers/fake-daemon.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel, inNetns } from "../helpers/netns.ts";
import { addressesOf, built, type CniResult, cniEnvironment, failureOf, type Pod } from "../helpers/plugin.ts";

const V4 = "10.79.1.0/24";
const V6 = "fd00:79:1::/64";
const FAMILIES = { v4: [V4], v6: [V6], dual: [V4, V6] } as const;
const ALL_VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
/** The newest version that Debian's plugins speak. */
const VERSION = "1.0.0";
const SILENCE: Finished = { status: 0, stdout: "", stderr: "" };

function ipamOf({ socket, journalDir }: FlatnetNode, more: object = {}): object {
  return { type: "flatnet-ipam", socket, journalDir, ...more };
}

/** Runs flatnet-ipam by itself, as a plugin that delegates to it would. */
function runIpam(
  node: FlatnetNode,
  verb: string,
  pod: Pod,
  { conf = {}, ipam = {}, env = {} }: { conf?: object; ipam?: object; env?: Record<string, string> } = {},
): Promise<Finished> {
  const input = JSON.stringify({
    cniVersion: "1.1.0",
    name: "tests",
    type: "bridge",
    ipam: ipamOf(node, ipam),
    ...conf,
  });
  const argv = inNetns(node.netns.path, built("flatnet-ipam"));
  return runToEnd(argv, { env: { ...cniEnvironment(verb, pod), ...env }, input });
}

/** What the daemon has given to pods, by container, and to networks as gateways. */
async function recordsOf(node: FlatnetNode) {
  const { allocations } = await node.allocations();
  const gateways = allocations.filter(({ attachment }) => attachment?.ifname === "");
  const pods = allocations.filter(({ attachment }) => attachment?.ifname !== "");
  return {
    gateways: gateways.flatMap(({ addresses }) => addresses).sort(),
    pods: pods.map(({ attachment }) => attachment?.containerId ?? "").sort(),
  };
}

/** A node whose daemon runs, for the tests of a group, each of which has to leave no pod's record and no link. */
function useNode(podCidrs: readonly string[]): () => FlatnetNode {
  const cleanup = new Cleanup();
  let node: FlatnetNode | undefined;
  beforeAll(async () => {
    node = await createNode("ipam", cleanup, { podCidrs });
    await node.start();
  });
  afterEach(async () => {
    const { pods } = await recordsOf(node as FlatnetNode);
    await (node as FlatnetNode).delAll();
    expect(pods).toEqual([]);
  });
  afterAll(() => cleanup.run());
  return () => node as FlatnetNode;
}

const familyOf = (address: string) => (address.includes(":") ? 6 : 4);
/** The gateway that a network gets in each of these subnets: the first address that can be had. */
const gatewayIn = (cidr: string) => cidr.replace(/0?\/\d+$/, "1");
const lengthIn = { 4: 24, 6: 64 } as const;

describe.runIf(canUseKernel()).each(Object.entries(FAMILIES))("flatnet-ipam with %s subnets", (_name, podCidrs) => {
  const node = useNode(podCidrs);
  const gateways = podCidrs.map(gatewayIn);

  test.each(ALL_VERSIONS)(
    "answers in %s with address, length and gateway, and DEL gives it back",
    async (cniVersion) => {
      const pod = await newPod();
      const conf = { cniVersion };
      const finished = await runIpam(node(), "ADD", pod, { conf, ipam: { routes: [{ dst: "0.0.0.0/0" }] } });
      expect(finished).toMatchObject({ status: 0, stderr: "" });
      const result = JSON.parse(finished.stdout);
      expect(result).not.toHaveProperty("interfaces");
      const { allocations } = await node().allocations();
      const own = allocations.find(({ attachment }) => attachment?.containerId === pod.containerId);
      const withLength = own?.addresses.map((address) => `${address}/${lengthIn[familyOf(address)]}`);
      const legacy = cniVersion === "0.1.0" || cniVersion === "0.2.0";
      const ips = legacy ? [result.ip4, result.ip6].filter((ip) => ip !== undefined) : result.ips;
      expect(ips.map((ip: { ip: string; address: string }) => (legacy ? ip.ip : ip.address))).toEqual(withLength);
      expect(ips.map((ip: { gateway: string }) => ip.gateway)).toEqual(gateways);
      if (!legacy) expect(result.routes).toEqual([{ dst: "0.0.0.0/0" }]);
      expect(own).toMatchObject({ hostIfname: "", netns: pod.netns.path });
      expect(await runIpam(node(), "DEL", pod, { conf })).toEqual(SILENCE);
      expect(await runIpam(node(), "DEL", pod, { conf })).toEqual(SILENCE);
      expect(await recordsOf(node())).toEqual({ gateways: [...gateways].sort(), pods: [] });
    },
  );

  /** A link for macvlan to stand on, which the other end keeps up. */
  async function newParent(): Promise<string> {
    await node().netns.ip("link", "add", "parent", "type", "veth", "peer", "name", "parent-end");
    onTestFinished(() =>
      node()
        .netns.ip("link", "delete", "parent")
        .then(() => {}),
    );
    await node().netns.ip("link", "set", "parent", "up");
    await node().netns.ip("link", "set", "parent-end", "up");
    return "parent";
  }

  const PLUGINS: [type: string, conf: () => Promise<object>][] = [
    ["bridge", async () => ({ bridge: "cni0", isDefaultGateway: true })],
    ["ptp", async () => ({})],
    ["macvlan", async () => ({ master: await newParent(), mode: "bridge" })],
  ];

  test.each(PLUGINS)("is the IPAM of %s: ADD, CHECK, DEL, and two pods reach each other", async (type, conf) => {
    onTestFinished(() => runToEnd(inNetns(node().netns.path, "ip", "link", "delete", "cni0")).then(() => {}));
    const plugin: PluginEntry = { type, ...(await conf()), ipam: ipamOf(node()) };
    const chain = new Chain(node().netns, VERSION, "tests", [plugin]);
    const pods = [await newPod(), await newPod()] as const;
    const results: CniResult[] = [];
    for (const pod of pods) results.push(await chain.add(pod));
    const addresses = results.map(addressesOf);
    expect(addresses.flat().map(familyOf)).toEqual([...podCidrs, ...podCidrs].map(familyOf));
    expect(new Set(addresses.flat()).size).toBe(2 * podCidrs.length);
    for (const { ips } of results) expect(ips.map(({ gateway }) => gateway)).toEqual(gateways);
    for (const gateway of gateways) expect(addresses.flat()).not.toContain(gateway);
    // ptp has no route to the other pod but by a default one, which nobody asked for.
    if (type !== "ptp") for (const address of addresses[1] ?? []) await reach(pods[0].netns, address);
    for (const pod of pods) expect(await chain.check(pod)).toEqual([SILENCE]);
    for (const pod of pods) expect(await chain.del(pod)).toEqual([SILENCE]);
    for (const pod of pods) expect(await chain.del(pod)).toEqual([SILENCE]);
    expect(await recordsOf(node())).toEqual({ gateways: [...gateways].sort(), pods: [] });
  });

  test("lets pods on a bridge reach the node by the gateway", async () => {
    onTestFinished(() => runToEnd(inNetns(node().netns.path, "ip", "link", "delete", "cni0")).then(() => {}));
    const plugin: PluginEntry = { type: "bridge", bridge: "cni0", isDefaultGateway: true, ipam: ipamOf(node()) };
    const chain = new Chain(node().netns, VERSION, "tests", [plugin]);
    const pod = await newPod();
    await chain.add(pod);
    for (const gateway of gateways) await reach(pod.netns, gateway);
    await chain.del(pod);
  });

  test("keeps a network's gateway over a restart of the daemon, and gives each network one of its own", async () => {
    const [pod, other] = [await newPod(), await newPod()];
    const gatewaysOf = async (name: string, it: Pod) => {
      const { ips } = JSON.parse((await runIpam(node(), "ADD", it, { conf: { name } })).stdout) as CniResult;
      await runIpam(node(), "DEL", it, { conf: { name } });
      return ips.map(({ gateway }) => gateway);
    };
    expect(await gatewaysOf("tests", pod)).toEqual(gateways);
    await node().stop();
    await node().start();
    expect(await gatewaysOf("tests", pod)).toEqual(gateways);
    const others = await gatewaysOf("others", other);
    expect(others.filter((address) => gateways.includes(address))).toEqual([]);
    expect(await gatewaysOf("others", other)).toEqual(others);
  });
});

describe.runIf(canUseKernel())("flatnet-ipam", () => {
  const node = useNode([V4, V6]);
  const del = (pod: Pod) => runIpam(node(), "DEL", pod);

  async function added(options: Parameters<typeof runIpam>[3] = {}) {
    const pod = await newPod();
    const finished = await runIpam(node(), "ADD", pod, options);
    expect(finished).toMatchObject({ status: 0, stderr: "" });
    return { pod, result: JSON.parse(finished.stdout) as CniResult };
  }

  test("gives the addresses that are asked for, routes of the ipam section and the network's dns", async () => {
    const conf = {
      runtimeConfig: { ips: ["10.79.1.77/24"], dns: { servers: ["192.0.2.53"] } },
      dns: { domain: "example" },
    };
    const routes = [{ dst: "192.0.2.0/24", gw: "10.79.1.1", mtu: 1300, table: 9 }];
    const { pod, result } = await added({ conf, ipam: { routes } });
    expect(addressesOf(result)).toContain("10.79.1.77");
    expect(result).toMatchObject({ routes, dns: { nameservers: ["192.0.2.53"], domain: "example" } });
    await del(pod);
  });

  test("asked again for one attachment gives the same", async () => {
    const { pod, result } = await added();
    expect(JSON.parse((await runIpam(node(), "ADD", pod)).stdout)).toEqual(result);
    await del(pod);
  });

  test("has the daemon keep the aliases, until it is asked with others", async () => {
    const aliasesOf = async (pod: Pod) =>
      (await node().allocations()).allocations.find(({ attachment }) => attachment?.containerId === pod.containerId)
        ?.aliases;
    const { pod } = await added({ conf: { runtimeConfig: { aliases: ["web_1", "DB.Prod"] } } });
    expect(await aliasesOf(pod)).toEqual(["web_1", "DB.Prod"]);
    await runIpam(node(), "ADD", pod, { conf: { runtimeConfig: { aliases: ["db"] } } });
    expect(await aliasesOf(pod)).toEqual(["db"]);
    await del(pod);
  });

  test("never gives the network's gateway to a pod, even when a pod asks for it", async () => {
    const { pod, result } = await added();
    const gateway = result.ips[0]?.gateway ?? "";
    const failure = failureOf(
      await runIpam(node(), "ADD", await newPod(), { conf: { runtimeConfig: { ips: [gateway] } } }),
    );
    expect(failure).toMatchObject({ code: 11 });
    expect(failure.details).toContain(`${gateway} is held by the gateway of network tests`);
    await del(pod);
  });

  test("CHECK is silent while the record stands, and tells of its loss and of another's result", async () => {
    const { pod, result } = await added();
    const check = (prevResult: object) => runIpam(node(), "CHECK", pod, { conf: { prevResult } });
    expect(await check(result)).toEqual(SILENCE);
    const foreign = failureOf(await check({ ...result, ips: result.ips.slice(0, 1) }));
    expect(foreign).toMatchObject({ code: 102 });
    expect(foreign.details).toContain(`the daemon has ${addressesOf(result)[1]} for this attachment`);
    await del(pod);
    expect(failureOf(await check(result))).toMatchObject({
      code: 102,
      details: "the daemon has no record of this attachment",
    });
    expect(failureOf(await runIpam(node(), "CHECK", pod))).toMatchObject({ code: 7 });
  });

  test("CHECK of the plugin that delegates fails with what flatnet-ipam says", async () => {
    onTestFinished(() => runToEnd(inNetns(node().netns.path, "ip", "link", "delete", "cni0")).then(() => {}));
    const plugin: PluginEntry = { type: "bridge", bridge: "cni0", isGateway: true, ipam: ipamOf(node()) };
    const chain = new Chain(node().netns, VERSION, "tests", [plugin]);
    const pod = await newPod();
    await chain.add(pod);
    await runIpam(node(), "DEL", pod);
    expect((await chain.check(pod))[0]?.stdout).toContain("the daemon has no record of this attachment");
    expect(await chain.del(pod)).toEqual([SILENCE]);
  });

  test("GC keeps what is listed, the network's gateway and other networks, and frees the rest", async () => {
    const [kept, gone] = [await added(), await added()];
    const other = await added({ conf: { name: "others" } });
    const list = [{ containerID: kept.pod.containerId, ifname: "eth0" }];
    const gc = (conf: object) =>
      runIpam(node(), "GC", kept.pod, { conf, env: { CNI_CONTAINERID: "", CNI_IFNAME: "" } });
    const { gateways } = await recordsOf(node());
    expect(await gc({ "cni.dev/valid-attachments": list })).toEqual(SILENCE);
    expect(await recordsOf(node())).toEqual({ gateways, pods: [kept.pod.containerId, other.pod.containerId].sort() });
    expect(failureOf(await gc({}))).toMatchObject({ code: 7 });
    expect(failureOf(await gc({ cniVersion: "1.0.0", "cni.dev/valid-attachments": [] }))).toMatchObject({ code: 1 });
    expect(await gc({ "cni.dev/attachments": [] })).toEqual(SILENCE);
    expect(await recordsOf(node())).toEqual({ gateways, pods: [other.pod.containerId] });
    for (const { pod } of [kept, gone]) expect(await del(pod)).toEqual(SILENCE);
    expect(await runIpam(node(), "DEL", other.pod, { conf: { name: "others" } })).toEqual(SILENCE);
  });

  test("STATUS is silent, and code 50 while the daemon is away", async () => {
    const pod = await newPod();
    expect(await runIpam(node(), "STATUS", pod)).toEqual(SILENCE);
    await node().stop();
    const failure = failureOf(await runIpam(node(), "STATUS", pod));
    await node().start();
    expect(failure).toMatchObject({ code: 50, details: expect.stringContaining(node().socket) });
    expect(failureOf(await runIpam(node(), "STATUS", pod, { conf: { cniVersion: "1.0.0" } }))).toMatchObject({
      code: 1,
    });
  });

  test("DEL leaves a note while the daemon is away, which releases the address when it comes", async () => {
    const { pod } = await added();
    await node().stop();
    const deleted = await del(pod);
    expect(deleted).toMatchObject({ status: 0, stdout: "" });
    expect(deleted.stderr).toMatch(/^flatnet-ipam DEL: .*left a note for it in /);
    const [note = ""] = readdirSync(node().journalDir);
    expect(JSON.parse(readFileSync(join(node().journalDir, note), "utf8"))).toMatchObject({
      network: "tests",
      containerId: pod.containerId,
      ifname: "eth0",
    });
    await node().start();
    expect((await recordsOf(node())).pods).toEqual([]);
    expect(readdirSync(node().journalDir)).toEqual([]);
  });

  test("DEL of the plugin that delegates succeeds while the daemon is away", async () => {
    onTestFinished(() => runToEnd(inNetns(node().netns.path, "ip", "link", "delete", "cni0")).then(() => {}));
    const chain = new Chain(node().netns, VERSION, "tests", [{ type: "bridge", bridge: "cni0", ipam: ipamOf(node()) }]);
    const pod = await newPod();
    await chain.add(pod);
    await node().stop();
    expect(await chain.del(pod)).toMatchObject([{ status: 0, stdout: "" }]);
    expect(readdirSync(node().journalDir)).toHaveLength(1);
    expect(await pod.netns.ip("-br", "link", "show")).not.toContain("eth0");
    await node().start();
    expect((await recordsOf(node())).pods).toEqual([]);
  });

  test("ADD is code 11 while the daemon is away", async () => {
    await node().stop();
    const failure = failureOf(await runIpam(node(), "ADD", await newPod(), { ipam: { connectWaitMs: 50 } }));
    await node().start();
    expect(failure).toMatchObject({ code: 11, details: expect.stringContaining(node().socket) });
  });

  test("ADD gives back what it was given without a gateway by a daemon that knows of none", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const socket = join(node().directory, `${randomUUID()}.sock`);
    const answer = {
      addresses: ["10.79.1.5"],
      mtu: 1500,
      existed: false,
      subnets: [],
      gateways: [],
      pool: "",
      bandwidth: undefined,
    };
    const fake = await startFakeDaemon(socket, { allocate: () => answer }, cleanup);
    const pod = await newPod();
    expect(failureOf(await runIpam(node(), "ADD", pod, { ipam: { socket } }))).toMatchObject({ code: 999 });
    expect(fake.released).toEqual([pod.containerId]);
  });

  test("ADD gives back what it was given by a daemon that knows of no pools, when the network names one", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const socket = join(node().directory, `${randomUUID()}.sock`);
    const lists = { addresses: ["10.79.1.5"], subnets: ["10.79.1.0/24"], gateways: ["10.79.1.1"] };
    const fake = await startFakeDaemon(
      socket,
      { allocate: () => ({ ...lists, mtu: 1500, existed: false, pool: "", bandwidth: undefined }) },
      cleanup,
    );
    const pod = await newPod();
    expect(failureOf(await runIpam(node(), "ADD", pod, { ipam: { socket, pool: "db" } }))).toMatchObject({
      code: 999,
      details: expect.stringContaining("the daemon is older than pools"),
    });
    expect(fake.released).toEqual([pod.containerId]);
  });

  test.each([
    ["flatnet-ipam", "flatnet", /^flatnet-ipam: CNI IPAM plugin/],
    ["flatnet", "flatnet-ipam", /^flatnet: CNI plugin/],
  ])("is what a symbolic link says: %s, whatever %s is", async (name, target, about) => {
    const directory = mkdtempSync(join(node().directory, "link-"));
    const path = join(directory, name);
    symlinkSync(built(target), path);
    expect((await runToEnd(inNetns(node().netns.path, path), { env: {} })).stderr).toMatch(about);
  });

  test.each([
    ["ipam", { ipam: 7 }, 7],
    ["socket", { ipam: { socket: 7 } }, 7],
    ["routes", { ipam: { routes: {} } }, 7],
    ["name", { name: "" }, 7],
  ])("a configuration whose %s is wrong is refused and named", async (key, conf, code) => {
    const failure = failureOf(await runIpam(node(), "ADD", await newPod(), { conf }));
    expect(failure).toMatchObject({ code });
    expect(failure.details).toContain(key);
  });

  test("VERSION answers with the versions that are supported", async () => {
    const finished = await runIpam(node(), "VERSION", await newPod(), { conf: { cniVersion: "1.0.0" } });
    expect(JSON.parse(finished.stdout)).toEqual({ cniVersion: "1.0.0", supportedVersions: ALL_VERSIONS });
  });
});

describe.runIf(canUseKernel())("a daemon from before Status", () => {
  test("is good enough for STATUS", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const node = await createNode("old", cleanup, { podCidrs: [V4] });
    const socket = join(node.directory, "old.sock");
    await startFakeDaemon(socket, { allocate: () => "silence" }, cleanup);
    expect(await runIpam(node, "STATUS", await newPod(), { ipam: { socket } })).toEqual(SILENCE);
  });
});
