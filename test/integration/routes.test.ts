// SPDX-License-Identifier: Apache-2.0
//
// The built daemon's node routes under everything that can happen to them on a real kernel: somebody removes them, links go
// down, tables are flooded, the daemon is killed. What is there is read by iproute2. No time is asserted: the daemon's own
// look at everything comes every 30 seconds, and what is waited for here comes long before, or the test fails.
import { renameSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { Cleanup, run, runToEnd, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, listRoutes } from "../helpers/flatnet-node.ts";
import { canUseKernel, createNetns, inNetns, joinByCable } from "../helpers/netns.ts";
import { built } from "../helpers/plugin.ts";

const OWN = ["10.77.1.0/24", "fd00:77:1::/64"] as const;
const OWN_ROUTES = OWN.map((cidr) => `unreachable ${cidr}`);

interface Peer {
  readonly name: string;
  readonly addresses: readonly [string, string];
  readonly podCIDRs: readonly string[];
}

function peer(n: number, hop = n): Peer {
  return {
    name: `node-${n}`,
    addresses: [`172.31.0.${hop}`, `fd00:31::${hop}`],
    podCIDRs: [`10.77.${n}.0/24`, `fd00:77:${n}::/64`],
  };
}

const routesOf = (peers: readonly Peer[]) =>
  [
    ...OWN_ROUTES,
    ...peers.flatMap(({ podCIDRs, addresses }) => podCIDRs.map((cidr, i) => `${cidr} via ${addresses[i]}`)),
  ].sort();

const textOf = (peers: readonly Peer[]) => JSON.stringify({ nodes: peers });

async function ourRoutes({ netns }: FlatnetNode): Promise<string[]> {
  const all = [...(await listRoutes(netns, 4)), ...(await listRoutes(netns, 6))];
  return all
    .filter(({ protocol }) => protocol === "70")
    .map(({ type, dst, gateway, dev }) =>
      // iproute2 prints the number of "unreachable" when it prints numbers.
      type !== undefined ? `unreachable ${dst}` : `${dst} ${gateway === undefined ? `dev ${dev}` : `via ${gateway}`}`,
    )
    .sort();
}

async function waitForRoutes(node: FlatnetNode, peers: readonly Peer[]): Promise<void> {
  const expected = routesOf(peers);
  await waitFor(async () => JSON.stringify(await ourRoutes(node)) === JSON.stringify(expected)).catch(() => {});
  expect(await ourRoutes(node), node.daemon.output()).toEqual(expected);
}

async function newSite(peers: readonly Peer[]): Promise<FlatnetNode> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  const node = await createNode("routes", cleanup, { podCidrs: OWN, peers: textOf(peers) });
  const fabric = await createNetns("fabric", cleanup);
  // Without it a link that goes down takes its IPv6 addresses along, and they are not flatnet's to bring back.
  await run(inNetns(node.netns.path, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/keep_addr_on_down"));
  await joinByCable(
    { netns: node.netns, ifname: "uplink", addresses: ["172.31.0.1/24", "fd00:31::1/64"] },
    { netns: fabric, ifname: "port", addresses: [] },
  );
  return node;
}

function writePeers(node: FlatnetNode, peers: readonly Peer[]): void {
  writeFileSync(`${node.peersFile}.new`, textOf(peers));
  renameSync(`${node.peersFile}.new`, node.peersFile);
}

const batch = (node: FlatnetNode, family: "-4" | "-6", lines: readonly string[]) =>
  run(["ip", "-n", node.netns.name, family, "-force", "-batch", "-"], { input: `${lines.join("\n")}\n` });

describe.runIf(canUseKernel())("what somebody else does to the routes", () => {
  test("a route that is removed, given another next hop, or made unreachable is put right", async () => {
    const peers = [peer(2), peer(3)];
    const node = await newSite(peers);
    await node.start();
    const ip = (family: string, ...args: string[]) => node.netns.ip(family, "route", ...args);
    const steps: (() => Promise<unknown>)[] = [
      () => ip("-4", "del", "10.77.2.0/24"),
      () => ip("-6", "del", "fd00:77:3::/64"),
      () => ip("-4", "del", "unreachable", OWN[0], "metric", "1024"),
      () => ip("-6", "del", "unreachable", OWN[1]),
      () => ip("-4", "replace", "10.77.2.0/24", "via", "172.31.0.9", "proto", "70"),
      () => ip("-6", "replace", "fd00:77:2::/64", "via", "fd00:31::9", "proto", "70"),
      () => ip("-4", "add", "10.77.9.0/24", "via", "172.31.0.9", "proto", "70"),
      () => ip("-4", "flush", "proto", "70"),
      () => ip("-6", "flush", "proto", "70"),
    ];
    for (const step of steps) {
      await step();
      await waitForRoutes(node, peers);
    }
  });

  test("an uplink that goes down and comes up again has its routes again, in both families", async () => {
    const peers = [peer(2), peer(3)];
    const node = await newSite(peers);
    await node.start();
    for (let i = 0; i < 3; i++) {
      await node.netns.ip("link", "set", "uplink", "down");
      await waitFor(async () => (await ourRoutes(node)).length < routesOf(peers).length);
      await node.netns.ip("link", "set", "uplink", "up");
      await waitForRoutes(node, peers);
    }
  });

  test("addresses that go and come back bring the routes back", async () => {
    const peers = [peer(2)];
    const node = await newSite(peers);
    await node.start();
    await node.netns.ip("address", "flush", "dev", "uplink");
    await node.netns.ip("address", "add", "172.31.0.1/24", "dev", "uplink");
    await node.netns.ip("address", "add", "fd00:31::1/64", "dev", "uplink", "nodad");
    await waitForRoutes(node, peers);
  });

  test("a peer whose link appears later is reached then", async () => {
    const far: Peer = {
      name: "far",
      addresses: ["172.32.0.9", "fd00:32::9"],
      podCIDRs: ["10.77.9.0/24", "fd00:77:9::/64"],
    };
    const node = await newSite([peer(2), far]);
    await node.start();
    await waitForRoutes(node, [peer(2)]);
    await node.netns.ip("link", "add", "second", "type", "veth", "peer", "name", "other");
    for (const name of ["second", "other"]) await node.netns.ip("link", "set", name, "up");
    await node.netns.ip("address", "add", "172.32.0.1/24", "dev", "second");
    await node.netns.ip("address", "add", "fd00:32::1/64", "dev", "second", "nodad");
    await waitForRoutes(node, [peer(2), far]);
  });

  test("a foreign route that comes before ours is told, and when it goes that is told too", async () => {
    const node = await newSite([peer(2)]);
    await node.start();
    const told = async (from: number, words: string) => {
      const find = () =>
        node
          .log()
          .slice(from)
          .some((line) => JSON.stringify(line).includes(words));
      await waitFor(find).catch(() => {});
      expect(find()).toBe(true);
    };
    const from = node.log().length;
    await node.netns.ip("route", "add", "10.77.2.0/25", "via", "172.31.0.9");
    await told(from, "10.77.2.0/25 via 172.31.0.9");
    const later = node.log().length;
    await node.netns.ip("route", "del", "10.77.2.0/25");
    await told(later, "in order again");
    await waitForRoutes(node, [peer(2)]);
  });
});

describe.runIf(canUseKernel())("a daemon that was killed", () => {
  test("sweeps what went stale meanwhile, makes what came, and touches nothing else", async () => {
    const node = await newSite([peer(2), peer(3)]);
    await node.start();
    await node.stop("SIGKILL");
    await node.netns.ip("route", "add", "10.88.0.0/16", "via", "172.31.0.8", "proto", "static");
    await node.netns.ip("route", "add", "10.77.66.0/24", "via", "172.31.0.66", "proto", "70");
    writePeers(node, [peer(3, 9), peer(4)]);
    await node.start();
    await waitForRoutes(node, [peer(3, 9), peer(4)]);
    const foreign = (await listRoutes(node.netns, 4)).filter(({ dst }) => dst === "10.88.0.0/16");
    expect(foreign).toMatchObject([{ gateway: "172.31.0.8", protocol: "4" }]);
  });
});

describe.runIf(canUseKernel())("flatnetctl routes", () => {
  test("tells of each subnet which way packets take, and of a peer behind a router which router", async () => {
    const far: Peer = { name: "node-9", addresses: ["198.51.100.9", "2001:db8::9"], podCIDRs: ["10.77.9.0/24"] };
    const node = await newSite([peer(2), far, { ...peer(3), podCIDRs: ["10.77.1.128/25"] }]);
    await node.netns.ip("route", "add", "default", "via", "172.31.0.254");
    await node.start();
    const ctl = (...args: string[]) => runToEnd([built("flatnetctl"), "routes", "--socket", node.socket, ...args]);
    const { status, stdout } = await ctl();
    expect(status).toBe(1);
    expect(stdout).toMatch(/^node-2 +10\.77\.2\.0\/24 +172\.31\.0\.2 +uplink +installed$/m);
    expect(stdout).toMatch(/^node-1 +fd00:77:1::\/64 +ends here +- +installed$/m);
    expect(stdout).toMatch(/^10\.77\.9\.0\/24 of node-9: 198\.51\.100\.9 is behind the router 172\.31\.0\.254/m);
    expect(stdout).toMatch(/^10\.77\.1\.128\/25 of node-3: 10\.77\.1\.0\/24 of node-1 overlaps/m);
    expect(stdout).toContain("4 routes are in order, 1 behind-router, 1 refused.");
    const { routes } = JSON.parse((await ctl("--json", "--broken")).stdout);
    expect(routes.map(({ subnet, state }: Record<string, string>) => `${subnet} ${state}`).sort()).toEqual([
      "10.77.1.128/25 refused",
      "10.77.9.0/24 behind-router",
    ]);
    writePeers(node, [peer(2)]);
    await waitFor(async () => (await ctl()).status === 0);
  });
});

/** What can happen to a node; each leaves it able to reach its peers again. */
const step = fc.oneof(
  fc.record({
    kind: fc.constant("peers" as const),
    hops: fc.array(fc.integer({ min: 20, max: 200 }), { maxLength: 8 }),
  }),
  fc.record({ kind: fc.constant("delete" as const), n: fc.integer({ min: 2, max: 9 }) }),
  fc.record({ kind: fc.constant("divert" as const), n: fc.integer({ min: 2, max: 9 }) }),
  fc.record({
    kind: fc.constantFrom("flap" as const, "flush" as const, "flood" as const, "kill" as const, "rest" as const),
  }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Thousands of routes of somebody else's, added and removed at once: more events than a socket takes. */
const FLOOD = Array.from({ length: 4000 }, (_, i) => `10.${128 + (i >> 8)}.${i & 255}.0/24 dev lo proto static`);

describe.runIf(canUseKernel())("chaos", () => {
  test("whatever happens in whatever order, the routes are what they should be soon after", async () => {
    let peers: Peer[] = [peer(2), peer(3), peer(4)];
    const node = await newSite(peers);
    await node.start();
    const perform = async (it: Step) => {
      switch (it.kind) {
        case "peers":
          peers = it.hops.map((hop, i) => peer(i + 2, hop));
          return writePeers(node, peers);
        case "delete":
          return batch(node, "-6", [`route del fd00:77:${it.n}::/64 proto 70`]).catch(() => {});
        case "divert":
          return batch(node, "-4", [`route replace 10.77.${it.n}.0/24 via 172.31.0.250 proto 70`]);
        case "flap":
          await node.netns.ip("link", "set", "uplink", "down");
          return node.netns.ip("link", "set", "uplink", "up");
        case "flush":
          return node.netns.ip("route", "flush", "proto", "70");
        case "flood":
          await batch(
            node,
            "-4",
            FLOOD.map((route) => `route add ${route}`),
          );
          return batch(
            node,
            "-4",
            FLOOD.map((route) => `route del ${route}`),
          );
        case "kill":
          await node.stop("SIGKILL");
          return node.start();
        case "rest":
          return waitForRoutes(node, peers);
      }
    };
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 12 }), async (steps) => {
        for (const it of steps) await perform(it);
        await waitForRoutes(node, peers);
      }),
      { numRuns: 8, endOnFailure: true },
    );
  });
});
