// SPDX-License-Identifier: Apache-2.0
//
// The daemon put together. Start: everything that can be wrong is found before the kernel is touched, and the plugin is
// served last. Stop: the plugin first, the database last; routes and rules stay, because pods live on.
import { type FSWatcher, watch } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Bird, birdPaths } from "../bgp/bird.ts";
import { HostPorts } from "../hostport/host-ports.ts";
import { readBootId } from "../ipam/boot-id.ts";
import { replayJournal } from "../ipam/journal.ts";
import type { AllocationRecord } from "../ipam/records.ts";
import type { KernelMark } from "../ipam/recovered.ts";
import { repairDatabase } from "../ipam/repair.ts";
import { type IpamServer, serveIpam } from "../ipam/server.ts";
import { type AttachmentGuard, IpamService } from "../ipam/service.ts";
import { refuseWhenTaken } from "../ipam/socket-claim.ts";
import { type OpenedStore, Store, StoreError } from "../ipam/store.ts";
import { hostLinkName } from "../net/names.ts";
import { formatPrefix } from "../net/prefix.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, Netlink } from "../netlink/event-loop.ts";
import { deleteLinkAt } from "../netlink/link.ts";
import { ProbeError } from "../probe/sockets.ts";
import { NetlinkRoutes } from "../routes/kernel.ts";
import { PeersFile } from "../routes/peers-file.ts";
import { fixedSource, type Node, type NodeSource } from "../routes/source.ts";
import { sys } from "../sys/node.ts";
import { BgpKeeper } from "./bgp-keeper.ts";
import type { ClusterLife } from "./cluster-life.ts";
import type { Config } from "./config.ts";
import { EgressKeeper } from "./egress-keeper.ts";
import { HalfMade } from "./half-made.ts";
import { Health } from "./health.ts";
import { sweepJournal } from "./journal-sweep.ts";
import { readKernelMarks } from "./kernel-marks.ts";
import type { Kubernetes } from "./kubernetes.ts";
import { LinkRemover, openSlowNetlink } from "./link-remover.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";
import type { Measurable, Metrics } from "./metrics.ts";
import { checksOf, keepCniFiles, NOT_SYNCED, openFootprint } from "./node-life.ts";
import { toNodeRoute } from "./node-route.ts";
import { listLinks, watchPods } from "./pod-watch.ts";
import { openPolicy } from "./policy.ts";
import { policyService } from "./policy-questions.ts";
import { ProbeKeeper } from "./probe-keeper.ts";
import { passIntervalMs, Retirer, surroundingsOf } from "./retire.ts";
import { RouteKeeper } from "./route-keeper.ts";
import { sha256 } from "./sha256.ts";
import { enableForwarding } from "./sysctls.ts";

/** Between passes over the journal that nothing asked for. */
const PASS_INTERVAL_MS = 30_000;
/** After a pass that failed. */
const PASS_RETRY_MS = 2_000;
/** How many of the addresses that are in no subnet any more are named at the start. */
const STRAYS_TOLD = 20;
/** Editors and config maps change a file in several steps; this long after the last one it is read. */
const SETTLE_MS = 50;
/** Between looks at BIRD and its sessions. */
const BGP_INTERVAL_MS = 2000;
/** Between looks whether some of the addresses' history has had its time. */
const PRUNE_INTERVAL_MS = 60_000;
/** An ADD waits for the kernel in a few steps of ten seconds at most; a link that is begun for so long is nobody's. */
const HALF_MADE_GRACE_MS = 60_000;
const DAY_MS = 86_400_000;

export interface Agent {
  /** Resolves once nothing of the daemon runs any more. */
  stop(): Promise<void>;
}

/** What has been started, to be closed last first. */
type Closer = () => Promise<void> | void;

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

  const links = await LinkRemover.start(openSlowNetlink());
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

async function openIpam(
  config: Config,
  bootId: string,
  cluster: ClusterLife | undefined,
  guard: AttachmentGuard | undefined,
  log: Log,
  closers: Closer[],
): Promise<IpamService> {
  const lookedAtMs = Date.now();
  const marks = await lookAtKernel();
  const { store, snapshot } = await openStore(config.stateDir, marks, cluster, log);
  let service: IpamService;
  try {
    const effects = await openHostPorts(config, snapshot.allocations.values(), log, closers);
    service = await IpamService.start(store, snapshot, {
      effects,
      guard,
      subnets: config.podCIDRs,
      rules: config.rules,
      cooldownMs: config.coolDownSeconds * 1000,
      historyMs: config.historyDays * DAY_MS,
      bootId,
      log,
    });
    await recoverTheLost(service, marks, lookedAtMs, log);
  } catch (error) {
    await store.close();
    throw error;
  }
  closers.push(() => service.close());
  const { strays } = await service.counts();
  if (strays.size > 0) {
    const fields = { count: strays.size, addresses: [...strays].slice(0, STRAYS_TOLD) };
    log.warn(fields, "addresses are held that are in no subnet of this node any more; their pods keep them until DEL");
  }
  return service;
}

/** What is up of the node's attachments before anything of the daemon is. */
async function lookAtKernel(): Promise<KernelMark[]> {
  const kernel = new NetlinkRoutes(sys);
  try {
    return await readKernelMarks(kernel);
  } finally {
    kernel.close();
  }
}

/** The database; a damaged one is moved aside and a new one made of what can be read of it. */
async function openStore(
  stateDir: string,
  marks: readonly KernelMark[],
  cluster: ClusterLife | undefined,
  log: Log,
): Promise<OpenedStore> {
  try {
    return await Store.open(stateDir);
  } catch (err) {
    if (!(err instanceof StoreError) || err.code !== "STORE_DAMAGED") throw err;
    log.error({ err, damages: err.damages }, "the database is damaged; it is moved aside and repaired");
    const report = await repairDatabase(stateDir, marks, Date.now());
    log.error(report, "the database is repaired as far as it could be read; the damaged one is kept");
    cluster?.tell(
      "DatabaseRepaired",
      `${err.message}; it is repaired as far as it could be read, and flatnetd's log has more`,
    );
    return await Store.open(stateDir);
  }
}

/** Keeps the addresses of pods that are up and that the database has lost. */
async function recoverTheLost(
  service: IpamService,
  marks: readonly KernelMark[],
  lookedAtMs: number,
  log: Log,
): Promise<void> {
  const { records, problems } = await service.recover(marks, lookedAtMs);
  for (const { hostIfname, pod, addresses } of records) {
    const fields = { hostIfname, pod, addresses };
    log.error(fields, "the database doesn't know this link; its addresses are kept until its DEL comes or it is gone");
  }
  for (const problem of problems) log.error({ problem }, "the kernel contradicts the database");
}

/**
 * The node's nftables table, as the records say. Fails closed: a kernel that can't do it stops the start, and the
 * configuration says how to go without anti-spoofing.
 */
async function openHostPorts(
  config: Config,
  records: Iterable<AllocationRecord>,
  log: Log,
  closers: Closer[],
): Promise<HostPorts> {
  const netlink = Netlink.open(NETLINK_NETFILTER);
  closers.push(() => netlink.close());
  const onError = (err: unknown, what: string) => log.error({ err }, what);
  const hostPorts = await HostPorts.start(netlink, records, { antiSpoof: config.antiSpoof, onError });
  closers.push(() => hostPorts.idle());
  return hostPorts;
}

/** Looks after BIRD, from now on. It is not ended with the daemon: its routes are those of pods that live on. */
async function followBgp(bgp: BgpKeeper, log: Log, closers: Closer[]): Promise<void> {
  await bgp.pass();
  const loop = new Loop(() => bgp.pass(), {
    name: "BGP",
    settleMs: SETTLE_MS,
    intervalMs: BGP_INTERVAL_MS,
    retryMs: BGP_INTERVAL_MS,
    onError: (err) => log.error({ err }, "BIRD could not be looked after"),
  });
  loop.request();
  closers.push(() => loop.stop());
}

/** Ends a BIRD of the time in BGP mode, once the routes that take the place of its are there. */
function retireBird(bird: Bird, isReplaced: () => boolean, log: Log, closers: Closer[]): void {
  let done = false;
  const pass = async () => {
    if (done || !isReplaced()) return;
    await bird.retire();
    done = true;
    log.info("BIRD is ended, and its routes are taken away");
  };
  const loop = new Loop(pass, {
    name: "end of BIRD",
    settleMs: SETTLE_MS,
    intervalMs: BGP_INTERVAL_MS,
    retryMs: PASS_INTERVAL_MS,
    onError: (err) => log.error({ err }, "BIRD could not be ended, and its routes are still there"),
  });
  loop.request();
  closers.push(() => loop.stop());
}

/** Works off the plugin's notes now, and whenever a new one appears. */
async function keepJournal(dir: string, service: IpamService, log: Log, closers: Closer[]): Promise<Loop> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await sweepJournal(dir, Date.now(), log);
  globalThis.faultPoint?.("daemon.journal-swept");
  const told = new Set<string>();
  const replay = async () => {
    await replayJournal(dir, (attachment, at) => service.release(attachment, at), log, told);
  };
  await replay();
  const loop = new Loop(replay, {
    name: "journal",
    settleMs: SETTLE_MS,
    intervalMs: PASS_INTERVAL_MS,
    retryMs: PASS_RETRY_MS,
    onError: (err) => log.error({ err }, "the journal could not be worked off"),
  });
  closers.push(() => loop.stop());
  watchDirectory(dir, () => loop.request(), log, closers);
  return loop;
}

/** Gives up, from now on, what ended without a DEL. */
function retireTheGone(
  service: IpamService,
  netlink: Netlink,
  bootId: string,
  graceMs: number,
  log: Log,
  closers: Closer[],
): void {
  const surroundings = surroundingsOf(netlink);
  const now = () => performance.now();
  const retirer = new Retirer({ allocations: service, surroundings, graceMs, bootId, log, now });
  const intervalMs = passIntervalMs(graceMs);
  const loop = new Loop(() => retirer.pass(), {
    name: "attachments that are over",
    settleMs: SETTLE_MS,
    intervalMs,
    retryMs: intervalMs,
    onError: (err) => log.error({ err }, "attachments could not be looked at for whether they are over"),
  });
  closers.push(() => loop.stop());
  loop.request();
}

/** Drops what of the history has had its time, from now on. */
function pruneHistory(service: IpamService, log: Log, closers: Closer[]): void {
  const pass = async () => {
    const dropped = await service.pruneHistory();
    if (dropped > 0) log.info({ entries: dropped }, "old entries of the addresses' history are dropped");
  };
  const loop = new Loop(pass, {
    name: "history",
    settleMs: SETTLE_MS,
    intervalMs: PRUNE_INTERVAL_MS,
    retryMs: PRUNE_INTERVAL_MS,
    onError: (err) => log.error({ err }, "old entries of the addresses' history could not be dropped"),
  });
  closers.push(() => loop.stop());
  loop.request();
}

/** Removes, from now on, what ADDs began and nobody finished. */
function undoHalfMade(service: IpamService, netlink: Netlink, log: Log, closers: Closer[]): void {
  const halfMade = new HalfMade({
    allocations: service,
    links: () => listLinks(netlink),
    remove: async ({ index, name }) => {
      await netlink.request([deleteLinkAt(index, name)]);
    },
    graceMs: HALF_MADE_GRACE_MS,
    log,
    now: () => performance.now(),
  });
  const loop = new Loop(() => halfMade.pass(), {
    name: "half-made links",
    settleMs: SETTLE_MS,
    intervalMs: PASS_INTERVAL_MS,
    retryMs: PASS_INTERVAL_MS,
    onError: (err) => log.error({ err }, "links that were begun and never finished could not be removed"),
  });
  closers.push(() => loop.stop());
  loop.request();
}

/** Events are a short-cut only: whoever asks for a pass is asked again at intervals anyway. */
function watchDirectory(dir: string, onChange: () => void, log: Log, closers: Closer[]): void {
  let watcher: FSWatcher;
  try {
    watcher = watch(dir, { persistent: false }, onChange);
  } catch (err) {
    log.warn({ err, dir }, "changes are seen at intervals only: the directory can't be watched");
    return;
  }
  watcher.on("error", (err) => log.warn({ err, dir }, "changes are seen at intervals only from now on"));
  closers.push(() => watcher.close());
}
