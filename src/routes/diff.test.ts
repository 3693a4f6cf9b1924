// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "../net/address.ts";
import { parsePrefix } from "../net/prefix.ts";
import { describeRoute, type Route } from "../netlink/route.ts";
import { diffRoutes, isNodeRoute, type RouteDelta, routeKey } from "./diff.ts";
import { RoutePlan } from "./plan.ts";
import type { Node, Self } from "./source.ts";

const SELF: Self = { name: "self", podCIDRs: ["10.244.0.0/24", "fd00:10:244::/64"].map(parsePrefix) };

function node(name: string, addresses: string[], podCIDRs: string[]): Node {
  return { name, addresses: addresses.map(parseAddress), podCIDRs: podCIDRs.map(parsePrefix) };
}

function desiredRoutes(nodes: readonly Node[], self: Self): Route[] {
  const plan = new RoutePlan(self);
  plan.update(nodes);
  return [...plan.wanted.values()].map(({ route }) => route);
}

const A = node("a", ["172.18.0.2", "fd00:18::2"], ["10.244.1.0/24", "fd00:10:244:1::/64"]);

test("a node has a route to each peer's subnets, and none for its own that leads on", () => {
  const routes = desiredRoutes([node("self", ["172.18.0.1"], ["10.244.0.0/24"]), A], SELF);
  expect(routes.map(describeRoute).sort()).toEqual([
    "10.244.1.0/24 via 172.18.0.2",
    "fd00:10:244:1::/64 via fd00:18::2",
    "unreachable 10.244.0.0/24",
    "unreachable fd00:10:244::/64",
  ]);
  for (const route of routes) {
    expect(route).toMatchObject({ protocol: 70 });
    // IPv6 routes have a metric always; without it the kernel's would be another key than ours. What ends here stands
    // behind any other route to the same subnet.
    expect(route.priority).toBe(route.family === 6 || route.kind === "unreachable" ? 1024 : undefined);
    expect(isNodeRoute(route)).toBe(true);
  }
});

test("a node alone has the routes of its own subnets", () => {
  expect(desiredRoutes([], SELF).map(describeRoute)).toEqual([
    "unreachable 10.244.0.0/24",
    "unreachable fd00:10:244::/64",
  ]);
});

test("a subnet of a family in which the peer has no address has no route", () => {
  expect(desiredRoutes([node("a", ["172.18.0.2"], ["fd00:10:244:1::/64"])], { name: "self", podCIDRs: [] })).toEqual(
    [],
  );
});

function route(cidr: string, rest: Partial<Route> & { via?: string } = {}): Route {
  const { family, length } = parsePrefix(cidr);
  const { via, ...others } = rest;
  const gateway = via === undefined ? {} : { gateway: parseAddress(via) };
  return {
    family,
    destination: parseAddress(cidr.split("/")[0] as string),
    length,
    kind: "unicast",
    protocol: 70,
    ...gateway,
    ...others,
  };
}

test.for<[what: string, route: Route, ours: boolean]>([
  ["a route to a peer", route("10.244.1.0/24", { via: "172.18.0.2", oif: 3 }), true],
  ["our own subnet's", route("10.244.0.0/24", { kind: "unreachable" }), true],
  [
    "our own IPv6 subnet's, which the kernel says is on lo",
    route("fd00:10:244::/64", { kind: "unreachable", oif: 1 }),
    true,
  ],
  ["a route of ours with several next hops, of which neither gateway nor link is read", route("10.244.1.0/24"), true],
  ["a pod's host route", route("10.244.0.7/32", { oif: 4, scope: 253 }), false],
  ["a pod's IPv6 host route", route("fd00:10:244::7/128", { oif: 4, priority: 1024 }), false],
  ["a route of somebody else's", route("10.244.1.0/24", { via: "172.18.0.2", protocol: 4 }), false],
  ["the kernel's", route("172.18.0.0/16", { protocol: 2, oif: 3, scope: 253 }), false],
])("%s is told for what it is", ([, it, ours]) => {
  expect(isNodeRoute(it)).toBe(ours);
});

test("the kernel's own additions to a route make no difference", () => {
  const desired = desiredRoutes([A], SELF);
  const actual = desired.map((it) => ({ ...it, table: 254, scope: 0, oif: it.kind === "unreachable" ? 1 : 3 }));
  expect(diffRoutes(desired, actual)).toEqual({ add: [], replace: [], remove: [] });
});

test("a route that leads elsewhere is replaced, in either direction", () => {
  const via = route("10.244.1.0/24", { via: "172.18.0.2" });
  const moved = route("10.244.1.0/24", { via: "172.18.0.9" });
  const unreachable = route("10.244.1.0/24", { kind: "unreachable" });
  for (const [desired, actual] of [
    [via, moved],
    [via, unreachable],
    [unreachable, via],
  ] as const) {
    expect(diffRoutes([desired], [actual])).toEqual({ add: [], replace: [desired], remove: [] });
  }
});

test("of several routes with one key, as IPv4 has them, the one that leads the right way is left", () => {
  const [right, wrong, other] = ["172.18.0.2", "172.18.0.9", "172.18.0.8"].map((via) =>
    route("10.244.1.0/24", { via }),
  ) as [Route, Route, Route];
  expect(diffRoutes([right], [wrong, right])).toEqual({ add: [], replace: [], remove: [wrong] });
  expect(diffRoutes([right], [right, wrong])).toEqual({ add: [], replace: [], remove: [wrong] });
  // The kernel replaces the first of them.
  expect(diffRoutes([right], [wrong, other])).toEqual({ add: [], replace: [right], remove: [other] });
  expect(diffRoutes([], [wrong, other])).toEqual({ add: [], replace: [], remove: [wrong, other] });
});

test("the same destination with another metric or in another table is another route", () => {
  const it = route("fd00:10:244:1::/64", { via: "fd00:18::2", priority: 1024 });
  for (const other of [
    { ...it, priority: 5 },
    { ...it, table: 100 },
  ]) {
    expect(diffRoutes([it], [other])).toEqual({ add: [it], replace: [], remove: [other] });
  }
});

const prefixes = fc.constantFrom("10.244.1.0/24", "10.244.2.0/24", "10.244.2.0/25", "fd00:1::/64", "fd00:2::/64");
const routes: fc.Arbitrary<Route> = fc
  .tuple(prefixes, fc.constantFrom("2", "3"), fc.boolean(), fc.constantFrom(undefined, 254, 100))
  .map(([cidr, hop, unreachable, table]) => {
    const v6 = cidr.includes(":");
    return route(cidr, {
      ...(v6 ? { priority: 1024 } : {}),
      ...(table === undefined ? {} : { table }),
      ...(unreachable ? { kind: "unreachable" } : { via: v6 ? `fd00:18::${hop}` : `172.18.0.${hop}` }),
    });
  });
/** What else is in a kernel's table: pods' host routes of ours, and what isn't ours at all. */
const others: fc.Arbitrary<Route> = fc.oneof(
  fc.nat(255).map((n) => route(`10.244.0.${n}/32`, { oif: 4, scope: 253 })),
  routes.map((it) => ({ ...it, protocol: 4, priority: 7 })),
);
const unique = (arbitrary: fc.Arbitrary<Route>) => fc.uniqueArray(arbitrary, { selector: routeKey, maxLength: 8 });

/** A kernel's routing table: one route a key. Adding where one is, or removing where none is, would be an error. */
function apply(table: readonly Route[], delta: RouteDelta): Map<string, Route> {
  const kernel = new Map(table.map((it) => [routeKey(it), it]));
  for (const it of delta.add) {
    expect(kernel.has(routeKey(it))).toBe(false);
    kernel.set(routeKey(it), it);
  }
  for (const it of delta.replace) {
    expect(kernel.has(routeKey(it))).toBe(true);
    kernel.set(routeKey(it), it);
  }
  for (const it of delta.remove) expect(kernel.delete(routeKey(it))).toBe(true);
  return kernel;
}

function described(table: Iterable<Route>): string[] {
  return [...table]
    .map((it) => `${routeKey(it)} ${it.protocol} ${it.gateway ? formatAddress(it.gateway) : it.kind}`)
    .sort();
}

test("applying the difference to what is gives what should be, and everything else stays", () => {
  fc.assert(
    fc.property(unique(routes), unique(routes), unique(others), (desired, ours, foreign) => {
      const kernel = [...ours, ...foreign];
      const delta = diffRoutes(desired, kernel.filter(isNodeRoute));
      expect(described(apply(kernel, delta).values())).toEqual(described([...desired, ...foreign]));
      for (const it of delta.remove) expect(isNodeRoute(it)).toBe(true);
    }),
  );
});

test("a second pass over what the first one left finds nothing to do", () => {
  fc.assert(
    fc.property(unique(routes), unique(routes), (desired, actual) => {
      const after = apply(actual, diffRoutes(desired, actual));
      expect(diffRoutes(desired, [...after.values()])).toEqual({ add: [], replace: [], remove: [] });
    }),
  );
});
