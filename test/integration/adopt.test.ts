// SPDX-License-Identifier: Apache-2.0
//
// A node whose pods were made by Debian's ptp or bridge with host-local, taken over by `flatnetctl adopt` while they run:
// connections stay open, new pods come from flatnet, and the old ones are deleted through flatnet's configuration.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Chain } from "../helpers/chain.ts";
import { Cleanup, type Daemon, type Finished, runToEnd, waitFor } from "../helpers/daemon.ts";
import { goesOn, reachEcho, serveEcho, talk } from "../helpers/echo.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { addressesOf, built, createPod, type Pod, resultOf } from "../helpers/plugin.ts";

const SILENCE: Finished = { status: 0, stdout: "", stderr: "" };
const PORT = 7007;
const V4 = "10.79.6.0/24";
const V6 = "fd00:79:6::/64";

const OLD_PLUGINS: [type: string, conf: object, cidrs: string[]][] = [
  ["ptp", {}, [V4, V6]],
  // New pods are behind no bridge, and only for IPv4 the node can answer for them.
  ["bridge", { bridge: "cni0", isGateway: true }, [V4]],
];

describe.runIf(canUseKernel()).each(OLD_PLUGINS)("a node with pods of %s and host-local", (type, conf, cidrs) => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  let old: Chain;
  let dataDir: string;
  let known: Pod;
  let unknown: Pod;
  const addresses = new Map<Pod, string[]>();
  let talkers: Daemon[];

  const adopt = (...args: string[]): Promise<Finished> =>
    runToEnd(node.netns.command(built("flatnetctl"), "adopt", ...args, "--socket", node.socket));
  const adoptHostLocal = (...args: string[]): Promise<Finished> => {
    const cacheDir = join(node.directory, "cache");
    return adopt("host-local", "--data-dir", dataDir, "--network", "tests", "--cache-dir", cacheDir, ...args);
  };
  const addressOf = (pod: Pod) => addresses.get(pod)?.[0] ?? "";
  const held = async () => (await node.allocations()).allocations.flatMap((one) => one.addresses).sort();
  const proxyArp = async () =>
    (await runToEnd(node.netns.command("cat", "/proc/sys/net/ipv4/conf/cni0/proxy_arp"))).stdout.trim();

  beforeAll(async () => {
    node = await createNode("adopt", cleanup, { podCidrs: cidrs });
    await node.start();
    dataDir = join(node.directory, "networks", "old");
    const ranges = cidrs.map((subnet) => [{ subnet }]);
    const routes = cidrs.map((cidr) => ({ dst: cidr.includes(":") ? "::/0" : "0.0.0.0/0" }));
    const ipam = { type: "host-local", dataDir: join(node.directory, "networks"), ranges, routes };
    old = new Chain(node.netns, "1.0.0", "old", [{ type, ...conf, ipam }]);
    [known, unknown] = [await createPod("known", cleanup), await createPod("unknown", cleanup)];
    for (const pod of [known, unknown]) {
      addresses.set(pod, addressesOf(await old.add(pod)));
      await serveEcho(pod.netns, PORT, cleanup);
    }
    // What libcni keeps of an attachment; of the other one it has lost it.
    mkdirSync(join(node.directory, "cache", "results"), { recursive: true });
    writeFileSync(
      join(node.directory, "cache", "results", `old-${known.containerId}-eth0`),
      JSON.stringify({
        kind: "cniCacheV1",
        cniArgs: [
          ["K8S_POD_NAMESPACE", "default"],
          ["K8S_POD_NAME", "known"],
        ],
        result: { interfaces: [{ name: "eth0", sandbox: known.netns.path }] },
      }),
    );
    // Before, during and after: from the node to each, and between them, in every family.
    talkers = await Promise.all(
      [...addresses].flatMap(([pod, own]) =>
        own.flatMap((address) => [
          talk(node.netns, address, PORT, cleanup),
          talk(pod === known ? unknown.netns : known.netns, address, PORT, cleanup),
        ]),
      ),
    );
  });
  afterAll(async () => {
    await node.delAll();
    await cleanup.run();
  });

  /** A dry run says what there is to do, and does nothing. */
  async function dryRun(): Promise<void> {
    const { status, stdout, stderr } = await adoptHostLocal();
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain(`${dataDir}, for network tests:`);
    expect(stdout).toMatch(new RegExp(`take over {2}${addresses.get(known)?.join(",")} +default/known +t-known-`));
    expect(stdout).toMatch(new RegExp(`take over {2}${addresses.get(unknown)?.join(",")} +- +t-unknown-`));
    expect(stdout).toMatch(/take over {2}10\.79\.6\.1 +the node's own, on /);
    expect(stdout).toContain("Nothing has been done; --yes does it.");
    expect(await held()).toEqual([]);
    if (type === "bridge") expect(await proxyArp()).toBe("0");
  }

  /** Taking over keeps every connection, and the addresses are the old pods'. */
  async function takeOver(): Promise<void> {
    const before = readdirSync(dataDir).sort();
    const report = join(node.directory, "report.json");
    const { status, stdout, stderr } = await adoptHostLocal("--yes", "--report", report);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain("Taken over: 2 attachments and");
    expect(readdirSync(dataDir).sort()).toEqual(before);
    expect(statSync(report).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(report, "utf8"))).toMatchObject({ version: 1, network: "tests", failed: [] });
    expect(await held()).toEqual(expect.arrayContaining([...addresses.values()].flat()));
    const { allocations } = await node.allocations();
    const source = `host-local ${dataDir}`;
    expect(allocations.find((one) => one.attachment?.containerId === known.containerId)).toMatchObject({
      pod: { namespace: "default", name: "known" },
      netns: known.netns.path,
      hostIfname: "",
      adoption: { source },
    });
    expect(allocations.find((one) => one.attachment?.containerId === unknown.containerId)).toMatchObject({
      pod: undefined,
      netns: "",
      adoption: { source },
    });
    for (const talker of talkers) await goesOn(talker);
    if (type === "bridge") expect(await proxyArp()).toBe("1");
  }

  /** Again there is nothing to do, and a report is never overwritten. */
  async function again(): Promise<void> {
    const again = await adoptHostLocal();
    expect(again.status).toBe(0);
    expect(again.stdout).toMatch(/has it already {2}10\.79\.6\.\d+/);
    expect(again.stdout).not.toContain("take over");
    const path = join(node.directory, "report.json");
    const written = readFileSync(path, "utf8");
    const refused = await adoptHostLocal("--yes", "--report", path);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain("the report can't be written");
    expect(readFileSync(path, "utf8")).toBe(written);
  }

  /** New pods get other addresses, and old and new reach each other and the node. */
  async function newPods(): Promise<void> {
    const local = new Cleanup();
    onTestFinished(() => local.run());
    const fresh = await createPod("fresh", local);
    const own = addressesOf(resultOf(await node.add(fresh)));
    await serveEcho(fresh.netns, PORT, local);
    const taken = [...[...addresses.values()].flat(), "10.79.6.1", "fd00:79:6::1"];
    expect(taken.filter((address) => own.includes(address))).toEqual([]);
    for (const [i, address] of own.entries()) {
      await reachEcho(node.netns, address, PORT);
      for (const pod of [known, unknown]) {
        await reachEcho(pod.netns, address, PORT);
        await reachEcho(fresh.netns, addresses.get(pod)?.[i] ?? "", PORT);
      }
    }
    for (const talker of talkers) await goesOn(talker);
    expect(await node.del(fresh)).toEqual(SILENCE);
  }

  /** An address that somebody else has by now is a conflict that is named, and no other is kept from it. */
  async function conflict(): Promise<void> {
    const thief = { containerId: "thief", netns: node.netns };
    const stolen = "10.79.6.77";
    const conf = { name: "tests", args: { cni: { ips: [stolen] } } };
    const local = new Cleanup();
    onTestFinished(() => local.run());
    const pod = await createPod("thief", local);
    const victim = { ...pod, containerId: thief.containerId };
    expect((await node.add(victim, conf)).status).toBe(0);
    writeFileSync(join(dataDir, stolen), "somebody\r\neth0");
    try {
      const { status, stdout } = await adoptHostLocal();
      expect(status).toBe(1);
      expect(stdout).toMatch(/CONFLICT +10\.79\.6\.77 +- +somebody +10\.79\.6\.77 is held by pod tests\//);
    } finally {
      rmSync(join(dataDir, stolen));
    }
    expect(await node.del(victim, { name: "tests" })).toEqual(SILENCE);
  }

  /** GC keeps an old pod that the runtime knows. */
  async function garbage(): Promise<void> {
    const before = await held();
    const valid = [known, unknown].map(({ containerId }) => ({ containerID: containerId, ifname: "eth0" }));
    const gc = await node.run("GC", known, { conf: { "cni.dev/valid-attachments": valid } });
    expect(gc).toEqual(SILENCE);
    expect(await held()).toEqual(before);
  }

  /** DEL by flatnet ends the old pods: success, also twice, their addresses rest, and undoing is for what is left. */
  async function ends(): Promise<void> {
    for (const talker of talkers) await talker.stop();
    expect(await node.del(known)).toEqual(SILENCE);
    expect(await node.del(known)).toEqual(SILENCE);
    // As runtimes do when the namespace has gone first.
    expect(await node.run("DEL", unknown, { env: { CNI_NETNS: "" } })).toEqual(SILENCE);
    const after = await held();
    expect([...addresses.values()].flat().filter((address) => after.includes(address))).toEqual([]);
    const shown = await runToEnd([built("flatnetctl"), "ipam", "show", "--json", "--socket", node.socket]);
    const resting = JSON.parse(shown.stdout).resting.map(({ address }: { address: string }) => address);
    expect(resting).toEqual(expect.arrayContaining([...addresses.values()].flat()));

    const { status, stdout } = await adopt("undo", join(node.directory, "report.json"));
    expect(status).toBe(0);
    expect(stdout).toMatch(/^Given back: \d address(es)?\.\nEnded since, or given back before: 10\.79\.6\./);
    expect(await held()).toEqual([]);
    if (type === "bridge") expect(await proxyArp()).toBe("0");
    expect(existsSync(join(dataDir, addressOf(known)))).toBe(true);
  }

  test("pods keep their addresses and their connections, and flatnet ends them", async () => {
    await dryRun();
    await takeOver();
    await again();
    await newPods();
    await conflict();
    await garbage();
    await ends();
  });
});

describe.runIf(canUseKernel())("flatnetctl adopt", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    node = await createNode("adopt", cleanup, { podCidrs: [V4] });
    await node.start("--retire-after-seconds", "1");
  });
  afterAll(() => cleanup.run());

  const adopt = (...args: string[]): Promise<Finished> =>
    runToEnd(node.netns.command(built("flatnetctl"), "adopt", ...args));

  test("undoing gives back all that was taken over, gateways too, while nobody has touched it", async () => {
    const dataDir = join(node.directory, "undone");
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, "10.79.6.9"), "abc");
    const socket = ["--socket", node.socket];
    const report = join(node.directory, "undone.json");
    expect((await adopt("host-local", "--data-dir", dataDir, "--yes", "--report", report, ...socket)).status).toBe(0);
    expect((await node.allocations()).allocations).toMatchObject([
      { attachment: { network: "flatnet", containerId: "abc", ifname: "eth0" }, addresses: ["10.79.6.9"] },
    ]);
    expect(await adopt("undo", report, ...socket)).toEqual({ ...SILENCE, stdout: "Given back: 1 address.\n" });
    expect((await node.allocations()).allocations).toEqual([]);
  });

  test("without a DEL, one whose namespace was known and is gone is given up, and one of which nothing is known never", async () => {
    const local = new Cleanup();
    const pod = await createPod("gone", local);
    // The daemon has to have seen a namespace there.
    const stays = await createPod("stays", cleanup);
    const dataDir = join(node.directory, "retired");
    const cacheDir = join(node.directory, "cache");
    mkdirSync(dataDir);
    mkdirSync(join(cacheDir, "results"), { recursive: true });
    writeFileSync(join(dataDir, "10.79.6.20"), `${pod.containerId}\r\neth0`);
    writeFileSync(join(dataDir, "10.79.6.21"), `${stays.containerId}\r\neth0`);
    const cached = { kind: "cniCacheV1", netns: pod.netns.path };
    writeFileSync(join(cacheDir, "results", `retired-${pod.containerId}-eth0`), JSON.stringify(cached));
    const where = ["--data-dir", dataDir, "--cache-dir", cacheDir, "--socket", node.socket];
    const report = join(node.directory, "retired.json");
    expect((await adopt("host-local", ...where, "--yes", "--report", report)).status).toBe(0);
    await local.run();
    await waitFor(async () => (await node.allocations()).allocations.length === 1, { timeoutMs: 20_000 });
    expect((await node.allocations()).allocations).toMatchObject([{ addresses: ["10.79.6.21"] }]);
    await adopt("undo", report, "--socket", node.socket);
  });

  test.for<[title: string, args: string[], status: number, message: RegExp]>([
    ["no directory named", ["host-local"], 2, /--data-dir is missing/],
    ["a contradiction", ["host-local", "--data-dir", "/x", "--yes", "--dry-run"], 2, /contradict each other/],
    ["no report named", ["undo"], 2, /the report is missing/],
    ["a report that isn't there", ["undo", "/nonexistent"], 1, /the report can't be read: ENOENT/],
    ["a report that is none", ["undo", "/etc/hostname"], 1, /is no report of an adoption/],
    ["no daemon", ["host-local", "--data-dir", "/tmp", "--socket", "/nonexistent"], 2, /there is no daemon here/],
    ["an unknown source", ["calico"], 2, /there is no command "calico"/],
  ])("%s is an error that says so", async ([, args, status, message]) => {
    const finished = await adopt(...args);
    expect({ status: finished.status, stdout: finished.stdout }).toEqual({ status, stdout: "" });
    expect(finished.stderr).toMatch(message);
  });

  test("a directory of host-local that isn't there is an error that names it", async () => {
    const { status, stderr } = await adopt("host-local", "--data-dir", "/nonexistent", "--socket", node.socket);
    expect(status).toBe(1);
    expect(stderr).toContain("host-local's directory can't be read: ENOENT");
  });
});
