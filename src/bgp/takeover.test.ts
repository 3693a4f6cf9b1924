// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { formatPrefix } from "../net/prefix.ts";
import type { Route } from "../netlink/route.ts";
import type { BgpNode } from "./sessions.ts";
import { subnetsOf, Takeover } from "./takeover.ts";
import { node } from "./testing/cluster.ts";

const NODES = [node(1, [4]), node(2), node(3, [4])];
const subnets = (nodes: typeof NODES) => nodes.map(({ podCIDRs }) => podCIDRs.map(formatPrefix));

test("a static route that was there stays until BIRD has one to the subnet, and none is made", () => {
  const takeover = new Takeover<BgpNode>("node-1", new Set(["10.77.2.0/24", "fd00:77:2::/64"]));
  expect(subnets(takeover.narrow(NODES))).toEqual([["10.77.1.0/24"], ["10.77.2.0/24", "fd00:77:2::/64"], []]);
  takeover.taken(new Set(["fd00:77:2::/64", "10.77.3.0/24"]));
  expect(subnets(takeover.narrow(NODES))).toEqual([["10.77.1.0/24"], ["10.77.2.0/24"], []]);
  expect(takeover.isWaiting).toBe(true);
  takeover.taken(new Set(["10.77.2.0/24"]));
  expect(subnets(takeover.narrow(NODES))).toEqual([["10.77.1.0/24"], [], []]);
  expect(takeover.isWaiting).toBe(false);
});

test("what BIRD took over is not given back when BIRD withdraws it", () => {
  const takeover = new Takeover<BgpNode>("node-1", new Set(["10.77.2.0/24"]));
  takeover.taken(new Set(["10.77.2.0/24"]));
  takeover.taken(new Set());
  expect(subnets(takeover.narrow(NODES))).toEqual([["10.77.1.0/24"], [], []]);
});

test("a node that has not changed stays the same object", () => {
  const takeover = new Takeover<BgpNode>("node-1", new Set(["10.77.2.0/24"]));
  const before = takeover.narrow(NODES);
  takeover.taken(new Set());
  expect(takeover.narrow(NODES).every((one, i) => one === before[i])).toBe(true);
});

test("routes to other nodes' subnets are those with a gateway", () => {
  const route = (length: number, more: Partial<Route>): Route => ({
    family: 4,
    destination: parseAddress("10.77.2.0"),
    length,
    kind: "unicast",
    protocol: 70,
    ...more,
  });
  const gateway = parseAddress("172.31.0.2");
  const routes = [route(24, { gateway }), route(32, { oif: 7 }), route(25, { kind: "unreachable" })];
  expect(subnetsOf(routes)).toEqual(new Set(["10.77.2.0/24"]));
});
