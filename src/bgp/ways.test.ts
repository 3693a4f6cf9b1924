// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { parsePrefix, prefixBytes } from "../net/prefix.ts";
import type { Route } from "../netlink/route.ts";
import { birdWays } from "./ways.ts";

const node = (name: string, ...podCIDRs: string[]) => ({ name, podCIDRs: podCIDRs.map(parsePrefix) });

function routeTo(subnet: string): Route {
  const prefix = parsePrefix(subnet);
  const { family, length } = prefix;
  const gateway = parseAddress("172.18.0.2");
  return { family, destination: prefixBytes(prefix), length, gateway, kind: "unicast", protocol: 12 };
}

test("each subnet of another node has BIRD's route or none, and what only routers know comes behind", () => {
  const nodes = [node("a", "10.0.1.0/24"), node("b", "10.0.2.0/24", "fd00:2::/64"), node("c", "10.0.3.0/24")];
  const routes = ["10.0.2.0/24", "10.9.0.0/16"].map(routeTo);
  const ways = birdWays(nodes, "a", routes, new Set(["10.0.3.0/24"]));
  expect(ways.map(({ node, subnet, route }) => [node, subnet, route !== undefined])).toEqual([
    ["b", "10.0.2.0/24", true],
    ["b", "fd00:2::/64", false],
    ["", "10.9.0.0/16", true],
  ]);
});
