// SPDX-License-Identifier: Apache-2.0
//
// A cluster of two nodes whose pods were made by another network, changed over to flatnet node by node (docs/migrate.md):
// flannel and kubenet are Debian's bridge with host-local, kindnet is ptp with host-local, and what they do to routes is
// done by hand. Connections stay open all the time, and the cluster is flat in between.

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { Chain } from "../helpers/chain.ts";
import { Cleanup, type Daemon, type Finished, run, runToEnd, startDaemon, waitFor } from "../helpers/daemon.ts";
import { goesOn, serveEcho, talk } from "../helpers/echo.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel, inNetns, joinByCable, type Netns } from "../helpers/netns.ts";
import { addressesOf, built, createPod, type Pod, resultOf } from "../helpers/plugin.ts";

const SILENCE: Finished = { status: 0, stdout: "", stderr: "" };
const ECHO = 7007;
const WHO = 7008;

/** Says to each who asks under which address it is seen. */
const WHO_ASKS = `
  const server = require("node:net").createServer((socket) => socket.end(socket.remoteAddress.replace("::ffff:", "")));
  server.listen(${WHO}, "::", () => console.log("ready"));`;
const ASK = `
  const socket = require("node:net").connect(${WHO}, process.argv[1]);
  socket.on("data", (data) => process.stdout.write(data)).on("error", (error) => console.log(error.message));`;

const V4 = ["10.79.21.0/24", "10.79.22.0/24"] as const;
const V6 = ["fd00:79:21::/64", "fd00:79:22::/64"] as const;
const UPLINKS = [
  ["192.0.2.1", "2001:db8::1"],
  ["192.0.2.2", "2001:db8::2"],
] as const;

/** The old network: its plugin, and the families in which its pods and flatnet's reach each other on one node. */
const OLD_NETWORKS: [name: string, type: string, conf: object, families: readonly (readonly [string, string])[]][] = [
  ["flannel host-gw", "bridge", { bridge: "cni0", isGateway: true, hairpinMode: true }, [V4]],
  ["kubenet", "bridge", { bridge: "cbr0", isGateway: true, promiscMode: true }, [V4]],
  ["kindnet", "ptp", {}, [V4, V6]],
];

interface Member {
  readonly node: FlatnetNode;
  readonly old: Chain;
  readonly pods: Pod[];
}

describe.runIf(canUseKernel()).each(OLD_NETWORKS)("a cluster of %s", (_, type, conf, families) => {
  const cleanup = new Cleanup();
  const members: Member[] = [];
  const addresses = new Map<Pod, string[]>();
  const talkers: Daemon[] = [];
  const cidrsOf = (at: number) => families.map((pair) => pair[at] ?? "");
  const uplinksOf = (at: number) => families.map((__, family) => UPLINKS[at]?.[family] ?? "");

  beforeAll(async () => {
    const peers = stringify({
      nodes: [0, 1].map((at) => ({ name: `node-${at + 1}`, addresses: uplinksOf(at), podCIDRs: cidrsOf(at) })),
    });
    for (const at of [0, 1]) {
      const flags = ["--node-name", `node-${at + 1}`];
      const node = await createNode(`migrate${at + 1}`, cleanup, { podCidrs: cidrsOf(at), peers, flags });
      const ranges = cidrsOf(at).map((subnet) => [{ subnet }]);
      const routes = cidrsOf(at).map((cidr) => ({ dst: cidr.includes(":") ? "::/0" : "0.0.0.0/0" }));
      const ipam = { type: "host-local", dataDir: join(node.directory, "networks"), ranges, routes };
      members.push({ node, old: new Chain(node.netns, "1.0.0", "old", [{ type, ...conf, ipam }]), pods: [] });
    }
    const [first, second] = members as [Member, Member];
    const withLength = (at: number) => uplinksOf(at).map((one) => `${one}/${one.includes(":") ? 64 : 24}`);
    await joinByCable(
      { netns: first.node.netns, ifname: "uplink", addresses: withLength(0) },
      { netns: second.node.netns, ifname: "uplink", addresses: withLength(1) },
    );
    for (const [at, { node, old, pods }] of members.entries()) {
      await run(inNetns(node.netns.path, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"));
      for (const [family, cidr] of cidrsOf(1 - at).entries()) {
        await node.netns.ip("route", "add", cidr, "via", uplinksOf(1 - at)[family] ?? "");
      }
      for (const name of ["a", "b"]) {
        const pod = await createPod(`old-${at}${name}`, cleanup);
        addresses.set(pod, addressesOf(await old.add(pod)));
        await serve(pod.netns);
        pods.push(pod);
      }
    }
    const all = [...addresses];
    for (const [from] of all) {
      for (const [to, own] of all) {
        if (from === to) continue;
        for (const address of own) talkers.push(await talk(from.netns, address, ECHO, cleanup));
      }
    }
  });
  afterAll(async () => {
    for (const { node } of members) await node.delAll().catch(() => {});
    await cleanup.run();
  });

  async function serve(netns: Netns): Promise<void> {
    await serveEcho(netns, ECHO, cleanup);
    const who = await startDaemon({
      argv: inNetns(netns.path, process.execPath, "-e", WHO_ASKS),
      ready: (output) => output.includes("ready"),
    });
    cleanup.add(() => who.stop());
  }

  /** Everybody reaches everybody, and is seen under the own address. */
  async function isFlat(): Promise<void> {
    for (const [from, own] of addresses) {
      for (const [to, theirs] of addresses) {
        if (from === to) continue;
        for (const [family, address] of theirs.entries()) {
          expect(await run(inNetns(from.netns.path, process.execPath, "-e", ASK, address))).toBe(own[family]);
        }
      }
    }
    for (const talker of talkers) await goesOn(talker);
  }

  /** The steps of docs/migrate.md, without the kubelet that there is none of. */
  async function changeOver(at: number): Promise<void> {
    const { node } = members[at] as Member;
    await node.start();
    const args = ["host-local", "--data-dir", join(node.directory, "networks/old"), "--network", "tests"];
    const report = join(node.directory, "report.json");
    const adopt = (...more: string[]) =>
      runToEnd(node.netns.command(built("flatnetctl"), "adopt", ...args, "--socket", node.socket, ...more));
    expect(await adopt()).toMatchObject({ status: 0, stderr: "" });
    expect(await adopt("--yes", "--report", report)).toMatchObject({ status: 0, stderr: "" });
    for (const talker of talkers) await goesOn(talker);
    // The old network's routes become flatnet's in one step: nobody is without one.
    for (const [family, cidr] of cidrsOf(1 - at).entries()) {
      await node.netns.ip("route", "replace", cidr, "via", uplinksOf(1 - at)[family] ?? "", "proto", "70");
    }
    const routes = () => runToEnd(node.netns.command(built("flatnetctl"), "routes", "--socket", node.socket));
    await waitFor(async () => (await routes()).status === 0);
    const left = await Promise.all(
      ["-4", "-6"].map((family) => node.netns.ip(family, "route", "show", "proto", "boot")),
    );
    expect(left.join("")).not.toMatch(/ via (192\.0\.2|2001:db8)/);
    for (const talker of talkers) await goesOn(talker);
    const fresh = await createPod(`new-${at}`, cleanup);
    addresses.set(fresh, addressesOf(resultOf(await node.add(fresh))));
    await serve(fresh.netns);
  }

  test("stays flat while its nodes change over one by one, and its pods keep their connections", async () => {
    await isFlat();
    await changeOver(0);
    await isFlat();
    await changeOver(1);
    await isFlat();
    for (const talker of talkers) await talker.stop();
    for (const { node, pods } of members) {
      for (const pod of pods) expect(await node.del(pod)).toEqual(SILENCE);
    }
  });
});
