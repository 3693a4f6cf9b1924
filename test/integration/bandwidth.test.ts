// SPDX-License-Identifier: Apache-2.0
//
// The built plugin with the capability "bandwidth": what `tc` shows of a pod's links after ADD, what CHECK says, and that
// nothing is left after DEL.
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { AllocateResponse } from "../../src/gen/flatnet/ipam/v1/ipam.ts";
import { Cleanup, run } from "../helpers/daemon.ts";
import { startFakeDaemon } from "../helpers/fake-daemon.ts";
import { createNode, type FlatnetNode, NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel, type Netns } from "../helpers/netns.ts";
import { type CniResult, createPod, failureOf, type Pod, resultOf } from "../helpers/plugin.ts";

const SILENCE = { status: 0, stdout: "", stderr: "" };
const BOTH = { ingressRate: 10_000_000, ingressBurst: 800_000, egressRate: 8_000_000, egressBurst: 80_000 };
/** `BOTH` as `tc` has it: bytes a second, bytes, microseconds. */
const INGRESS = { kind: "tbf", options: { rate: 1_250_000, burst: 100_000, lat: 25_000 } };
const EGRESS = { kind: "tbf", options: { rate: 1_000_000, burst: 10_000, lat: 25_000 } };
const NOT_LIMITED = { kind: "noqueue", options: {} };

async function newPod(): Promise<Pod> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  return createPod("pod", cleanup);
}

async function rootQdisc(netns: Netns, dev: string) {
  const command = netns.command("tc", "-json", "qdisc", "show", "dev", dev, "root");
  const [qdisc]: { kind: string; options: object }[] = JSON.parse(await run(command));
  return { kind: qdisc?.kind, options: qdisc?.options };
}

async function linkNames(netns: Netns): Promise<string[]> {
  const links: { ifname: string }[] = JSON.parse(await netns.ip("-json", "link"));
  return links.map(({ ifname }) => ifname);
}

const hostEnd = (result: CniResult) => result.interfaces[0]?.name ?? "";

describe.runIf(canUseKernel())("a pod with limits", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    node = await createNode("bw", cleanup, { podCidrs: ["10.79.1.0/24", "fd00:79:1::/64"] });
    await node.start();
  });
  afterEach(() => node.delAll());
  afterAll(() => cleanup.run());

  test("is limited at both ends after ADD, passes CHECK, and leaves no link and no qdisc after DEL", async () => {
    const pod = await newPod();
    const before = await linkNames(node.netns);
    const limits = { runtimeConfig: { bandwidth: BOTH } };
    const result = resultOf(await node.add(pod, limits));
    expect(await rootQdisc(node.netns, hostEnd(result))).toEqual(INGRESS);
    expect(await rootQdisc(pod.netns, "eth0")).toEqual(EGRESS);
    expect(await node.run("CHECK", pod, { conf: { ...limits, prevResult: result } })).toEqual(SILENCE);

    expect(await node.del(pod, limits)).toEqual(SILENCE);
    expect(await node.traces()).toEqual(NO_TRACES);
    expect(await linkNames(node.netns)).toEqual(before);
    expect(await linkNames(pod.netns)).toEqual(["lo"]);
    expect(await run(node.netns.command("tc", "qdisc", "show"))).not.toContain("tbf");
  });

  test.each([
    { direction: "ingress", bandwidth: { ingressRate: 1_000_000 }, host: "tbf", inside: "noqueue" },
    { direction: "egress", bandwidth: { egressRate: 1_000_000 }, host: "noqueue", inside: "tbf" },
    { direction: "neither", bandwidth: { ingressRate: 0, egressRate: 0 }, host: "noqueue", inside: "noqueue" },
  ])("is limited in the direction it asks for: $direction", async ({ bandwidth, host, inside }) => {
    const pod = await newPod();
    const result = resultOf(await node.add(pod, { runtimeConfig: { bandwidth } }));
    expect((await rootQdisc(node.netns, hostEnd(result))).kind).toBe(host);
    expect((await rootQdisc(pod.netns, "eth0")).kind).toBe(inside);
  });

  test("does not slow its neighbour down", async () => {
    const [limited, free] = [await newPod(), await newPod()];
    resultOf(await node.add(limited, { runtimeConfig: { bandwidth: BOTH } }));
    const result = resultOf(await node.add(free));
    expect(await rootQdisc(node.netns, hostEnd(result))).toEqual(NOT_LIMITED);
    expect(await rootQdisc(free.netns, "eth0")).toEqual(NOT_LIMITED);
  });

  test("that took its limit off is told by CHECK, and by CHECK only", async () => {
    const pod = await newPod();
    const limits = { runtimeConfig: { bandwidth: BOTH } };
    const result = resultOf(await node.add(pod, limits));
    await run(pod.netns.command("tc", "qdisc", "delete", "dev", "eth0", "root"));
    const failure = failureOf(await node.run("CHECK", pod, { conf: { ...limits, prevResult: result } }));
    expect(failure.code).toBe(102);
    expect(failure.details).toContain("egress limit on eth0: the root qdisc is noqueue, not tbf");
    expect(failure.details).not.toContain("ingress");
    expect(await node.del(pod, limits)).toEqual(SILENCE);
  });

  test("that the daemon knows of is limited so, unless the runtime has limits itself", async () => {
    const own = new Cleanup();
    onTestFinished(() => own.run());
    const socket = join(node.directory, `${randomUUID()}.sock`);
    const allocate = () => ({
      ...AllocateResponse.decode(new Uint8Array()),
      addresses: ["10.79.1.5"],
      mtu: 1400,
      bandwidth: { ingressRate: 10_000_000n, egressRate: 0n },
    });
    await startFakeDaemon(socket, { allocate }, own);
    const [pod, asking] = [await newPod(), await newPod()];
    const result = resultOf(await node.add(pod, { socket }));
    onTestFinished(async () => void (await node.del(pod, { socket })));
    expect(result.interfaces.map(({ mtu }) => mtu)).toEqual([1400, 1400]);
    expect(await rootQdisc(node.netns, hostEnd(result))).toMatchObject({ kind: "tbf", options: { rate: 1_250_000 } });
    expect(await rootQdisc(pod.netns, "eth0")).toEqual(NOT_LIMITED);
    const limits = { socket, runtimeConfig: { bandwidth: { egressRate: 8_000_000 } } };
    const asked = resultOf(await node.add(asking, limits));
    onTestFinished(async () => void (await node.del(asking, limits)));
    expect(await rootQdisc(node.netns, hostEnd(asked))).toEqual(NOT_LIMITED);
    expect((await rootQdisc(asking.netns, "eth0")).kind).toBe("tbf");
  });

  test("that makes no sense is refused with the field's name, and nothing is made", async () => {
    const pod = await newPod();
    const failure = failureOf(await node.add(pod, { runtimeConfig: { bandwidth: { egressBurst: 1000 } } }));
    expect(failure).toMatchObject({ code: 7, details: expect.stringContaining("runtimeConfig.bandwidth.egressRate") });
    expect(await node.traces()).toEqual(NO_TRACES);
    expect(await linkNames(pod.netns)).toEqual(["lo"]);
  });
});
