// SPDX-License-Identifier: Apache-2.0
//
// Leaving: a node that had flatnet is what it was before, whatever flatnet did there and however it was ended.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { doomedLinkGroup } from "../../src/net/names.ts";
import { Cleanup, type Finished, run, runToEnd, startDaemon, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel, createNetns, inNetns, joinByCable } from "../helpers/netns.ts";
import { type NodeState, readNodeState } from "../helpers/node-state.ts";
import { built, cniEnvironment, createPod, type Pod, resultOf, runPlugin } from "../helpers/plugin.ts";

const POD_CIDRS = ["10.82.1.0/24", "fd00:82:1::/64"];
const PEERS = `nodes:
  - { name: node-1, addresses: [192.0.2.1, "2001:db8::1"], podCIDRs: [10.82.1.0/24, "fd00:82:1::/64"] }
  - { name: node-2, addresses: [192.0.2.2, "2001:db8::2"], podCIDRs: [10.82.2.0/24, "fd00:82:2::/64"] }
`;
const CONFLIST = "10-flatnet.conflist";
const WISHES = {
  runtimeConfig: {
    portMappings: [{ hostPort: 8081, containerPort: 80, protocol: "tcp" }],
    bandwidth: { ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 8_000_000, egressBurst: 800_000 },
  },
};

class LeavingNode {
  readonly node: FlatnetNode;
  /** The parent of what runtimes read, which isn't there before flatnet. */
  readonly cni: string;
  readonly cacheDir: string;
  #before: NodeState | undefined;

  constructor(node: FlatnetNode) {
    this.node = node;
    this.cni = join(node.directory, "cni");
    this.cacheDir = join(node.directory, "cache");
  }

  get binDir(): string {
    return join(this.cni, "bin");
  }

  get conflist(): string {
    return join(this.cni, "net.d", CONFLIST);
  }

  get plugin(): string {
    return join(this.binDir, "flatnet");
  }

  async remember(): Promise<void> {
    this.#before = await readNodeState(this.node.netns, [this.node.directory]);
  }

  async expectAsBefore(): Promise<void> {
    expect(await readNodeState(this.node.netns, [this.node.directory])).toEqual(this.#before);
  }

  async start(...flags: string[]): Promise<void> {
    await this.node.start("--cni-bin-dir", this.binDir, "--cni-conf-dir", join(this.cni, "net.d"), ...flags);
    await waitFor(() => existsSync(this.conflist));
  }

  /** As a runtime calls the plugin, by what is in its places. */
  verb(verb: string, pod: Pod, more: object = {}, env: Record<string, string> = {}): Promise<Finished> {
    const { name, cniVersions, plugins } = JSON.parse(readFileSync(this.conflist, "utf8"));
    const conf = JSON.stringify({ ...plugins[0], name, cniVersion: cniVersions.at(-1), ...more });
    return runPlugin(this.node.netns, { ...cniEnvironment(verb, pod), ...env }, conf, this.plugin);
  }

  command(...args: string[]): string[] {
    const flags = ["--state-dir", this.node.stateDir, "--cache-dir", this.cacheDir];
    return this.node.netns.command(built("flatnetctl"), "uninstall", ...flags, ...args);
  }

  uninstall(...args: string[]): Promise<Finished> {
    return runToEnd(this.command(...args));
  }

  /** What libcni remembers of an attachment until its DEL was a success (libcni/api.go, cachedInfo). */
  remembered(pod: Pod): string {
    const path = join(this.cacheDir, "results", `flatnet-${pod.containerId}-eth0`);
    mkdirSync(join(this.cacheDir, "results"), { recursive: true });
    writeFileSync(
      path,
      JSON.stringify({
        kind: "cniCacheV1",
        containerId: pod.containerId,
        config: readFileSync(this.conflist).toString("base64"),
        ifName: "eth0",
        networkName: "flatnet",
        netns: pod.netns.path,
        cniArgs: [
          ["K8S_POD_NAMESPACE", "tests"],
          ["K8S_POD_NAME", pod.netns.name],
        ],
      }),
    );
    return path;
  }
}

/** A node with an uplink, a peer at its other end, and settings of its own. */
async function createLeavingNode(cleanup: Cleanup): Promise<LeavingNode> {
  const node = await createNode("leave", cleanup, { podCidrs: POD_CIDRS, peers: PEERS });
  const peer = await createNetns("peer", cleanup);
  await joinByCable(
    { netns: node.netns, ifname: "uplink", addresses: ["192.0.2.1/24", "2001:db8::1/64"] },
    { netns: peer, ifname: "uplink", addresses: ["192.0.2.2/24", "2001:db8::2/64"] },
  );
  await node.netns.ip("link", "add", "router", "type", "bridge");
  // A new namespace forwards if the machine does.
  const settings = [
    ["ipv4/ip_forward", 0],
    ["ipv4/conf/all/accept_redirects", 0],
    ["ipv4/conf/router/forwarding", 1],
    ["ipv6/conf/all/forwarding", 0],
    ["ipv6/conf/router/forwarding", 1],
  ].map(([name, value]) => `echo ${value} > /proc/sys/net/${name}`);
  await run(inNetns(node.netns.path, "bash", "-ec", settings.join("; ")));
  for (const family of ["-4", "-6"]) await node.netns.ip(family, "rule", "add", "lookup", "170", "priority", "400");
  await node.netns.ip("rule", "add", "from", "203.0.113.9", "lookup", "100", "priority", "500");
  await node.netns.ip("route", "add", "203.0.113.0/24", "via", "192.0.2.2", "table", "100");
  const leaving = new LeavingNode(node);
  // The kernel's own link-local addresses come later than the links.
  await waitFor(async () => !(await node.netns.ip("-6", "address", "show")).includes("tentative"));
  await leaving.remember();
  return leaving;
}

async function oneWithPods(leaving: LeavingNode, cleanup: Cleanup): Promise<Pod[]> {
  const pods = [await createPod("one", cleanup), await createPod("two", cleanup)];
  for (const [i, pod] of pods.entries()) resultOf(await leaving.verb("ADD", pod, i === 0 ? WISHES : {}));
  resultOf(await leaving.verb("ADD", pods[0] as Pod, {}, { CNI_IFNAME: "net1" }));
  return pods;
}

async function end(leaving: LeavingNode, pods: readonly Pod[]): Promise<void> {
  for (const [i, pod] of pods.entries()) {
    expect(await leaving.verb("DEL", pod)).toMatchObject({ status: 0 });
    if (i === 0) expect(await leaving.verb("DEL", pod, {}, { CNI_IFNAME: "net1" })).toMatchObject({ status: 0 });
  }
}

describe.runIf(canUseKernel())("flatnetctl uninstall", () => {
  const EVERYTHING = ["--egress-masquerade", "true", "--probe-seconds", "1", "--metrics-address", "127.0.0.1:9470"];

  test.for<[what: string, config: string, signal: NodeJS.Signals]>([
    ["that was ended", "routes: { mode: static }", "SIGTERM"],
    ["that was killed", "routes: { mode: static, table: 170 }", "SIGKILL"],
    ["that spoke BGP", "routes: { mode: bgp }", "SIGTERM"],
  ])("leaves a node whose daemon had everything on, and %s, as it was before", async ([, config, signal]) => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const leaving = await createLeavingNode(cleanup);
    const directory = mkdtempSync(join(tmpdir(), "flatnet-conf-"));
    cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
    const file = join(directory, "flatnetd.yaml");
    writeFileSync(file, `${config}\n`);
    // A node that fails on the way leaves no BIRD behind.
    cleanup.add(() => leaving.uninstall("--force", "--stop-daemon"));
    await leaving.start(...EVERYTHING, "--config", file);
    await end(leaving, await oneWithPods(leaving, cleanup));
    await leaving.node.stop(signal);
    const left = await leaving.uninstall();
    expect(left).toMatchObject({ status: 0, stderr: "" });
    expect(left.stdout.includes("BIRD: ended")).toBe(config.includes("bgp"));
    await leaving.expectAsBefore();
    const again = await leaving.uninstall();
    expect(again).toMatchObject({ status: 0, stdout: expect.stringContaining("routes: nothing there") });
    await leaving.expectAsBefore();
  });

  test("that is killed on the way is finished by the next one", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const leaving = await createLeavingNode(cleanup);
    await leaving.start(...EVERYTHING);
    await end(leaving, await oneWithPods(leaving, cleanup));
    await leaving.node.stop();
    // What an interface in the node's own namespace would have, and what an earlier configuration's table has.
    for (const [family, address] of [
      ["-4", "10.82.1.9"],
      ["-6", "fd00:82:1::9"],
    ] as const) {
      const rule = ["from", address, "lookup", "1073741900", "priority", "26220", "protocol", "70"];
      await leaving.node.netns.ip(family, "rule", "add", ...rule);
    }
    await leaving.node.netns.ip("route", "add", "10.82.9.0/24", "via", "192.0.2.2", "table", "300", "protocol", "70");
    for (const step of ["conflist:", "routes:", "sysctls:"]) {
      const half = await startDaemon({ argv: leaving.command(), ready: (output) => output.includes(step) }).catch(
        () => undefined,
      );
      await half?.stop("SIGKILL");
    }
    expect(await leaving.uninstall()).toMatchObject({ status: 0, stderr: "" });
    await leaving.expectAsBefore();
  });

  test("refuses while a daemon has the state, and ends it when it is told to", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const leaving = await createLeavingNode(cleanup);
    await leaving.start();
    const during = await readNodeState(leaving.node.netns, [leaving.cni]);
    const refused = await leaving.uninstall();
    expect(refused).toMatchObject({ status: 1, stdout: "" });
    expect(refused.stderr).toContain(`process ${leaving.node.daemon.pid}`);
    const elsewhere = ["--state-dir", join(leaving.node.directory, "none"), "--socket", leaving.node.socket];
    expect(await leaving.uninstall(...elsewhere)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("the daemon of another state directory"),
    });
    expect(await readNodeState(leaving.node.netns, [leaving.cni])).toEqual(during);
    expect(await leaving.uninstall("--stop-daemon")).toMatchObject({
      status: 0,
      stdout: expect.stringContaining(`daemon: process ${leaving.node.daemon.pid} is ended`),
    });
    await leaving.expectAsBefore();
  });

  test("refuses while pods run, and names them; by force they lose their network, and their late DELs are successes", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const leaving = await createLeavingNode(cleanup);
    await leaving.start(...EVERYTHING);
    const [one, two] = (await oneWithPods(leaving, cleanup)) as [Pod, Pod];
    const remembered = [leaving.remembered(one), leaving.remembered(two)];
    await leaving.node.stop();
    const refused = await leaving.uninstall();
    expect(refused).toMatchObject({ status: 1, stdout: "" });
    for (const { netns } of [one, two]) expect(refused.stderr).toContain(`tests/${netns.name}`);
    expect((await leaving.node.tracesWithoutDaemon()).links).toHaveLength(3);

    // As a daemon leaves one that is killed between the marking of a link and its deletion.
    const [begun = ""] = [
      ...(await leaving.node.netns.ip("-o", "link", "show", "group", "26220")).matchAll(/: (fl\w+)@/g),
    ].map(([, name]) => name);
    await leaving.node.netns.ip("link", "set", begun, "group", `${doomedLinkGroup(1)}`);

    const forced = await leaving.uninstall("--force");
    expect(forced).toMatchObject({ status: 1, stderr: "" });
    expect((await leaving.node.tracesWithoutDaemon()).links).toEqual([]);
    expect(existsSync(leaving.node.stateDir)).toBe(false);
    const second = ["--cni-bin-dir", leaving.binDir, "--cni-conf-dir", join(leaving.cni, "net.d")];
    expect(forced.stdout).toContain(`flatnetctl uninstall ${second.join(" ")}`);

    for (const pod of [one, two]) {
      for (let times = 0; times < 2; times++) {
        const deleted = await leaving.verb("DEL", pod);
        expect(deleted).toMatchObject({ status: 0, stdout: "" });
        expect(deleted.stderr).not.toContain("not found");
      }
    }
    expect(await leaving.uninstall(...second)).toMatchObject({ status: 1 });
    for (const path of remembered) rmSync(path);
    expect(await leaving.uninstall(...second)).toMatchObject({ status: 0, stderr: "" });
    rmSync(leaving.cacheDir, { recursive: true });
    // Only the directories that flatnet made, which nobody has written down any more.
    for (const path of [leaving.plugin, leaving.conflist]) expect(existsSync(path)).toBe(false);
    rmSync(leaving.cni, { recursive: true });
    await leaving.expectAsBefore();
  });

  test("takes the conflist away at once where another network takes over, and keeps the plugin for its pods", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const leaving = await createLeavingNode(cleanup);
    await leaving.start();
    const pod = await createPod("late", cleanup);
    resultOf(await leaving.verb("ADD", pod));
    leaving.remembered(pod);
    await leaving.node.stop();
    const other = join(leaving.cni, "net.d", "20-other.conflist");
    writeFileSync(other, "{}");
    expect(await leaving.uninstall("--force")).toMatchObject({ status: 1 });
    expect([leaving.conflist, leaving.plugin, other].map((path) => existsSync(path))).toEqual([false, true, true]);
  });

  test("leaves sysctls and conflists that are somebody else's by now", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const leaving = await createLeavingNode(cleanup);
    await leaving.start();
    await leaving.node.stop();
    await run(inNetns(leaving.node.netns.path, "bash", "-ec", "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding"));
    writeFileSync(leaving.conflist, '{"plugins":[{"type":"bridge"}]}');
    const { status, stdout } = await leaving.uninstall();
    expect(status).toBe(0);
    expect(stdout).toContain("net.ipv6.conf.all.forwarding is 0, which is not flatnet's, and left");
    expect(stdout).toContain(`${leaving.conflist} is not flatnet's any more, and left`);
    expect(existsSync(leaving.conflist)).toBe(true);
  });

  test("does every step though one fails, keeps what it has to know, and is finished by the next run", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const leaving = await createLeavingNode(cleanup);
    await leaving.start(...EVERYTHING);
    await leaving.node.stop();
    rmSync(leaving.plugin);
    mkdirSync(leaving.plugin);
    const failed = await leaving.uninstall();
    expect(failed).toMatchObject({ status: 1, stderr: expect.stringContaining("1 step failed") });
    expect(failed.stdout).toContain("plugin: FAILED: ");
    expect(existsSync(leaving.conflist)).toBe(false);
    rmdirSync(leaving.plugin);
    expect(await leaving.uninstall()).toMatchObject({ status: 0, stderr: "" });
    await leaving.expectAsBefore();
  });

  test("needs no database that can be read, and gives an adoption's sysctls back", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const leaving = await createLeavingNode(cleanup);
    await leaving.start();
    await leaving.node.stop();
    writeFileSync(join(leaving.node.stateDir, "ipam.db", "CURRENT"), "nothing");
    const proxyArp = "/proc/sys/net/ipv4/conf/router/proxy_arp";
    await run(inNetns(leaving.node.netns.path, "bash", "-ec", `echo 1 > ${proxyArp}`));
    const sysctls = [{ path: proxyArp, before: "0", after: "1" }];
    const report = { version: 1, id: "x", adopted: [], gateways: [], sysctls };
    writeFileSync(join(leaving.node.stateDir, "adoption-x.json"), JSON.stringify(report));
    writeFileSync(join(leaving.node.stateDir, "adoption-y.json"), "{");
    const { status, stdout } = await leaving.uninstall();
    expect(stdout).toContain("records: they can't be read");
    expect(stdout).toContain("net.ipv4.conf.router.proxy_arp=0, ");
    expect(stdout).toContain("adoption-y.json");
    expect(status).toBe(0);
    await leaving.expectAsBefore();
  });
});
