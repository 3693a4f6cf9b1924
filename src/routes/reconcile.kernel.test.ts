// SPDX-License-Identifier: Apache-2.0
//
// One pass of the node routes in a namespace; what it left is read by iproute2.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup } from "../../test/helpers/daemon.ts";
import { callNetlink } from "../../test/helpers/netlink.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import { parseAddress } from "../net/address.ts";
import { parsePrefix } from "../net/prefix.ts";
import { NETLINK_ROUTE } from "../netlink/event-loop.ts";
import { desiredRoutes } from "./desired.ts";
import type { Node, Self } from "./peers.ts";

const SELF: Self = { name: "self", podCIDRs: ["10.244.0.0/24", "fd00:10:244::/64"].map(parsePrefix) };
const NOTHING = { set: [], removed: [], failed: [] };

function peer(n: number, hop = n): Node {
  return {
    name: `n${n}`,
    addresses: [`172.18.0.${hop}`, `fd00:18::${hop}`].map(parseAddress),
    podCIDRs: [`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`].map(parsePrefix),
  };
}

describe.runIf(canUseKernel())("a pass over the node routes", () => {
  const cleanup = new Cleanup();
  let netns: Netns;
  beforeEach(async () => {
    netns = await createNetns("routes", cleanup);
    await netns.ip("link", "add", "eth0", "mtu", "1450", "type", "veth", "peer", "name", "eth1");
    for (const name of ["eth0", "eth1"]) await netns.ip("link", "set", name, "up");
    await netns.ip("address", "add", "172.18.0.1/24", "dev", "eth0");
    await netns.ip("address", "add", "fd00:18::1/64", "dev", "eth0", "nodad");
  });
  afterEach(() => cleanup.run());

  const pass = async (...nodes: Node[]) => {
    const desired = desiredRoutes(nodes, SELF);
    const { result, error } = await callNetlink(netns, { protocol: NETLINK_ROUTE, call: "reconcile", desired });
    expect(error).toBeUndefined();
    return result;
  };
  /** The routes that carry a protocol number, as short as iproute2's words go. */
  const shown = async (protocol = "70") => {
    const text = await Promise.all(["-4", "-6"].map((family) => netns.ip(family, "route", "show", "proto", protocol)));
    return text
      .join("")
      .split("\n")
      .map((line) => line.replace(/ (dev|metric|pref|scope|linkdown) .*/, "").trim())
      .filter((line) => line !== "");
  };

  test("makes every route, and a second one finds nothing to do", async () => {
    const wanted = [
      "unreachable 10.244.0.0/24",
      "unreachable fd00:10:244::/64",
      "10.244.2.0/24 via 172.18.0.2",
      "fd00:10:244:2::/64 via fd00:18::2",
    ];
    expect(await pass(peer(2))).toEqual({ ...NOTHING, set: wanted });
    expect((await shown()).sort()).toEqual([...wanted].sort());
    expect(await pass(peer(2))).toEqual(NOTHING);
  });

  test("follows a peer that moved, adds one that came, removes one that went", async () => {
    await pass(peer(2), peer(3));
    expect(await pass(peer(2, 9), peer(4))).toEqual({
      set: [
        "10.244.4.0/24 via 172.18.0.4",
        "fd00:10:244:4::/64 via fd00:18::4",
        "10.244.2.0/24 via 172.18.0.9",
        "fd00:10:244:2::/64 via fd00:18::9",
      ],
      removed: ["10.244.3.0/24 via 172.18.0.3", "fd00:10:244:3::/64 via fd00:18::3"],
      failed: [],
    });
    expect((await shown()).sort()).toEqual([
      "10.244.2.0/24 via 172.18.0.9",
      "10.244.4.0/24 via 172.18.0.4",
      "fd00:10:244:2::/64 via fd00:18::9",
      "fd00:10:244:4::/64 via fd00:18::4",
      "unreachable 10.244.0.0/24",
      "unreachable fd00:10:244::/64",
    ]);
  });

  test("leaves pods' host routes and foreign routes alone, and says which foreign one is in the way", async () => {
    await netns.ip("route", "add", "10.244.0.7/32", "dev", "eth1", "proto", "70");
    await netns.ip("-6", "route", "add", "fd00:10:244::7/128", "dev", "eth1", "proto", "70");
    await netns.ip("route", "add", "10.244.2.0/24", "via", "172.18.0.8", "proto", "static");
    await netns.ip("-6", "route", "add", "fd00:10:244:2::/64", "via", "fd00:18::8", "proto", "static");
    await netns.ip("route", "add", "10.9.0.0/16", "via", "172.18.0.8", "proto", "static");
    const foreign = await shown("static");
    const report = await pass(peer(2), peer(3));
    expect(report?.failed).toEqual([
      {
        route: "10.244.2.0/24 via 172.18.0.2",
        error: "add route 10.244.2.0/24 via 172.18.0.2: EEXIST; there is one that isn't flatnet's",
      },
      {
        route: "fd00:10:244:2::/64 via fd00:18::2",
        error: "add route fd00:10:244:2::/64 via fd00:18::2: EEXIST; there is one that isn't flatnet's",
      },
    ]);
    expect(report?.set).toContain("10.244.3.0/24 via 172.18.0.3");
    await pass();
    expect(await shown("static")).toEqual(foreign);
    expect((await shown()).sort()).toEqual([
      "10.244.0.7",
      "fd00:10:244::7",
      "unreachable 10.244.0.0/24",
      "unreachable fd00:10:244::/64",
    ]);
  });

  test("a second next hop that somebody gave a route of ours is taken away, wherever it stands", async () => {
    for (const hops of [
      [9, 2],
      [2, 9],
      [8, 9],
    ]) {
      for (const hop of hops) {
        await netns.ip("route", "append", "10.244.2.0/24", "via", `172.18.0.${hop}`, "proto", "70");
        await netns.ip("-6", "route", "append", "fd00:10:244:2::/64", "via", `fd00:18::${hop}`, "proto", "70");
      }
      const both = ["nexthop", "via", "172.18.0.8", "nexthop", "via", "172.18.0.9"];
      await netns.ip("route", "replace", "10.244.3.0/24", "proto", "70", ...both);
      await pass(peer(2), peer(3));
      expect(await pass(peer(2), peer(3))).toEqual(NOTHING);
      expect((await shown()).sort()).toEqual([
        "10.244.2.0/24 via 172.18.0.2",
        "10.244.3.0/24 via 172.18.0.3",
        "fd00:10:244:2::/64 via fd00:18::2",
        "fd00:10:244:3::/64 via fd00:18::3",
        "unreachable 10.244.0.0/24",
        "unreachable fd00:10:244::/64",
      ]);
      await pass();
      expect(await shown()).toHaveLength(2);
    }
  });

  test("a peer that can't be reached stops no other, and is tried again", async () => {
    const lost: Node = { ...peer(2), addresses: ["203.0.113.1", "2001:db8::1"].map(parseAddress) };
    const report = await pass(lost, peer(3));
    expect(report?.failed.map(({ route }) => route)).toEqual([
      "10.244.2.0/24 via 203.0.113.1",
      "fd00:10:244:2::/64 via 2001:db8::1",
    ]);
    expect(report?.failed[0]?.error).toMatch(/^add route 10\.244\.2\.0\/24 via 203\.0\.113\.1: ENETUNREACH/);
    expect(await shown()).toContain("10.244.3.0/24 via 172.18.0.3");
    await netns.ip("route", "add", "203.0.113.1/32", "dev", "eth0");
    await netns.ip("-6", "route", "add", "2001:db8::1/128", "dev", "eth0");
    // A gateway beside the link is one too once there is a route to it, in IPv6 at least; IPv4 wants it on the link.
    expect((await pass(lost, peer(3)))?.failed).toEqual([]);
  });

  test("the MTU of pods is that of the uplinks to the peers, or of the way out of a node alone", async () => {
    const mtu = async () => (await callNetlink(netns, { protocol: NETLINK_ROUTE, call: "podMtu" })).result;
    expect(await mtu()).toBe(1500);
    await pass();
    expect(await mtu()).toBe(1500);
    await netns.ip("route", "add", "default", "via", "172.18.0.2");
    expect(await mtu()).toBe(1450);
    await netns.ip("link", "add", "eth2", "mtu", "1400", "type", "veth", "peer", "name", "eth3");
    for (const name of ["eth2", "eth3"]) await netns.ip("link", "set", name, "up");
    await netns.ip("address", "add", "172.19.0.1/24", "dev", "eth2");
    await pass(peer(2));
    expect(await mtu()).toBe(1450);
    await pass(peer(2), {
      name: "n3",
      addresses: [parseAddress("172.19.0.3")],
      podCIDRs: [parsePrefix("10.244.3.0/24")],
    });
    expect(await mtu()).toBe(1400);
  });
});
