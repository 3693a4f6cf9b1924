// SPDX-License-Identifier: Apache-2.0
//
// What the daemon's configuration says of its subnets, and a network of its addresses, with the built daemon and plugin:
// subnets that are drained and go, pools, addresses that are kept for an owner.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { probe, startReceiver } from "../helpers/containerd/probe.ts";
import { Cleanup, run } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, listRoutes } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { addressesOf, built, createPod, failureOf, type Pod, resultOf } from "../helpers/plugin.ts";

interface Site {
  readonly node: FlatnetNode;
  readonly cleanup: Cleanup;
  readonly newPod: (label?: string) => Promise<Pod>;
  /** Starts the daemon with this configuration, or anew. */
  readonly configure: (config: object) => Promise<void>;
}

async function newSite(): Promise<Site> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  const node = await createNode("subnets", cleanup, { podCidrs: [] });
  const file = join(node.directory, "flatnetd.yaml");
  return {
    node,
    cleanup,
    newPod: (label = "pod") => createPod(label, cleanup),
    configure: async (config) => {
      await node.stop();
      // JSON is YAML.
      writeFileSync(file, JSON.stringify(config));
      await node.start("--config", file);
    },
  };
}

/** The own subnets' routes: an address that nobody has is unreachable. */
async function unreachable({ netns }: FlatnetNode): Promise<string[]> {
  const routes = [...(await listRoutes(netns, 4)), ...(await listRoutes(netns, 6))];
  return routes.filter(({ type }) => type === "unreachable" || type === "7").map(({ dst }) => dst);
}

const added = async ({ node }: Site, pod: Pod, conf: object = {}) => addressesOf(resultOf(await node.add(pod, conf)));
const gone = async ({ node }: Site, pod: Pod) => expect((await node.del(pod)).status).toBe(0);

describe.runIf(canUseKernel())("a node's subnet", () => {
  const [OLD, NEW] = ["10.80.1.0/24", "10.80.2.0/24"];
  const [OLD6, NEW6] = ["fd00:80:1::/64", "fd00:80:2::/64"];

  test("is drained, and then taken away, under pods that go on and are deleted; new ones are in the new subnet", async () => {
    const site = await newSite();
    const { node, cleanup, configure, newPod } = site;
    await configure({ podCIDRs: [OLD, OLD6] });
    const [first, second, third] = [await newPod("first"), await newPod("second"), await newPod("third")];
    expect(await added(site, first)).toEqual(["10.80.1.1", "fd00:80:1::1"]);

    await configure({ podCIDRs: [OLD, NEW, OLD6, NEW6], drainingCIDRs: [OLD, OLD6] });
    expect(await added(site, second)).toEqual(["10.80.2.1", "fd00:80:2::1"]);
    expect((await unreachable(node)).sort()).toEqual([OLD, NEW, OLD6, NEW6].sort());
    const receiver = await startReceiver(first.netns.path, cleanup);
    /** From the new subnet to the old one, over a connection that answers. */
    const talk = async () => {
      const questions = ["10.80.1.1", "fd00:80:1::1"].map((address) => ({
        protocol: "tcp" as const,
        address,
        port: receiver.tcp,
      }));
      const answers = await probe(second.netns.path, questions);
      expect(answers.map(({ seen }) => seen)).toEqual(["10.80.2.1", "fd00:80:2::1"]);
    };
    await talk();
    const wish = { args: { cni: { ips: ["10.80.1.9"] } } };
    expect(failureOf(await node.add(third, wish))).toMatchObject({
      code: 7,
      details: expect.stringContaining("10.80.1.9 is in 10.80.1.0/24, which is draining"),
    });
    const [draining] = (await node.allocations()).subnets;
    expect(draining).toMatchObject({ cidr: OLD, draining: true, used: 1, free: 0, reserved: 255 });

    await configure({ podCIDRs: [NEW, NEW6] });
    expect(node.log().find(({ msg }) => `${msg}`.includes("in no subnet of this node any more"))).toMatchObject({
      count: 2,
      addresses: ["10.80.1.1", "fd00:80:1::1"],
    });
    expect(await node.allocations()).toMatchObject({ strayAddresses: 2 });
    expect((await unreachable(node)).sort()).toEqual([NEW, NEW6].sort());
    await talk();
    await gone(site, first);
    expect(await node.allocations()).toMatchObject({ strayAddresses: 0 });
    expect(await added(site, third)).toEqual(["10.80.2.2", "fd00:80:2::2"]);
    for (const pod of [second, third]) await gone(site, pod);
    expect(await node.traces()).toMatchObject({ links: [], routes: [], records: [] });
  });

  test("has pools for networks and namespaces, and a full one is full for its own network only", async () => {
    const site = await newSite();
    const { node, configure, newPod } = site;
    const pools = {
      db: { ranges: ["10.80.1.192/31"] },
      web: { ranges: ["10.80.1.224/28"], namespaces: ["tests"] },
    };
    await configure({ podCIDRs: [OLD], excluded: ["10.80.1.0/28"], pools });
    expect(await added(site, await newPod())).toEqual(["10.80.1.224"]);
    expect(await added(site, await newPod(), { pool: "default" })).toEqual(["10.80.1.16"]);
    expect(await added(site, await newPod(), { pool: "db" })).toEqual(["10.80.1.192"]);
    expect(await added(site, await newPod(), { pool: "db" })).toEqual(["10.80.1.193"]);
    const late = await newPod();
    expect(failureOf(await node.add(late, { pool: "db" }))).toMatchObject({
      code: 11,
      details: expect.stringMatching(/^no IPv4 address of pool db is left in .* \(2 of 2 in use\), held by: 2 tests;/),
    });
    expect(failureOf(await node.add(late, { pool: "dbs" }))).toMatchObject({
      code: 7,
      details: 'pool is "dbs"; it must be one that this node has: default, db, web',
    });
    const shown = await run([built("flatnetctl"), "ipam", "show", "--socket", node.socket]);
    expect(shown).toContain(
      [
        "10.80.1.0/24: 4 used, 0 resting, 235 free of 239 addresses",
        "  pool default: 1 used, 0 resting, 220 free of 221 addresses",
        "  pool db: 2 used, 0 resting, 0 free of 2 addresses",
        "  pool web: 1 used, 0 resting, 15 free of 16 addresses",
      ].join("\n"),
    );
    const status = (conf: object) => node.run("STATUS", late, { conf });
    expect(failureOf(await status({ pool: "db" }))).toMatchObject({ code: 50 });
    expect((await status({})).status).toBe(0);
  });
});

describe.runIf(canUseKernel())("a network that keeps addresses", () => {
  const args = (name: string) => ({ CNI_ARGS: `K8S_POD_NAMESPACE=tests;K8S_POD_NAME=${name};K8S_POD_UID=` });
  const conf = { sticky: { ttlSeconds: 3600 } };

  test("gives the pod of a StatefulSet its addresses again, over a kill of the daemon, and nobody else", async () => {
    const site = await newSite();
    const { node, newPod } = site;
    const config = { podCIDRs: ["10.80.1.0/30", "fd00:80:1::/64"], coolDownSeconds: 0 };
    await site.configure(config);
    const add = async (name: string) => {
      const pod = await newPod(name);
      const env = { CNI_COMMAND: "ADD", ...args(name) };
      return { pod, addresses: addressesOf(resultOf(await node.run("ADD", pod, { env, conf }))) };
    };
    const before = await add("web-0");
    await gone(site, before.pod);
    await node.stop("SIGKILL");
    await site.configure(config);
    const other = await add("web-1");
    const after = await add("web-0");
    expect(after.addresses).toEqual(before.addresses);
    expect(other.addresses).not.toEqual(before.addresses);

    // Both of IPv4 are taken or kept: whoever comes now gets what is kept, and that is said.
    await gone(site, after.pod);
    const third = await add("web-2");
    expect(third.addresses[0]).toBe(before.addresses[0]);
    expect(node.log().find(({ takenFrom }) => takenFrom !== undefined)).toMatchObject({
      takenFrom: ["pod tests/web-0 (tests, eth0)"],
    });
  });
});
