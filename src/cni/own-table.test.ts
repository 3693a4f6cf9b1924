// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import type { Family } from "../net/address.ts";
import { parseAddress } from "../net/address.ts";
import { ownTable } from "../net/names.ts";
import { deleteRuleRequests, ownTableRequests, withOwnTable } from "../podnet/own-table.ts";
import { planPodNetwork } from "../podnet/plan.ts";
import { parsePluginConf } from "./conf.ts";

const sha256 = (text: string): Uint8Array => createHash("sha256").update(text).digest();
const ROUTES = [{ dst: "192.0.2.0/24", mtu: 1300 }, { dst: "2001:db8::/32" }, { dst: "198.51.100.0/24", table: 1000 }];

function planOf(routes: object[] = []) {
  const attachment = { network: "pods", containerId: "c0ffee", ifname: "net1" };
  const addresses = ["10.244.1.7", "fd00:10:244:1::7"].map(parseAddress);
  const wishes = parsePluginConf(JSON.stringify({ name: "pods", routes }));
  return planPodNetwork(attachment, undefined, addresses, 1450, wishes, sha256);
}

const moved = (families: Family[], routes: object[] = []) => withOwnTable(planOf(routes), new Set(families));
const TABLE = ownTable(planOf().host.name);
const whats = (plan: ReturnType<typeof planOf>) => ownTableRequests(plan, 5).map(({ what }) => what);

test("the first interface has no rule, and its routes stay in the main table", () => {
  const plan = planOf(ROUTES);
  expect(withOwnTable(plan, new Set())).toBe(plan);
  expect(plan.rules).toEqual([]);
  expect(ownTableRequests(plan, 5)).toEqual([]);
});

test("a further interface has its routes in its own table, and a rule from its address", () => {
  expect(whats(moved([4, 6]))).toEqual([
    `delete the IPv4 rule lookup ${TABLE}`,
    "add route default via 169.254.1.1",
    `add rule from 10.244.1.7 lookup ${TABLE}`,
    `delete the IPv6 rule lookup ${TABLE}`,
    "add route default via fe80::1",
    `add rule from fd00:10:244:1::7 lookup ${TABLE}`,
  ]);
});

test("wishes go to both tables, but for those that name one", () => {
  const { routes } = moved([4, 6], ROUTES);
  expect(routes.map(({ length, table }) => [length, table])).toEqual([
    [0, TABLE],
    [24, TABLE],
    [24, 1000],
    [0, TABLE],
    [32, TABLE],
  ]);
  expect(whats(moved([4, 6], ROUTES)).filter((what) => what.includes("/"))).toEqual([
    "add route 192.0.2.0/24 via 169.254.1.1",
    "add route 192.0.2.0/24 via 169.254.1.1",
    "add route 2001:db8::/32 via fe80::1",
    "add route 2001:db8::/32 via fe80::1",
  ]);
  expect(routes[1]).toMatchObject({ mtu: 1300, onlink: true });
});

test("a family whose default route is free stays in the main table", () => {
  const { routes, rules } = moved([6]);
  expect(routes.map(({ family, table }) => [family, table])).toEqual([
    [4, undefined],
    [4, undefined],
    [6, TABLE],
  ]);
  expect(rules.map(({ source }) => source)).toEqual([parseAddress("fd00:10:244:1::7")]);
});

test("DEL deletes the rules of both families by the table that follows from the host end's name", () => {
  expect(deleteRuleRequests(planOf().host.name).map(({ what }) => what)).toEqual([
    `delete the IPv4 rule lookup ${TABLE}`,
    `delete the IPv6 rule lookup ${TABLE}`,
  ]);
});
