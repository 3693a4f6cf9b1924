// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { formatPrefix, parsePrefix } from "../net/prefix.ts";
import { describeRoute } from "../netlink/route.ts";
import type { Wanted } from "./desired.ts";
import { leadsTheSameWay } from "./diff.ts";
import { RoutePlan } from "./plan.ts";
import type { Node, Self } from "./source.ts";

const SELF: Self = { name: "self", podCIDRs: [parsePrefix("10.244.0.0/24")] };

function node(name: string, hop: number, ...podCIDRs: string[]): Node {
  return { name, addresses: [parseAddress(`172.18.0.${hop}`)], podCIDRs: podCIDRs.map(parsePrefix) };
}

/** What an update changed, in words. */
function changes(plan: RoutePlan, nodes: readonly Node[]): string[] {
  const words = (it: Wanted | undefined) => (it === undefined ? "nothing" : describeRoute(it.route));
  return [...plan.update(nodes)].map(([key, was]) => `${words(was)} -> ${words(plan.wanted.get(key))}`).sort();
}

const A = node("a", 2, "10.244.2.0/24");
const B = node("b", 3, "10.244.3.0/24");

test("only what changes is told: a node that came, one that went, one that moved", () => {
  const plan = new RoutePlan(SELF);
  expect(changes(plan, [A])).toEqual([
    "nothing -> 10.244.2.0/24 via 172.18.0.2",
    "nothing -> unreachable 10.244.0.0/24",
  ]);
  expect(changes(plan, [B, A])).toEqual(["nothing -> 10.244.3.0/24 via 172.18.0.3"]);
  expect(changes(plan, [B, A])).toEqual([]);
  expect(changes(plan, [node("a", 9, "10.244.2.0/24"), B])).toEqual([
    "10.244.2.0/24 via 172.18.0.2 -> 10.244.2.0/24 via 172.18.0.9",
  ]);
  expect(changes(plan, [B])).toEqual(["10.244.2.0/24 via 172.18.0.9 -> nothing"]);
});

test("a subnet that goes from one node to another is one change", () => {
  const plan = new RoutePlan(SELF);
  plan.update([A, B]);
  expect(changes(plan, [node("b", 3, "10.244.3.0/24", "10.244.2.0/24")])).toEqual([
    "10.244.2.0/24 via 172.18.0.2 -> 10.244.2.0/24 via 172.18.0.3",
  ]);
});

test("another object that says the same changes no route", () => {
  const plan = new RoutePlan(SELF);
  plan.update([A, B]);
  expect(changes(plan, [{ ...A }, { ...B }])).toEqual([]);
});

test("a clash takes the routes of both, and they are back when it is over", () => {
  const plan = new RoutePlan(SELF);
  plan.update([A, B]);
  const rival = node("c", 4, "10.244.2.0/25", "10.244.4.0/24");
  expect(changes(plan, [A, B, rival])).toEqual([
    "10.244.2.0/24 via 172.18.0.2 -> nothing",
    "nothing -> 10.244.4.0/24 via 172.18.0.4",
  ]);
  expect(plan.refusals.map(({ node, prefix }) => `${formatPrefix(prefix)} of ${node}`)).toEqual([
    "10.244.2.0/24 of a",
    "10.244.2.0/25 of c",
  ]);
  expect(changes(plan, [A, B])).toEqual([
    "10.244.4.0/24 via 172.18.0.4 -> nothing",
    "nothing -> 10.244.2.0/24 via 172.18.0.2",
  ]);
  expect(plan.refusals).toEqual([]);
});

test("an own address that changes is looked at", () => {
  const plan = new RoutePlan(SELF);
  plan.update([A, node("self", 1, "10.244.0.0/24")]);
  const inside = { ...node("self", 1, "10.244.0.0/24"), addresses: [parseAddress("10.244.2.77")] };
  expect(changes(plan, [A, inside])).toEqual(["10.244.2.0/24 via 172.18.0.2 -> nothing"]);
});

test("routes to peers are in the table that is asked for, and the own subnets' never", () => {
  const plan = new RoutePlan(SELF, 100);
  plan.update([A]);
  expect([...plan.wanted.values()].map(({ route }) => [describeRoute(route), route.table])).toEqual([
    ["10.244.2.0/24 via 172.18.0.2", 100],
    ["unreachable 10.244.0.0/24", undefined],
  ]);
});

const cluster = fc
  .uniqueArray(fc.tuple(fc.nat(4), fc.nat(4), fc.uniqueArray(fc.nat(5), { maxLength: 2 })), {
    selector: ([name]) => name,
    maxLength: 4,
  })
  .map((list) => list.map(([n, hop, nets]) => node(`n${n}`, 10 + hop, ...nets.map((net) => `10.244.${net}.0/24`))));

test("step by step or at once: the same routes, and each step tells exactly what differs", () => {
  fc.assert(
    fc.property(fc.array(cluster, { minLength: 1, maxLength: 5 }), (versions) => {
      const plan = new RoutePlan(SELF);
      for (const nodes of versions) {
        const before = new Map(plan.wanted);
        const told = plan.update(nodes);
        const fresh = new RoutePlan(SELF);
        fresh.update(nodes);
        const words = (it: RoutePlan) => [...it.wanted.values()].map(({ route }) => describeRoute(route)).sort();
        expect(words(plan)).toEqual(words(fresh));
        expect(plan.refusals.length).toBe(fresh.refusals.length);
        for (const key of new Set([...before.keys(), ...plan.wanted.keys()])) {
          const [was, is] = [before.get(key), plan.wanted.get(key)];
          const same = was !== undefined && is !== undefined && leadsTheSameWay(was.route, is.route);
          expect(told.has(key)).toBe(!same);
        }
      }
    }),
  );
});
