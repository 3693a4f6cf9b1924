// SPDX-License-Identifier: Apache-2.0
//
// The daemon put together. Start: everything that can be wrong is found before the kernel is touched, and the plugin is
// served last. Stop: the plugin first, the database last; routes and rules stay, because pods live on.
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Bird, birdPaths } from "../bgp/bird.ts";
import { readBootId } from "../ipam/boot-id.ts";
import { type IpamServer, serveIpam } from "../ipam/server.ts";
import type { IpamService } from "../ipam/service.ts";
import { refuseWhenTaken } from "../ipam/socket-claim.ts";
import { hostLinkName } from "../net/names.ts";
import { formatPrefix } from "../net/prefix.ts";
import { sha256 } from "../net/sha256.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, Netlink } from "../netlink/event-loop.ts";
import { ProbeError } from "../probe/sockets.ts";
import { PeersFile } from "../routes/peers-file.ts";
import { fixedSource, type Node, type NodeSource } from "../routes/source.ts";
import { lookAtKernel, openIpam } from "./addresses.ts";
import { BgpKeeper } from "./bgp-keeper.ts";
import { followBgp, retireBird } from "./bgp-loops.ts";
import type { Closer } from "./closer.ts";
import type { ClusterLife } from "./cluster-life.ts";
import type { Config } from "./config.ts";
import { EgressKeeper } from "./egress-keeper.ts";
import { Health } from "./health.ts";
import type { Kubernetes } from "./kubernetes.ts";
import { LinkRemover } from "./link-remover.ts";
import type { Log } from "./log.ts";
import type { Measurable, Metrics } from "./metrics.ts";
import { checksOf, keepCniFiles, NOT_SYNCED, openFootprint } from "./node-life.ts";
import { toNodeRoute } from "./node-route.ts";
import { listLinks, watchPods } from "./pod-watch.ts";
import { openPolicy } from "./policy.ts";
import { policyService } from "./policy-service.ts";
import { ProbeKeeper } from "./probe-keeper.ts";
import { RouteKeeper } from "./route-keeper.ts";
import { enableForwarding } from "./sysctls.ts";
import { keepJournal, pruneHistory, retireTheGone, undoHalfMade } from "./upkeep.ts";

export interface Agent {
  /** Resolves once nothing of the daemon runs any more. */
  stop(): Promise<void>;
}

/** What an agent is part of, and what outlives it. */
export interface Surroundings {
  readonly health?: Health;
  /** Where that is the source of nodes. */
  readonly kubernetes?: Kubernetes | undefined;
}

/** @throws ConfigError's siblings: PeersError, StoreError, IpamError, SysctlError, NetlinkError. Nothing is left running. */
export async function startAgent(config: Config, log: Log, surroundings: Surroundings = {}): Promise<Agent> {
  const closers: Closer[] = [];
  const stop = async () => {
    globalThis.faultPoint?.("daemon.stop-begun");
    for (let close = closers.pop(); close !== undefined; close = closers.pop()) {
      await close();
      globalThis.faultPoint?.("daemon.part-stopped");
    }
  };
  try {
    await start(config, log, surroundings, closers);
  } catch (error) {
    await stop();
    throw error;
  }
  return { stop };
}

async function start(config: Config, log: Log, around: Surroundings, closers: Closer[]): Promise<void> {
  const { health = new Health(), kubernetes } = around;
  const self = { name: config.nodeName, podCIDRs: config.podCIDRs };
  const peers = kubernetes?.nodes ?? (await openPeers(config.peers, log));
  const { mode, table } = config.routes;
  const bird = new Bird(birdPaths(config.stateDir), config.routes.bgp.bird, table);
  if (mode === "bgp") await bird.requireProgram();

  await mkdir(config.stateDir, { recursive: true, mode: 0o700 });
  await mkdir(dirname(config.socket), { recursive: true, mode: 0o700 });
  // It is bound last, but a daemon that can't have it should not have changed the other one's routes by then.
  await refuseWhenTaken(config.socket);
  globalThis.faultPoint?.("daemon.socket-free");
  const bootId = await readBootId();
  const cluster = await joinCluster(config, kubernetes, log);
  closers.push(() => cluster?.stop());
  let metrics: Metrics | undefined;
  const policy = await openPolicy(
    config,
    kubernetes,
    cluster,
    (...told) => metrics?.policyEnforced(...told),
    log,
    closers,
  );
  const service = await openIpam(config, bootId, cluster, policy, log, closers);
  globalThis.faultPoint?.("daemon.service-started");
  const journal = await keepJournal(join(config.stateDir, "journal"), service, log, closers);
  globalThis.faultPoint?.("daemon.journal-kept");
  await policy?.start(service);
  // Its passes ask the service, which ends before whoever is its guard.
  closers.push(() => policy?.stop());

  const record = await openFootprint(config, log);
  const families = new Set(config.podCIDRs.map(({ family }) => family));
  const changed = await enableForwarding(families, record, bootId, config.sysctlDir);
  if (changed.length > 0) log.info({ sysctls: changed }, "forwarding switched on");
  globalThis.faultPoint?.("daemon.forwarding-on");

  const netlink = Netlink.open(NETLINK_ROUTE);
  closers.push(() => netlink.close());
  const bgp = mode === "bgp" ? new BgpKeeper({ bird, config, source: peers, netlink, log }) : undefined;
  const keeper = await RouteKeeper.start({ source: bgp ?? peers, self, table, podMtu: config.mtu, log });
  closers.push(() => keeper.close());
  // With BGP the keeper of the routes knows of each node what needs a static route; everybody else needs the whole of it.
  const nodes = () => bgp?.nodes ?? keeper.nodes;
  const egress = await openEgress(config, nodes(), log, closers);
  let probe: ProbeKeeper | undefined;
  const synced = () => keeper.synced && (bgp?.ready ?? true);
  const measurable = {
    routesSynced: synced,
    routes: () => keeper.counts(),
    findings: () => probe?.findings(),
    sessions: () => bgp?.sessions,
    kubernetes: () => kubernetes?.followed() ?? [],
    eventsDropped: () => cluster?.eventsDropped,
    policy,
  };
  metrics = await openMetrics(config, service, measurable, log, closers);
  probe = await openProbe(config, netlink, nodes(), metrics, log, closers);
  keeper.afterwards(async () => {
    await egress?.pass(nodes());
    probe?.pass(nodes());
  });
  // Before what its passes go on to: that is closed next.
  closers.push(() => keeper.close());
  globalThis.faultPoint?.("daemon.routes-synced");
  if (bgp !== undefined) await followBgp(bgp, log, closers);
  else if (await bird.hasBeen()) retireBird(bird, () => keeper.synced, log, closers);

  const links = await LinkRemover.start(await listLinks(netlink));
  closers.push(() => links.close());
  const mtu = () => (config.mtu === 0 ? (bgp?.mtu ?? keeper.mtu) : config.mtu);
  const server: IpamServer = await serveIpam({
    service,
    mtu,
    wishes: cluster?.wishes(config, mtu),
    onExhausted: (reason) => cluster?.tell("SubnetExhausted", reason),
    routesSynced: synced,
    kernelMarks: lookAtKernel,
    removeLink: (attachment) => links.remove(hostLinkName(attachment, sha256)),
    nodeRoutes: async () => {
      const own = keeper.ways().map(toNodeRoute);
      return [...own, ...((await bgp?.ways(new Set(own.map(({ subnet }) => subnet)))) ?? [])];
    },
    socketPath: config.socket,
    further: [policyService({ policy, nodeName: config.nodeName, nodes })],
    log,
    ...(metrics !== undefined && { onCall: (method, code, seconds) => metrics.called(method, code, seconds) }),
  });
  closers.push(() => server.close());
  // A DEL that came between the first replay and the socket has left a note that nothing else would find.
  journal.request();
  pruneHistory(service, log, closers);
  if (config.retireAfterSeconds > 0) {
    retireTheGone(service, netlink, bootId, config.retireAfterSeconds * 1000, log, closers);
  }
  undoHalfMade(service, netlink, log, closers);
  if (config.repair) closers.push(watchPods(service, netlink, bootId, log));
  const waitsFor = () => (synced() ? policy?.waitsFor : NOT_SYNCED);
  const files = keepCniFiles(config, record, waitsFor, log, (reason, message) => cluster?.tell(reason, message));
  closers.push(() => files.stop());
  closers.push(health.enter(checksOf({ config, service, synced, files, policy })));
  const silence = cluster?.begin({
    isReady: () => (waitsFor() ?? files.pluginProblem ?? files.conflistProblem) === undefined,
    look: async () => {
      const { strays } = await service.counts();
      return {
        nodes: nodes().length,
        strays,
        ways: keeper.ways(),
        findings: probe?.findings(),
        sessions: bgp?.sessions,
      };
    },
  });
  if (silence !== undefined) closers.push(silence);
  const { socket, podCIDRs } = config;
  const sourced = kubernetes === undefined ? { peers: config.peers } : { kubernetes: kubernetes.server };
  log.info({ socket, podCIDRs: podCIDRs.map(formatPrefix), ...sourced }, "serving");
  globalThis.faultPoint?.("daemon.serving");
}

/** Loaded only where there is a cluster. */
async function joinCluster(
  config: Config,
  kubernetes: Kubernetes | undefined,
  log: Log,
): Promise<ClusterLife | undefined> {
  if (kubernetes === undefined) return undefined;
  const { ClusterLife } = await import("./cluster-life.ts");
  return new ClusterLife(config, kubernetes, log);
}

async function openPeers(path: string | undefined, log: Log): Promise<NodeSource> {
  return path === undefined ? fixedSource([]) : await PeersFile.open(path, log);
}

async function openEgress(
  config: Config,
  nodes: readonly Node[],
  log: Log,
  closers: Closer[],
): Promise<EgressKeeper | undefined> {
  const netlink = Netlink.open(NETLINK_NETFILTER);
  closers.push(() => netlink.close());
  return EgressKeeper.start(netlink, config.egress, config.podCIDRs, nodes, log);
}

async function openProbe(
  { nodeName: name, podCIDRs, probeSeconds }: Config,
  netlink: Netlink,
  nodes: readonly Node[],
  metrics: Metrics | undefined,
  log: Log,
  closers: Closer[],
): Promise<ProbeKeeper | undefined> {
  if (probeSeconds === 0) {
    await ProbeKeeper.remove(netlink);
    return undefined;
  }
  try {
    const keeper = await ProbeKeeper.start(netlink, nodes, {
      self: { name, podCIDRs },
      intervalMs: probeSeconds * 1000,
      log,
      onRoundTrip: (kind, seconds) => metrics?.roundTrip(kind, seconds),
    });
    closers.push(() => keeper.stop());
    return keeper;
  } catch (err) {
    // It only looks. A port that somebody has is no reason for a node without pods.
    if (!(err instanceof ProbeError)) throw err;
    log.error({ err }, "the other nodes are not asked whether packets arrive");
    return undefined;
  }
}

/** Loaded only where somebody asks for it: the library and its samples are megabytes. */
async function openMetrics(
  config: Config,
  service: IpamService,
  measurable: Omit<Measurable, "counts">,
  log: Log,
  closers: Closer[],
): Promise<Metrics | undefined> {
  if (config.metricsAddress === undefined) return undefined;
  const { Metrics, serveMetrics } = await import("./metrics.ts");
  const metrics = new Metrics({
    counts: async () => (await service.counts()).subnets,
    ...measurable,
  });
  const onError = (err: unknown) => log.error({ err }, "metrics could not be told");
  const server = await serveMetrics(metrics, config.metricsAddress, onError);
  closers.push(() => server.close());
  return metrics;
}
