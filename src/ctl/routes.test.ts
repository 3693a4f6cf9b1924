// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { NodeRoute } from "../gen/flatnet/ipam/v1/ipam.ts";
import { routeLines, summary } from "./routes.ts";

const ROUTES: NodeRoute[] = [
  { node: "node-2", subnet: "10.244.2.0/24", nextHop: "172.18.0.2", state: "installed", link: "eth0", reason: "" },
  { node: "node-1", subnet: "10.244.1.0/24", nextHop: "", state: "installed", link: "", reason: "" },
  {
    node: "node-3",
    subnet: "10.244.3.0/24",
    nextHop: "192.0.2.3",
    state: "behind-router",
    link: "",
    reason: "192.0.2.3 is behind the router 172.18.0.254",
  },
];

test("routes are a table, and what is wrong with one is a sentence below it", () => {
  expect(routeLines(ROUTES)).toEqual([
    "NODE    SUBNET         NEXT HOP    LINK  STATE",
    "node-1  10.244.1.0/24  ends here   -     installed",
    "node-2  10.244.2.0/24  172.18.0.2  eth0  installed",
    "node-3  10.244.3.0/24  192.0.2.3   -     behind-router",
    "",
    "10.244.3.0/24 of node-3: 192.0.2.3 is behind the router 172.18.0.254",
  ]);
  expect(routeLines([])).toEqual([]);
});

test("the last line says how many are in order and how many aren't", () => {
  expect(summary(ROUTES)).toBe("2 routes are in order, 1 behind-router.");
  expect(summary(ROUTES.slice(0, 1))).toBe("1 route is in order.");
});
