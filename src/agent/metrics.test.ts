// SPDX-License-Identifier: Apache-2.0
import { createServer } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { SubnetCounts } from "../ipam/address-space.ts";
import { type Measurable, Metrics, MetricsError, serveMetrics } from "./metrics.ts";

const closers: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const counts = { capacity: 254, used: 3, cooling: 2, sticky: 1, free: 248 };
const SUBNET: SubnetCounts = {
  ...counts,
  cidr: "10.244.1.0/24",
  reserved: 2,
  draining: false,
  pools: [{ name: "", ...counts }],
};

function metricsOf(more: Partial<Measurable> = {}): Metrics {
  return new Metrics({
    counts: async () => [SUBNET],
    routesSynced: () => true,
    findings: () => undefined,
    sessions: () => undefined,
    kubernetes: () => [],
    policy: undefined,
    eventsDropped: () => undefined,
    routes: () => ({ states: { installed: 4, refused: 0 }, eventsLost: 2 }),
    ...more,
  });
}

async function served(metrics: Metrics): Promise<string> {
  const { port, close } = await serveMetrics(metrics, { host: "127.0.0.1", port: 0 }, () => {});
  closers.push(close);
  return `http://127.0.0.1:${port}`;
}

const linesOf = (text: string, name: string) => text.split("\n").filter((line) => line.startsWith(`${name}{`));

test("addresses are told by subnet, pool and state as they are at each scrape", async () => {
  let subnets = [SUBNET];
  const metrics = metricsOf({ counts: async () => subnets });
  expect(linesOf(await metrics.text(), "flatnet_ipam_addresses")).toEqual([
    'flatnet_ipam_addresses{subnet="10.244.1.0/24",pool="",state="used"} 3',
    'flatnet_ipam_addresses{subnet="10.244.1.0/24",pool="",state="cooling"} 1',
    'flatnet_ipam_addresses{subnet="10.244.1.0/24",pool="",state="sticky"} 1',
    'flatnet_ipam_addresses{subnet="10.244.1.0/24",pool="",state="free"} 248',
  ]);
  subnets = [];
  expect(linesOf(await metrics.text(), "flatnet_ipam_addresses")).toEqual([]);
});

test("Events that were not written are counted", async () => {
  expect(await metricsOf().text()).toContain("flatnet_events_dropped_total 0\n");
  expect(await metricsOf({ eventsDropped: () => 3 }).text()).toContain("flatnet_events_dropped_total 3\n");
});

test("calls are counted by method and status, with how long they took", async () => {
  const metrics = metricsOf();
  metrics.called("Allocate", 0, 0.004);
  metrics.called("Allocate", 8, 0.004);
  const text = await metrics.text();
  expect(linesOf(text, "flatnet_rpc_calls_total")).toEqual([
    'flatnet_rpc_calls_total{method="Allocate",status="OK"} 1',
    'flatnet_rpc_calls_total{method="Allocate",status="RESOURCE_EXHAUSTED"} 1',
  ]);
  expect(linesOf(text, "flatnet_rpc_seconds_count")).toEqual(['flatnet_rpc_seconds_count{method="Allocate"} 2']);
});

test("BGP sessions are counted by whether they are up, where there is BGP", async () => {
  const sessions = [{ established: true }, { established: false }, { established: true }];
  expect(linesOf(await metricsOf({ sessions: () => sessions }).text(), "flatnet_bgp_sessions")).toEqual([
    'flatnet_bgp_sessions{state="up"} 2',
    'flatnet_bgp_sessions{state="down"} 1',
  ]);
  expect(linesOf(await metricsOf().text(), "flatnet_bgp_sessions")).toEqual([]);
});

test("whether the routes are in order is 1 or 0", async () => {
  expect(await metricsOf().text()).toContain("flatnet_routes_synced 1");
  expect(await metricsOf({ routesSynced: () => false }).text()).toContain("flatnet_routes_synced 0");
});

test("peers are told by kind, family and whether they answer, with round trips", async () => {
  const finding = (kind: "node" | "pods", address: string, state: "reachable" | "unreachable") => ({
    kind,
    address,
    state,
  });
  const metrics = metricsOf({
    findings: () => [
      finding("node", "172.18.0.2", "reachable"),
      finding("node", "172.18.0.3", "reachable"),
      finding("pods", "fd00:2::", "unreachable"),
    ],
  });
  metrics.roundTrip("node", 0.002);
  const text = await metrics.text();
  expect(linesOf(text, "flatnet_probe_addresses")).toEqual([
    'flatnet_probe_addresses{kind="node",family="4",state="reachable"} 2',
    'flatnet_probe_addresses{kind="pods",family="6",state="unreachable"} 1',
  ]);
  expect(linesOf(text, "flatnet_probe_round_trip_seconds_sum")).toEqual([
    'flatnet_probe_round_trip_seconds_sum{kind="node"} 0.002',
  ]);
});

test("they are at /metrics and nowhere else, for GET and HEAD", async () => {
  const url = await served(metricsOf());
  const good = await fetch(`${url}/metrics`);
  expect([good.status, good.headers.get("content-type")]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
  expect(await good.text()).toContain("process_resident_memory_bytes");
  const head = await fetch(`${url}/metrics`, { method: "HEAD" });
  expect([head.status, await head.text()]).toEqual([200, ""]);
  expect((await fetch(`${url}/`)).status).toBe(404);
  expect((await fetch(`${url}/metrics`, { method: "POST" })).status).toBe(405);
});

test("a service that can't be asked is an error of the scrape", async () => {
  const counts = () => Promise.reject(new Error("the disk is full"));
  const response = await fetch(`${await served(metricsOf({ counts }))}/metrics`);
  expect([response.status, await response.text()]).toEqual([500, "the disk is full\n"]);
});

test("an address that somebody has is an error that names it", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  closers.push(() => other.close());
  await new Promise((listening) => other.once("listening", listening));
  const { port } = other.address() as { port: number };
  const serving = serveMetrics(metricsOf(), { host: "127.0.0.1", port }, () => {});
  await expect(serving).rejects.toThrow(MetricsError);
  await expect(serving).rejects.toThrow(`127.0.0.1:${port}`);
});

test("routes are counted by their state, those there are none of too", async () => {
  const text = await metricsOf().text();
  expect(text).toContain('flatnet_routes{state="installed"} 4');
  expect(text).toContain('flatnet_routes{state="refused"} 0');
  expect(text).toContain("flatnet_route_events_lost_total 2");
});

test("what is followed of Kubernetes is told by kind: how old, how many, how often it was asked", async () => {
  const kind = { objects: 3, lists: 1, watches: 2, errors: 4 };
  const kubernetes = () => [
    { ...kind, kind: "nodes", confirmedAtMs: Date.now() - 60_000 },
    { ...kind, kind: "pods", confirmedAtMs: undefined },
    { ...kind, kind: "namespaces", confirmedAtMs: Date.now() + 60_000 },
  ];
  const metrics = metricsOf({ kubernetes });
  const first = await metrics.text();
  const staleness = linesOf(first, "flatnet_kube_staleness_seconds");
  // Of what was never confirmed nobody knows how old it is.
  expect(staleness).toHaveLength(2);
  expect(staleness[0]).toMatch(/^flatnet_kube_staleness_seconds{kind="nodes"} 6\d(\.\d+)?$/);
  expect(staleness[1]).toBe('flatnet_kube_staleness_seconds{kind="namespaces"} 0');
  for (const text of [first, await metrics.text()]) {
    for (const [name, value] of [
      ["objects", 3],
      ["lists_total", 1],
      ["watches_total", 2],
      ["errors_total", 4],
    ]) {
      expect(linesOf(text, `flatnet_kube_${name}`)[0]).toBe(`flatnet_kube_${name}{kind="nodes"} ${value}`);
    }
  }
  expect(linesOf(await metricsOf().text(), "flatnet_kube_objects")).toEqual([]);
});

test("what policies do is told where they are enforced, and nothing of it where they aren't", async () => {
  const total = { policy: "shop/web", direction: "ingress", verdict: "denied", packets: 3n } as const;
  const metrics = metricsOf({ policy: { synced: true, faulty: 2, totals: async () => [total] } });
  metrics.policyEnforced("add", 0.002);
  const lines = (await metrics.text()).split("\n");
  expect(lines).toEqual(
    expect.arrayContaining([
      "flatnet_policy_synced 1",
      "flatnet_policy_faulty 2",
      'flatnet_policy_packets_total{policy="shop/web",direction="ingress",verdict="denied"} 3',
      'flatnet_policy_enforced_seconds_count{since="add"} 1',
    ]),
  );
  const none = await metricsOf().text();
  expect(none).not.toMatch(/^flatnet_policy_(synced|faulty|packets_total)[ {]/m);
});
