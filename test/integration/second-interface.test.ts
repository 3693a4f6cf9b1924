// SPDX-License-Identifier: Apache-2.0
//
// A pod with several interfaces of ours, or with one of another plugin's before ours: each address is reached, and answers,
// by its own interface, because no other one would let it out.
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { reach } from "../helpers/attachments.ts";
import { Chain } from "../helpers/chain.ts";
import { Cleanup } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { addressesOf, type CniResult, createPod, type Pod, resultOf } from "../helpers/plugin.ts";

const CIDRS = ["10.79.1.0/24", "fd00:79:1::/64"];
const SILENCE = { status: 0, stdout: "", stderr: "" };

describe.runIf(canUseKernel())("a pod's further interface", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  beforeAll(async () => {
    node = await createNode("second", cleanup, { podCidrs: CIDRS, flags: ["--repair", "false"] });
    await node.start();
  });
  afterEach(async () => {
    const traces = await node.traces();
    await node.delAll();
    expect(traces).toEqual(NO_TRACES);
  });
  afterAll(() => cleanup.run());

  async function newPod(): Promise<Pod> {
    const own = new Cleanup();
    onTestFinished(() => own.run());
    return createPod("pod", own);
  }

  /** The same pod's interface of another name. */
  const other = (pod: Pod, ifname: string) => ({ env: { CNI_IFNAME: ifname }, pod });

  async function add(pod: Pod, ifname: string, conf: object = {}): Promise<CniResult> {
    return resultOf(await node.run("ADD", pod, { ...other(pod, ifname), conf }));
  }

  const check = (pod: Pod, ifname: string, prevResult: CniResult, conf: object = {}) =>
    node.run("CHECK", pod, { ...other(pod, ifname), conf: { prevResult, ...conf } });
  const del = (pod: Pod, ifname: string) => node.run("DEL", pod, other(pod, ifname));

  /** The rules of the pod that the kernel didn't come with, and all routes that aren't the kernel's own. */
  async function routing(pod: Pod): Promise<string[]> {
    const lines: string[] = [];
    for (const family of ["-4", "-6"]) {
      lines.push(
        ...(await pod.netns.ip(family, "rule", "show")).split("\n").filter((line) => !/^(0|3276[67]):/.test(line)),
      );
      lines.push(...(await pod.netns.ip(family, "-N", "route", "show", "table", "all", "proto", "70")).split("\n"));
    }
    return lines.map((line) => line.trim()).filter((line) => line !== "");
  }

  test("is reached and answers by itself, and goes without a trace while the first one stays", async () => {
    const [pod, peer] = [await newPod(), await newPod()];
    const first = await add(pod, "eth0");
    const before = await routing(pod);
    const second = await add(pod, "net1");
    const third = await add(pod, "net2");
    await add(peer, "eth0");
    const all = [first, second, third].flatMap(addressesOf);
    expect(new Set(all).size).toBe(6);
    for (const address of all) await reach(peer.netns, address);
    expect(await check(pod, "eth0", first)).toEqual(SILENCE);
    expect(await check(pod, "net1", second)).toEqual(SILENCE);
    expect(await check(pod, "net2", third)).toEqual(SILENCE);

    expect(await del(pod, "net1")).toEqual(SILENCE);
    expect(await del(pod, "net2")).toEqual(SILENCE);
    expect(await routing(pod)).toEqual(before);
    for (const address of addressesOf(first)) await reach(peer.netns, address);
    expect(await check(pod, "eth0", first)).toEqual(SILENCE);
    expect(await del(pod, "eth0")).toEqual(SILENCE);
    expect(await routing(pod)).toEqual([]);
    await del(peer, "eth0");
  });

  test("goes on when the first one goes", async () => {
    const [pod, peer] = [await newPod(), await newPod()];
    await add(pod, "eth0");
    const second = await add(pod, "net1");
    await add(peer, "eth0");
    expect(await del(pod, "eth0")).toEqual(SILENCE);
    for (const address of addressesOf(second)) await reach(peer.netns, address);
    expect(await check(pod, "net1", second)).toEqual(SILENCE);
    await del(pod, "net1");
    expect(await routing(pod)).toEqual([]);
    await del(peer, "eth0");
  });

  // The link goes here as it does under a plugin that was killed before it was up: the rule of its address stays.
  test("is the first one when it is added again after the first one went, whatever an ADD before had left", async () => {
    const pod = await newPod();
    await add(pod, "eth0");
    await add(pod, "net1");
    await pod.netns.ip("link", "delete", "net1");
    expect(await del(pod, "eth0")).toEqual(SILENCE);
    const again = await add(pod, "net1");
    expect(await check(pod, "net1", again)).toEqual(SILENCE);
    expect((await routing(pod)).filter((line) => line.includes("lookup"))).toEqual([]);
    await del(pod, "net1");
    expect(await routing(pod)).toEqual([]);
  });

  test("tells its routes with their table from 1.1.0 on, and no default route before", async () => {
    const pod = await newPod();
    await add(pod, "eth0");
    const table = expect.any(Number);
    expect((await add(pod, "net1")).routes).toEqual([
      { dst: "0.0.0.0/0", gw: "169.254.1.1", table },
      { dst: "::/0", gw: "fe80::1", table },
    ]);
    expect((await add(pod, "net2", { cniVersion: "1.0.0" })).routes).toEqual([]);
    for (const ifname of ["eth0", "net1", "net2"]) await del(pod, ifname);
  });

  test("has the routes that were wished for in the main table too, where they are free", async () => {
    const pod = await newPod();
    const routes = [{ dst: "192.0.2.0/24" }, { dst: "2001:db8::/32" }, { dst: "198.51.100.0/24", table: 1000 }];
    await add(pod, "eth0");
    const second = await add(pod, "net1", { routes });
    const third = await add(pod, "net2", { routes: routes.slice(0, 2) });
    const way = async (address: string) => (await pod.netns.ip("route", "get", address)).split("\n")[0];
    expect(await way("192.0.2.1")).toContain("dev net1");
    expect(await way("2001:db8::1")).toContain("dev net1");
    expect(await way("203.0.113.1")).toContain("dev eth0");
    for (const address of addressesOf(third)) {
      const to = address.includes(":") ? "2001:db8::1" : "192.0.2.1";
      expect(await pod.netns.ip("route", "get", to, "from", address)).toContain("dev net2");
    }
    expect(await check(pod, "net1", second, { routes })).toEqual(SILENCE);
    expect(await check(pod, "net2", third, { routes: routes.slice(0, 2) })).toEqual(SILENCE);
    for (const ifname of ["eth0", "net1", "net2"]) await del(pod, ifname);
  });

  test("leaves no rule behind when its ADD fails", async () => {
    const pod = await newPod();
    await add(pod, "eth0");
    const before = await routing(pod);
    // The second route of the table can't be made, after the rule of the first family is there.
    const routes = [
      { dst: "2001:db8::/32", advmss: 1200, table: 1000 },
      { dst: "2001:db8::/32", table: 1000 },
    ];
    const failed = await node.run("ADD", pod, { ...other(pod, "net1"), conf: { routes } });
    expect(failed).toMatchObject({ status: 1 });
    expect(JSON.parse(failed.stdout)).toMatchObject({ code: 100, details: expect.stringContaining("EEXIST") });
    expect(await routing(pod)).toEqual(before);
    await del(pod, "eth0");
  });

  test("that the runtime doesn't know any more goes with its rules by GC", async () => {
    const pod = await newPod();
    const first = await add(pod, "eth0");
    const before = await routing(pod);
    await add(pod, "net1");
    const valid = [{ containerID: pod.containerId, ifname: "eth0" }];
    expect(await node.run("GC", pod, { conf: { "cni.dev/valid-attachments": valid } })).toEqual(SILENCE);
    expect(await routing(pod)).toEqual(before);
    expect(await check(pod, "eth0", first)).toEqual(SILENCE);
    await del(pod, "eth0");
  });

  test("whose rule or route is gone is a difference that CHECK names", async () => {
    const pod = await newPod();
    await add(pod, "eth0");
    const second = await add(pod, "net1");
    const [v4 = "", v6 = ""] = addressesOf(second);
    const { table } = (second.routes?.[0] ?? {}) as { table?: number };
    await pod.netns.ip("-4", "rule", "del", "from", v4);
    await pod.netns.ip("-6", "route", "del", "default", "table", `${table}`);
    const { stdout } = await check(pod, "net1", second);
    const { code, details } = JSON.parse(stdout) as { code: number; details: string };
    expect(code).toBe(102);
    expect(details.split("; ")).toEqual([
      "the pod has no route default via fe80::1",
      `the pod has no rule from ${v4} lookup ${table}`,
    ]);
    expect(details).not.toContain(v6);
    for (const ifname of ["eth0", "net1"]) await del(pod, ifname);
    expect(await routing(pod)).toEqual([]);
  });

  test("comes behind another plugin's default route as well", async () => {
    const ipam = { type: "host-local", subnet: "192.0.2.0/24", dataDir: join(node.directory, "host-local") };
    const ptp = new Chain(node.netns, "1.0.0", "before", [
      { type: "ptp", ipam: { ...ipam, routes: [{ dst: "0.0.0.0/0" }] } },
    ]);
    const [pod, peer] = [await newPod(), await newPod()];
    await ptp.add(pod);
    const own = await add(pod, "net1");
    await add(peer, "eth0");
    for (const address of addressesOf(own)) await reach(peer.netns, address);
    expect(await check(pod, "net1", own)).toEqual(SILENCE);
    expect(await pod.netns.ip("route", "get", "203.0.113.1")).toContain("dev eth0");
    await del(pod, "net1");
    expect((await routing(pod)).filter((line) => line.includes("lookup"))).toEqual([]);
    await ptp.del(pod);
    await del(peer, "eth0");
  });
});
