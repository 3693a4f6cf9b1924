// SPDX-License-Identifier: Apache-2.0
//
// Passes over the node routes in a namespace; what they left is read by iproute2.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup } from "../../test/helpers/daemon.ts";
import { callNetlink } from "../../test/helpers/netlink.ts";
import { canUseKernel, createNetns, joinByCable, type Netns } from "../../test/helpers/netns.ts";
import { parseAddress } from "../net/address.ts";
import { parsePrefix } from "../net/prefix.ts";
import { NETLINK_ROUTE } from "../netlink/event-loop.ts";
import type { Node, Self } from "./source.ts";

const SELF: Self = { name: "self", podCIDRs: ["10.244.0.0/24", "fd00:10:244::/64"].map(parsePrefix) };
const OWN_ROUTES = ["unreachable 10.244.0.0/24", "unreachable fd00:10:244::/64"];

function peer(n: number, hop = n): Node {
  return {
    name: `n${n}`,
    addresses: [`172.18.0.${hop}`, `fd00:18::${hop}`].map(parseAddress),
    podCIDRs: [`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`].map(parsePrefix),
  };
}

/** The routes to a peer's subnets. */
const to = (n: number, hop = n) => [
  `10.244.${n}.0/24 via 172.18.0.${hop}`,
  `fd00:10:244:${n}::/64 via fd00:18::${hop}`,
];

interface Options {
  readonly table?: number;
  readonly podMtu?: number;
  readonly restored?: number;
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

  /** Passes of one reconciler, one for each set of nodes; the outcome of the last. */
  const passes = async (sets: readonly (readonly Node[] | undefined)[], options: Options = {}) => {
    const call = { protocol: NETLINK_ROUTE, call: "reconcile", self: SELF, passes: sets, ...options } as const;
    const { result, error } = await callNetlink(netns, call);
    if (result === undefined) throw new Error(error.message);
    return { ...result, set: [...result.set].sort(), removed: [...result.removed].sort() };
  };
  const pass = (...nodes: Node[]) => passes([nodes]);
  /** The routes that carry a protocol number, as short as iproute2's words go, in order. */
  const shown = async (protocol = "70", table = "main") => {
    const text = await Promise.all(
      ["-4", "-6"].map((family) => netns.ip(family, "route", "show", "proto", protocol, "table", table)),
    );
    return text
      .join("")
      .split("\n")
      .map((line) => line.replace(/ (dev|metric|pref|scope|linkdown) .*/, "").trim())
      .filter((line) => line !== "")
      .sort();
  };
  const add = (route: string, ...more: string[]) =>
    netns.ip(...(route.includes(":") ? ["-6"] : []), "route", "add", ...route.split(" "), ...more);

  test("makes every route, and another daemon finds nothing to do", async () => {
    const wanted = [...OWN_ROUTES, ...to(2)].sort();
    expect(await pass(peer(2))).toMatchObject({ set: wanted, removed: [], broken: [] });
    expect(await shown()).toEqual(wanted);
    expect(await pass(peer(2))).toMatchObject({ set: [], removed: [], broken: [] });
  });

  test("follows a peer that moved, adds one that came, removes one that went", async () => {
    for (const sets of [
      [
        [peer(2), peer(3)],
        [peer(2, 9), peer(4)],
      ],
      // Another daemon, which finds what the first one left.
      [[peer(2, 9), peer(4)]],
    ]) {
      await pass(peer(2), peer(3));
      expect(await passes(sets)).toMatchObject({ set: [...to(2, 9), ...to(4)].sort(), removed: to(3), broken: [] });
      expect(await shown()).toEqual([...OWN_ROUTES, ...to(2, 9), ...to(4)].sort());
    }
  });

  test("removes nothing while the nodes aren't known, but its own subnets end here", async () => {
    await pass(peer(2));
    await netns.ip("route", "del", "unreachable", "10.244.0.0/24", "proto", "70", "metric", "1024");
    expect(await passes([undefined])).toMatchObject({ set: [OWN_ROUTES[0]], removed: [] });
    expect(await passes([undefined, undefined])).toMatchObject({ set: [], removed: [] });
    expect(await shown()).toEqual([...OWN_ROUTES, ...to(2)].sort());
    expect(await passes([undefined, []])).toMatchObject({ set: [], removed: to(2) });
  });

  test("nodes of an earlier time get their routes, and nothing is removed before there are those of now", async () => {
    await pass(peer(2));
    expect(await passes([[peer(3)]], { restored: 1 })).toMatchObject({ set: to(3), removed: [] });
    // One that moved has one route and not two.
    expect(await passes([[peer(3, 9)]], { restored: 1 })).toMatchObject({ set: to(3, 9), removed: [] });
    expect(await shown()).toEqual([...OWN_ROUTES, ...to(2), ...to(3, 9)].sort());
    const now = [[peer(3, 9)], [peer(3, 9), peer(4)]];
    expect(await passes(now, { restored: 1 })).toMatchObject({ set: to(4), removed: to(2) });
    expect(await shown()).toEqual([...OWN_ROUTES, ...to(3, 9), ...to(4)].sort());
  });

  test("a subnet that goes from one node to another is one step, and so is one that is divided", async () => {
    const b = { ...peer(3), podCIDRs: peer(2).podCIDRs };
    expect(await passes([[peer(2)], [b]])).toMatchObject({ set: to(2, 3), removed: [] });
    const halves = { ...b, podCIDRs: ["10.244.2.0/25", "10.244.2.128/25"].map(parsePrefix) };
    await passes([[b], [halves]]);
    expect(await shown()).toEqual(["10.244.2.0/25 via 172.18.0.3", "10.244.2.128/25 via 172.18.0.3", ...OWN_ROUTES]);
  });

  test("one change among many sends as many requests as among few", async () => {
    const many = Array.from({ length: 200 }, (_, i) => peer(i + 2));
    const [first, ...rest] = many as [Node, ...Node[]];
    const { requests, set } = await passes([many, [peer(2, 250), ...rest]]);
    const few = await passes([[first], [peer(2, 250)]]);
    expect({ set, requests }).toEqual({ set: few.set, requests: few.requests });
    expect((await shown()).length).toBe(few.set.length + OWN_ROUTES.length);
  });

  test("leaves pods' host routes and foreign routes alone, and says which foreign one is in the way", async () => {
    await add("10.244.0.7/32", "dev", "eth1", "proto", "70");
    await add("fd00:10:244::7/128", "dev", "eth1", "proto", "70");
    await add("10.244.2.0/24", "via", "172.18.0.8", "proto", "static");
    await add("fd00:10:244:2::/64", "via", "fd00:18::8", "proto", "static");
    await add("10.9.0.0/16", "via", "172.18.0.8", "proto", "static");
    const foreign = await shown("static");
    for (const sets of [[[peer(2), peer(3)]], [[peer(3)], [peer(2), peer(3)]]]) {
      const { broken } = await passes(sets);
      expect(broken).toEqual([
        expect.stringMatching(/^10\.244\.2\.0\/24 of n2: conflict: .*it uses 10\.244\.2\.0\/24 via 172\.18\.0\.8/),
        expect.stringMatching(/^fd00:10:244:2::\/64 of n2: conflict: .*via fd00:18::8/),
      ]);
      expect(await shown()).toEqual(expect.arrayContaining(to(3)));
      await pass();
    }
    expect(await shown("static")).toEqual(foreign);
    expect(await shown()).toEqual(["10.244.0.7", "fd00:10:244::7", ...OWN_ROUTES].sort());
  });

  test("a foreign route before ours is not what is replaced", async () => {
    await pass(peer(2));
    await netns.ip("route", "prepend", "10.244.2.0/24", "via", "172.18.0.8", "proto", "static");
    const { broken } = await pass(peer(2, 9));
    expect(broken).toEqual([expect.stringContaining("10.244.2.0/24 of n2: conflict")]);
    expect(await shown("static")).toEqual(["10.244.2.0/24 via 172.18.0.8"]);
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
      expect(await pass(peer(2), peer(3))).toMatchObject({ set: [], removed: [], broken: [] });
      expect(await shown()).toEqual([...OWN_ROUTES, ...to(2), ...to(3)].sort());
      await pass();
      expect(await shown()).toHaveLength(2);
    }
  });

  test("a peer that can't be reached stops no other, and is tried again", async () => {
    const lost: Node = { ...peer(2), addresses: ["203.0.113.1", "2001:db8::1"].map(parseAddress) };
    expect((await pass(lost, peer(3))).broken).toEqual([
      expect.stringMatching(/^10\.244\.2\.0\/24 of n2: failed: .*ENETUNREACH/),
      expect.stringMatching(/^fd00:10:244:2::\/64 of n2: failed: /),
    ]);
    expect(await shown()).toEqual([...OWN_ROUTES, ...to(3)].sort());
    await add("203.0.113.1/32", "dev", "eth0");
    await add("2001:db8::1/128", "dev", "eth0");
    // A gateway beside the link is one too once there is a route to it that is the link's own.
    expect((await pass(lost, peer(3))).broken).toEqual([]);
  });

  test("a peer behind a router is told by a look-up, and its router is named", async () => {
    await netns.ip("route", "add", "default", "via", "172.18.0.254");
    await netns.ip("-6", "route", "add", "default", "via", "fd00:18::254");
    await add("203.0.113.0/24", "via", "172.18.0.253");
    const far: Node = { ...peer(2), addresses: ["198.51.100.9", "2001:db8::1"].map(parseAddress) };
    const beside: Node = {
      ...peer(3),
      addresses: [parseAddress("203.0.113.9")],
      podCIDRs: [parsePrefix("10.244.3.0/24")],
    };
    const { broken } = await pass(far, beside, peer(4));
    expect(broken).toEqual([
      expect.stringContaining("10.244.2.0/24 of n2: behind-router: 198.51.100.9 is behind the router 172.18.0.254"),
      expect.stringContaining("fd00:10:244:2::/64 of n2: behind-router: 2001:db8::1 is behind the router fd00:18::254"),
      expect.stringContaining("10.244.3.0/24 of n3: behind-router: 203.0.113.9 is behind the router 172.18.0.253"),
    ]);
    expect(await shown()).toEqual([...OWN_ROUTES, ...to(4)].sort());
  });

  test("a route that the kernel wouldn't use is found out, and what it would use is named", async () => {
    await add("10.244.2.0/25", "via", "172.18.0.8", "proto", "static");
    await add("fd00:10:244:2::/64", "via", "fd00:18::8", "proto", "static", "metric", "5");
    await add("blackhole 10.244.3.0/25");
    const { broken } = await pass(peer(2), peer(3), peer(4));
    expect(broken).toEqual([
      expect.stringMatching(/^10\.244\.2\.0\/24 of n2: diverted: .*10\.244\.2\.0\/25 via 172\.18\.0\.8.*protocol 4/),
      expect.stringMatching(/^fd00:10:244:2::\/64 of n2: diverted: .*fd00:10:244:2::\/64 via fd00:18::8/),
      expect.stringMatching(/^10\.244\.3\.0\/24 of n3: diverted: /),
    ]);
    expect(await shown()).toEqual([...OWN_ROUTES, ...to(2), ...to(3), ...to(4)].sort());
  });

  test("a table of the operator's has the routes to peers, and they are told to be unused until a rule leads there", async () => {
    const table = 100;
    const { broken } = await passes([[peer(2)]], { table });
    expect(broken).toEqual([
      expect.stringContaining("10.244.2.0/24 of n2: diverted: "),
      expect.stringContaining("fd00:10:244:2::/64 of n2: diverted: "),
    ]);
    for (const family of ["-4", "-6"]) await netns.ip(family, "rule", "add", "lookup", `${table}`, "priority", "100");
    expect((await passes([[peer(2)]], { table })).broken).toEqual([]);
    expect(await shown("70", `${table}`)).toEqual(to(2));
    // The own subnets' stay in the main table, behind the pods' own routes.
    expect(await shown()).toEqual(OWN_ROUTES);
    expect(await pass(peer(2))).toMatchObject({ removed: to(2) });
    expect(await shown()).toEqual([...OWN_ROUTES, ...to(2)].sort());
  });

  test("the MTU of pods is that of the uplinks to the peers, or of the way out of a node alone", async () => {
    expect((await pass()).mtu).toBe(1500);
    await netns.ip("route", "add", "default", "via", "172.18.0.2");
    expect((await pass()).mtu).toBe(1450);
    await netns.ip("link", "add", "eth2", "mtu", "1400", "type", "veth", "peer", "name", "eth3");
    for (const name of ["eth2", "eth3"]) await netns.ip("link", "set", name, "up");
    await netns.ip("address", "add", "172.19.0.1/24", "dev", "eth2");
    expect((await pass(peer(2))).mtu).toBe(1450);
    const behind = {
      name: "n3",
      addresses: [parseAddress("172.19.0.3")],
      podCIDRs: [parsePrefix("10.244.3.0/24")],
    };
    for (const sets of [[[peer(2), behind]], [[peer(2)], [peer(2), behind]]]) {
      expect((await passes(sets)).mtu).toBe(1400);
    }
  });

  test("routes out of a link that is too small for the pods' packets say so, until it isn't", async () => {
    const limits = async () =>
      (await Promise.all(["-4", "-6"].map((family) => netns.ip(family, "route", "show", "proto", "70"))))
        .join("")
        .match(/mtu \d+ advmss \d+/g);
    for (const sets of [[[peer(2)]], [[], [peer(2)]]]) {
      await pass();
      expect((await passes(sets, { podMtu: 1500 })).broken).toEqual([]);
      expect(await limits()).toEqual(["mtu 1450 advmss 1410", "mtu 1450 advmss 1390"]);
    }
    expect(await passes([[peer(2)]], { podMtu: 1500 })).toMatchObject({ set: [], removed: [] });
    await netns.ip("link", "set", "eth0", "mtu", "1500");
    await passes([[peer(2)]], { podMtu: 1500 });
    expect(await limits()).toBeNull();
  });
});

describe.runIf(canUseKernel())("many routes", () => {
  test("of two thousand nodes are all made and all found again", async () => {
    const cleanup = new Cleanup();
    try {
      const netns = await createNetns("routes", cleanup);
      const other = await createNetns("routes", cleanup);
      await joinByCable(
        { netns, ifname: "eth0", addresses: ["172.18.0.1/16", "fd00:18::1/64"] },
        { netns: other, ifname: "eth0", addresses: [] },
      );
      const nodes = Array.from({ length: 2000 }, (_, i): Node => {
        const n = i + 2;
        return {
          name: `n${n}`,
          addresses: [`172.18.${n >> 8}.${n & 255}`, `fd00:18::${n.toString(16)}`].map(parseAddress),
          podCIDRs: [`10.${n >> 8}.${n & 255}.0/24`, `fd00:10:${n.toString(16)}::/64`].map(parsePrefix),
        };
      });
      const self = { name: "self", podCIDRs: [] };
      const call = { protocol: NETLINK_ROUTE, call: "reconcile", self } as const;
      const first = await callNetlink(netns, { ...call, passes: [nodes] });
      expect(first.result?.broken).toEqual([]);
      expect(first.result?.set).toHaveLength(4000);
      const second = await callNetlink(netns, { ...call, passes: [nodes] });
      expect(second.result).toMatchObject({ set: [], removed: [], broken: [] });
      const third = await callNetlink(netns, { ...call, passes: [[]] });
      expect(third.result?.removed).toHaveLength(4000);
    } finally {
      await cleanup.run();
    }
  });
});
