// SPDX-License-Identifier: Apache-2.0
//
// What the daemon tells Prometheus: GET /metrics in its text format. State is read when it is asked for; only calls, which
// are events, are counted as they happen.
import { status } from "@grpc/grpc-js";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { SessionState } from "../bgp/state.ts";
import type { SubnetCounts } from "../ipam/address-space.ts";
import type { PolicyTotal } from "../policy/engine/counter-totals.ts";
import type { Finding } from "../probe/tracker.ts";
import { type HttpServer, serveHttp } from "./http-server.ts";

/** What is read at each scrape. */
export interface Measurable {
  counts(): Promise<readonly SubnetCounts[]>;
  routesSynced(): boolean;
  /** How many subnets' routes are in each state, and how often the kernel's events were lost. */
  routes(): { readonly states: Readonly<Record<string, number>>; readonly eventsLost: number };
  /** What is known of the peers; undefined when they aren't asked. */
  findings(): readonly Pick<Finding, "kind" | "address" | "state">[] | undefined;
  /** The BGP sessions; undefined when routes aren't learned by BGP. */
  sessions(): readonly Pick<SessionState, "established">[] | undefined;
  /** What of Kubernetes is followed; none where it isn't. */
  kubernetes(): readonly FollowedKind[];
  /** undefined where network policies aren't enforced. */
  readonly policy: MeasuredPolicy | undefined;
  /** How many notices to the cluster's operators were given up; undefined where there is no cluster to tell. */
  eventsDropped(): number | undefined;
}

/** What the enforcement of network policies says of itself. */
export interface MeasuredPolicy {
  readonly synced: boolean;
  /** How many policies can't be used as a whole. */
  readonly faulty: number;
  totals(): Promise<readonly PolicyTotal[]>;
}

/** Objects of Kubernetes that are followed. */
export interface FollowedKind {
  /** Their resource: "nodes". */
  readonly kind: string;
  readonly objects: number;
  /** When the API server last confirmed them, ms since 1970; undefined: never. */
  readonly confirmedAtMs: number | undefined;
  /** How often they were listed, a watch of them began, and either failed, since the daemon started. */
  readonly lists: number;
  readonly watches: number;
  readonly errors: number;
}

/** The metrics can't be served. The message names the address. */
export class MetricsError extends Error {
  override readonly name = "MetricsError";
  readonly code = "METRICS_ADDRESS";
}

/** 1 ms to 10 s: from a call that needs no disk to a plugin's deadline. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** 50 µs to 1 s: from a neighbour on the same switch to an answer that is given up. */
const ROUND_TRIP_SECONDS = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1];

/** Every metric begins with flatnet_, but for those that any process has. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #calls = new Counter({
    name: "flatnet_rpc_calls_total",
    help: "Calls of the daemon's API, by method and gRPC status.",
    labelNames: ["method", "status"],
    registers: [this.#registry],
  });
  readonly #seconds = new Histogram({
    name: "flatnet_rpc_seconds",
    help: "How long calls took to be answered, in seconds, by method.",
    labelNames: ["method"],
    buckets: SECONDS,
    registers: [this.#registry],
  });

  readonly #roundTrips = new Histogram({
    name: "flatnet_probe_round_trip_seconds",
    help: "Round trips to other daemons, in seconds: to their nodes' addresses, and to their pods' subnets.",
    labelNames: ["kind"],
    buckets: ROUND_TRIP_SECONDS,
    registers: [this.#registry],
  });

  readonly #enforced = new Histogram({
    name: "flatnet_policy_enforced_seconds",
    help: "How long it took until policies were in force, in seconds: since an ADD asked (add), since a change was heard of (change).",
    labelNames: ["since"],
    buckets: SECONDS,
    registers: [this.#registry],
  });

  constructor({ counts, routesSynced, routes, findings, sessions, kubernetes, policy, eventsDropped }: Measurable) {
    const registers = [this.#registry];
    new Gauge({
      name: "flatnet_ipam_addresses",
      help: "Addresses of each subnet and pool of this node, by state: used, cooling (resting), sticky (kept for an owner), free.",
      labelNames: ["subnet", "pool", "state"],
      registers,
      async collect() {
        this.reset();
        for (const { cidr, pools } of await counts()) {
          for (const { name: pool, used, cooling, sticky, free } of pools) {
            const states = { used, cooling: cooling - sticky, sticky, free };
            for (const [state, count] of Object.entries(states)) this.set({ subnet: cidr, pool, state }, Number(count));
          }
        }
      },
    });
    new Gauge({
      name: "flatnet_ipam_reserved_addresses",
      help: "Addresses of each subnet that are not given out: its own, excluded ones, and what is free of a draining subnet.",
      labelNames: ["subnet"],
      registers,
      async collect() {
        this.reset();
        for (const { cidr, reserved } of await counts()) this.set({ subnet: cidr }, Number(reserved));
      },
    });
    new Gauge({
      name: "flatnet_routes_synced",
      help: "1 once the routes to the other nodes have been in order since the daemon started, else 0.",
      registers,
      collect() {
        this.set(routesSynced() ? 1 : 0);
      },
    });
    new Gauge({
      name: "flatnet_routes",
      help: "Subnets of all nodes by the state of their routes: installed is in order, all others are not.",
      labelNames: ["state"],
      registers,
      collect() {
        for (const [state, count] of Object.entries(routes().states)) this.set({ state }, count);
      },
    });
    new Counter({
      name: "flatnet_route_events_lost_total",
      help: "How often so much happened to routes, links and addresses at once that all of them were looked at instead.",
      registers,
      collect() {
        this.reset();
        this.inc(routes().eventsLost);
      },
    });
    new Gauge({
      name: "flatnet_probe_addresses",
      help: "Addresses of other nodes (kind node) and of their pods' subnets (kind pods), by whether they answer.",
      labelNames: ["kind", "family", "state"],
      registers,
      collect() {
        this.reset();
        for (const { kind, address, state } of findings() ?? []) {
          this.inc({ kind, family: address.includes(":") ? "6" : "4", state });
        }
      },
    });
    new Gauge({
      name: "flatnet_bgp_sessions",
      help: "BGP sessions with other nodes and routers, one for each family, by whether they are up.",
      labelNames: ["state"],
      registers,
      collect() {
        this.reset();
        const all = sessions();
        if (all === undefined) return;
        const up = all.filter(({ established }) => established).length;
        this.set({ state: "up" }, up);
        this.set({ state: "down" }, all.length - up);
      },
    });
    this.#follow(kubernetes);
    if (policy !== undefined) this.#police(policy);
    new Counter({
      name: "flatnet_events_dropped_total",
      help: "Events of Kubernetes that were not written: too many waited for the API server, or it refused them.",
      registers,
      collect() {
        this.reset();
        this.inc(eventsDropped() ?? 0);
      },
    });
    collectDefaultMetrics({ register: this.#registry });
  }

  #follow(kubernetes: Measurable["kubernetes"]): void {
    const labelNames = ["kind"];
    const registers = [this.#registry];
    new Gauge({
      name: "flatnet_kube_staleness_seconds",
      help: "How long ago the API server last confirmed what is known of Kubernetes, in seconds, by kind of objects.",
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const { kind, confirmedAtMs } of kubernetes()) {
          // A clock that was set back makes nothing fresher than now.
          if (confirmedAtMs !== undefined) this.set({ kind }, Math.max(0, Date.now() - confirmedAtMs) / 1000);
        }
      },
    });
    new Gauge({
      name: "flatnet_kube_objects",
      help: "Objects of Kubernetes that are known, by kind.",
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const { kind, objects } of kubernetes()) this.set({ kind }, objects);
      },
    });
    const counters = {
      lists: "How often all objects of a kind were read, since the daemon started.",
      watches: "How often a watch of a kind of objects began, since the daemon started.",
      errors: "How often reading or watching a kind of objects failed, since the daemon started.",
    } as const;
    for (const [name, help] of Object.entries(counters)) {
      new Counter({
        name: `flatnet_kube_${name}_total`,
        help,
        labelNames,
        registers,
        collect() {
          this.reset();
          for (const followed of kubernetes())
            this.inc({ kind: followed.kind }, followed[name as keyof typeof counters]);
        },
      });
    }
  }

  #police(policy: MeasuredPolicy): void {
    const registers = [this.#registry];
    new Gauge({
      name: "flatnet_policy_synced",
      help: "1 once network policies have been in force since the daemon started, else 0.",
      registers,
      collect() {
        this.set(policy.synced ? 1 : 0);
      },
    });
    new Gauge({
      name: "flatnet_policy_faulty",
      help: "Network policies of the cluster that can't be used as a whole: what can't be used allows nothing.",
      registers,
      collect() {
        this.set(policy.faulty);
      },
    });
    new Counter({
      name: "flatnet_policy_packets_total",
      help: "First packets of connections that policies allowed or denied, by policy; those of pods that nobody knows yet by none.",
      labelNames: ["policy", "direction", "verdict"],
      registers,
      async collect() {
        this.reset();
        for (const { packets, ...labels } of await policy.totals()) this.inc({ ...labels }, Number(packets));
      },
    });
  }

  /** @param since what was enforced: a pod that was added, or a change */
  policyEnforced(since: "add" | "change", seconds: number): void {
    this.#enforced.observe({ since }, seconds);
  }

  /** @param code of gRPC; 0 for success */
  called(method: string, code: number, seconds: number): void {
    this.#calls.inc({ method, status: status[code] ?? `${code}` });
    this.#seconds.observe({ method }, seconds);
  }

  roundTrip(kind: Finding["kind"], seconds: number): void {
    this.#roundTrips.observe({ kind }, seconds);
  }

  /** All of them in Prometheus' text format. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}

/**
 * Serves until it is closed.
 * @param address "127.0.0.1:9470", "[::1]:9470"; port 0 takes a free one
 * @throws MetricsError when it can't be had
 */
export async function serveMetrics(
  metrics: Metrics,
  { host, port }: { host: string; port: number },
  onError: (error: unknown) => void,
): Promise<HttpServer> {
  const page = async () => ({ code: 200, type: metrics.contentType, body: await metrics.text() });
  try {
    return await serveHttp({ host, port }, { "/metrics": page }, onError);
  } catch (cause) {
    throw new MetricsError(`metrics can't be served on ${host}:${port}: ${(cause as Error).message}`, { cause });
  }
}
