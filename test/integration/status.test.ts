// SPDX-License-Identifier: Apache-2.0
//
// STATUS, with the daemon, its addresses and its routes in every state.

import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { added, newPod, reach, SILENCE, shell, V4 } from "../helpers/attachments.ts";
import { Cleanup, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { failureOf, type Pod, resultOf, runPlugin } from "../helpers/plugin.ts";

describe.runIf(canUseKernel())("STATUS", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  beforeAll(async () => {
    node = await createNode("status", cleanup, { podCidrs: ["10.78.9.0/30", "fd00:78:9::/64"] });
    await node.start();
  });
  afterAll(() => cleanup.run());

  const status = (conf: object = {}) => runPlugin(node.netns, { CNI_COMMAND: "STATUS" }, node.conf(conf));

  test("is silent while pods can be added", async () => {
    expect(await status()).toEqual(SILENCE);
  });

  test("does not look at what only ADD needs", async () => {
    expect(await status({ mtu: "wrong", prevResult: 7, runtimeConfig: [], routes: {}, sysctls: 1 })).toEqual(SILENCE);
  });

  test("is code 50 when a family has no address left, and silent again when one is back", async () => {
    const pods = [await newPod(), await newPod()];
    const capacity = (await node.allocations()).subnets[0]?.capacity;
    expect(capacity).toBe(pods.length);
    for (const pod of pods) resultOf(await node.add(pod));
    const failure = failureOf(await status());
    expect(failure).toMatchObject({ cniVersion: "1.1.0", code: 50, msg: "no address is left" });
    expect(failure.details).toBe("10.78.9.0/30 has 2 of 2 in use");
    await node.del(pods[0] as Pod);
    // It rests, and would be given if need be.
    expect(await status()).toEqual(SILENCE);
    await node.del(pods[1] as Pod);
  });

  test.each(["0.1.0", "0.3.1", "0.4.0", "1.0.0"])("in %s is refused with code 1", async (cniVersion) => {
    expect(failureOf(await status({ cniVersion }))).toMatchObject({ cniVersion, code: 1 });
  });

  test("is code 50 at once while the daemon is away", async () => {
    await node.stop();
    const failure = failureOf(await status({ connectWaitMs: 600_000, timeoutMs: 600_000 }));
    await node.start();
    expect(failure).toMatchObject({ code: 50, details: expect.stringContaining(node.socket) });
  });
});

describe.runIf(canUseKernel())("STATUS on a node without a way to any peer", () => {
  const NODE = { name: "node-1", addresses: ["172.31.0.1"], podCIDRs: [V4] };
  const PEER = { name: "node-2", addresses: ["172.31.0.2"], podCIDRs: ["10.78.2.0/24"] };
  const OTHER = { name: "node-3", addresses: ["172.31.0.3"], podCIDRs: ["10.78.3.0/24"] };
  const peersText = (...nodes: object[]) => JSON.stringify({ nodes });

  /** A node that serves, and has no link but lo: the kernel refuses every route to a peer. */
  async function newNode(...peers: object[]): Promise<FlatnetNode> {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const node = await createNode("unsynced", cleanup, { podCidrs: [V4], peers: peersText(NODE, ...peers) });
    await node.start();
    return node;
  }
  const status = (node: FlatnetNode) => runPlugin(node.netns, { CNI_COMMAND: "STATUS" }, node.conf());
  const isReady = async (node: FlatnetNode) => (await status(node)).status === 0;
  const expectCutOff = async (node: FlatnetNode) =>
    expect(failureOf(await status(node))).toEqual({
      cniVersion: "1.1.0",
      code: 51,
      msg: "the plugin is not available, and pods may be cut off",
      details: "the routes to the other nodes have not been in order since the daemon started",
    });
  const plugIn = (node: FlatnetNode) =>
    shell(
      node.netns,
      "ip link add up0 type veth peer name up1; ip link set up1 up; ip link set up0 up; ip address add 172.31.0.1/24 dev up0",
    );
  /** The daemon looks at its routes again when the file is written, and at intervals anyway. */
  const writePeers = (node: FlatnetNode, ...peers: object[]) =>
    writeFileSync(node.peersFile, peersText(NODE, ...peers));

  test("is code 51 until it has an uplink, and silent then, whatever becomes of the uplink", async () => {
    const node = await newNode(PEER);
    await expectCutOff(node);
    expect(await node.netns.ip("route", "show", "10.78.2.0/24")).toBe("");
    await plugIn(node);
    writePeers(node, PEER);
    await waitFor(() => isReady(node));
    expect(await node.netns.ip("route", "show", "10.78.2.0/24")).toContain("via 172.31.0.2 dev up0");
    // Pods of this node still reach each other: that is no reason to take no more of them.
    await node.netns.ip("link", "delete", "up0");
    writePeers(node, PEER, OTHER);
    await waitFor(() => node.log().some((line) => JSON.stringify(line).includes("10.78.3.0/24 via 172.31.0.3")));
    expect(await status(node)).toEqual(SILENCE);
  });

  test("is code 51 until the file has a peer that can be reached, and one is enough", async () => {
    const far = { ...PEER, addresses: ["192.0.2.2"] };
    const node = await newNode(far);
    await plugIn(node);
    await expectCutOff(node);
    writePeers(node, far, OTHER);
    await waitFor(() => isReady(node));
    expect(await status(node)).toEqual(SILENCE);
    expect(await node.netns.ip("route", "show", "10.78.3.0/24")).toContain("via 172.31.0.3 dev up0");
    expect(await node.netns.ip("route", "show", "10.78.2.0/24")).toBe("");
  });

  test("is code 51 again for a daemon that starts anew, and what pods there are reach each other", async () => {
    const node = await newNode(PEER);
    await plugIn(node);
    writePeers(node, PEER);
    await waitFor(() => isReady(node));
    await node.stop();
    await node.netns.ip("link", "delete", "up0");
    await node.start();
    await expectCutOff(node);
    const [one, other] = [await added(node), await added(node)];
    await reach(one.pod.netns, other.addresses[0] ?? "");
    for (const { pod } of [one, other]) expect(await node.del(pod)).toEqual(SILENCE);
    expect(await node.traces()).toEqual(NO_TRACES);
  });

  test("is silent while the file names no peer", async () => {
    expect(await status(await newNode())).toEqual(SILENCE);
  });
});
