// SPDX-License-Identifier: Apache-2.0
//
// A node in the middle of an upgrade: the plugin is replaced before the daemon or after it, and a daemon may have to be
// taken back. Either side works with the one before, and each reads what the other wrote.

import { existsSync } from "node:fs";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Cleanup, type Finished, runToEnd } from "../helpers/daemon.ts";
import { reachEcho, serveEcho } from "../helpers/echo.ts";
import { createNode, type FlatnetNode, NO_TRACES, type Programs } from "../helpers/flatnet-node.ts";
import { canUseKernel, createNetns, joinByCable, type Netns } from "../helpers/netns.ts";
import { addressesOf, built, type CniResult, createPod, failureOf, type Pod, resultOf } from "../helpers/plugin.ts";
import { hasPrevious, NO_HISTORY, previousPrograms } from "./previous.ts";

const SILENCE: Finished = { status: 0, stdout: "", stderr: "" };
const CIDRS = ["10.79.7.0/24", "fd00:79:7::/64"];
const ECHO_PORT = 7007;
const HOST_PORT = 8080;
const NODE_ADDRESS = "172.31.7.1";
const CLIENT_ADDRESS = "172.31.7.2/24";
const WITH_PORT = {
  runtimeConfig: { portMappings: [{ hostPort: HOST_PORT, containerPort: ECHO_PORT, protocol: "tcp" }] },
};

// What a clone doesn't have can't be built from it. It counts as skipped then, and says why.
const hasHistory = await hasPrevious();
if (!hasHistory) process.stderr.write(`${NO_HISTORY}\n`);

describe.runIf(canUseKernel() && hasHistory)("with the version before this one", () => {
  let before: Programs;
  const now: Programs = { flatnet: built("flatnet"), flatnetd: built("flatnetd") };
  beforeAll(async () => {
    before = await previousPrograms();
  });

  /** A node of the test's own with the programs that `programs` names at the moment, and somebody outside of it. */
  async function newNode(programs: Programs): Promise<{ node: FlatnetNode; client: Netns }> {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const node = await createNode("skew", cleanup, { podCidrs: CIDRS, programs });
    const client = await createNetns("skew-client", cleanup);
    await joinByCable(
      { netns: node.netns, ifname: "uplink", addresses: [`${NODE_ADDRESS}/24`, "fd00:31:7::1/64"] },
      { netns: client, ifname: "uplink", addresses: [CLIENT_ADDRESS] },
    );
    await node.start();
    cleanup.add(() => node.delAll());
    return { node, client };
  }

  async function newPod(): Promise<Pod> {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const pod = await createPod("skew", cleanup);
    await serveEcho(pod.netns, ECHO_PORT, cleanup);
    return pod;
  }

  const check = (node: FlatnetNode, pod: Pod, prevResult: CniResult, conf: object = {}) =>
    node.run("CHECK", pod, { conf: { ...conf, prevResult } });

  const PAIRS: [title: string, programs: () => Programs][] = [
    ["the previous plugin and this daemon", () => ({ flatnet: before.flatnet, flatnetd: now.flatnetd })],
    ["this plugin and the previous daemon", () => ({ flatnet: now.flatnet, flatnetd: before.flatnetd })],
  ];

  describe.each(PAIRS)("%s", (_title, programs) => {
    test("a pod with a hostPort is added, checked, reached and deleted, and nothing is left", async () => {
      const { node, client } = await newNode(programs());
      const [pod, other] = [await newPod(), await newPod()];
      const result = resultOf(await node.add(pod, WITH_PORT));
      expect(addressesOf(result)).toEqual(["10.79.7.1", "fd00:79:7::1"]);
      expect(await check(node, pod, result, WITH_PORT)).toEqual(SILENCE);
      for (const address of addressesOf(result)) await reachEcho(node.netns, address, ECHO_PORT);
      await reachEcho(client, NODE_ADDRESS, HOST_PORT);
      // A refusal travels too: the port is taken, and by whom.
      expect(failureOf(await node.add(other, WITH_PORT))).toMatchObject({
        code: 11,
        details: expect.stringContaining(pod.netns.name),
      });
      expect(await node.run("STATUS", pod)).toEqual(SILENCE);
      expect(await node.del(pod, WITH_PORT)).toEqual(SILENCE);
      expect(await node.del(pod, WITH_PORT)).toEqual(SILENCE);
      expect(await node.traces()).toEqual(NO_TRACES);
    });

    test("GC takes away what the runtime doesn't know, and leaves the rest", async () => {
      const { node, client } = await newNode(programs());
      const [known, unknown] = [await newPod(), await newPod()];
      const kept = resultOf(await node.add(known, WITH_PORT));
      await node.add(unknown);
      const valid = [{ containerID: known.containerId, ifname: "eth0" }];
      expect(await node.run("GC", known, { conf: { "cni.dev/valid-attachments": valid } })).toEqual(SILENCE);
      expect((await node.traces()).records).toEqual(addressesOf(kept));
      expect(await check(node, known, kept, WITH_PORT)).toEqual(SILENCE);
      await reachEcho(client, NODE_ADDRESS, HOST_PORT);
    });

    test("a DEL while the daemon is down is made good when it is back", async () => {
      const { node } = await newNode(programs());
      const pod = await newPod();
      await node.add(pod, WITH_PORT);
      await node.stop();
      expect((await node.del(pod, WITH_PORT)).status).toBe(0);
      expect((await node.tracesWithoutDaemon()).journal).toHaveLength(1);
      await node.start();
      expect(await node.traces()).toEqual(NO_TRACES);
    });
  });

  const WAYS: [title: string, from: () => Programs, to: () => Programs][] = [
    ["an upgrade", () => before, () => now],
    ["a downgrade", () => now, () => before],
  ];

  test.each(WAYS)("over %s every pod keeps what it has, and what rests goes on resting", async (_title, from, to) => {
    // Changed below, as an installation changes the files.
    const programs = { ...from() };
    const { node, client } = await newNode(programs);
    const [pod, gone, next] = [await newPod(), await newPod(), await newPod()];
    const more = { ...WITH_PORT, runtimeConfig: { ...WITH_PORT.runtimeConfig, aliases: ["web"] } };
    const result = resultOf(await node.add(pod, more));
    const released = addressesOf(resultOf(await node.add(gone)));
    expect(await node.del(gone)).toEqual(SILENCE);
    await node.stop();

    Object.assign(programs, to());
    await node.start();
    const { allocations, subnets } = await node.allocations();
    expect(allocations).toMatchObject([
      { attachment: { network: "tests", containerId: pod.containerId }, addresses: addressesOf(result) },
    ]);
    expect(subnets).toMatchObject([
      { used: 1, cooling: 1 },
      { used: 1, cooling: 1 },
    ]);
    expect(await check(node, pod, result, more)).toEqual(SILENCE);
    await reachEcho(client, NODE_ADDRESS, HOST_PORT);
    const fresh = addressesOf(resultOf(await node.add(next)));
    expect([...addressesOf(result), ...released].filter((address) => fresh.includes(address))).toEqual([]);

    // And back again: nothing has become unreadable.
    await node.stop();
    Object.assign(programs, from());
    await node.start();
    expect(await check(node, pod, result, more)).toEqual(SILENCE);
    expect(await node.del(pod, more)).toEqual(SILENCE);
    expect(await node.del(next)).toEqual(SILENCE);
    expect(await node.traces()).toEqual(NO_TRACES);
  });

  test("what only this version writes outlives a daemon that doesn't know it: adopted addresses stay held, and can be undone afterwards", async () => {
    const programs = { ...now };
    const { node } = await newNode(programs);
    const dataDir = `${node.directory}/host-local`;
    const report = `${node.directory}/report.json`;
    await runToEnd(["mkdir", dataDir]);
    await runToEnd(["tee", `${dataDir}/10.79.7.1`], { input: "old" });
    const adopt = (...args: string[]) =>
      runToEnd(node.netns.command(built("flatnetctl"), "adopt", ...args, "--socket", node.socket));
    expect((await adopt("host-local", "--data-dir", dataDir, "--yes", "--report", report)).status).toBe(0);
    await node.stop();
    programs.flatnetd = before.flatnetd;
    await node.start();
    const pod = await newPod();
    expect(addressesOf(resultOf(await node.add(pod)))[0]).toBe("10.79.7.2");
    const another = `${report}.another`;
    const tooOld = await adopt("host-local", "--data-dir", dataDir, "--yes", "--report", another);
    expect(tooOld.status).toBe(2);
    expect(tooOld.stderr).toContain("older than this flatnetctl: it doesn't know UndoAdoption");
    expect(existsSync(another)).toBe(false);
    const refused = await adopt("undo", report);
    expect(refused.status).toBe(2);
    expect(refused.stderr).toContain("older than this flatnetctl: it doesn't know UndoAdoption");
    await node.stop();
    programs.flatnetd = now.flatnetd;
    await node.start();
    expect((await adopt("undo", report)).stdout).toBe("Given back: 1 address.\n");
    expect(await node.del(pod)).toEqual(SILENCE);
  });
});
