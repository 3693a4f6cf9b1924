import { HostPorts } from "../hostport/host-ports.ts";
import type { AllocationRecord } from "../ipam/records.ts";
import type { KernelMark } from "../ipam/recovered.ts";
import { repairDatabase } from "../ipam/repair.ts";
import { type AttachmentGuard, IpamService } from "../ipam/service.ts";
import { type OpenedStore, Store, StoreError } from "../ipam/store.ts";
import { NETLINK_NETFILTER, Netlink } from "../netlink/event-loop.ts";
import { NetlinkRoutes } from "../routes/kernel.ts";
import { sys } from "../sys/node.ts";
import type { Closer } from "./closer.ts";
import type { ClusterLife } from "./cluster-life.ts";
import type { Config } from "./config.ts";
import { readKernelMarks } from "./kernel-marks.ts";
import type { Log } from "./log.ts";

/** How many of the addresses that are in no subnet any more are named at the start. */
const STRAYS_TOLD = 20;
const DAY_MS = 86_400_000;

/**
 * The service of addresses with what it needs: the database and the nftables table.
 * @throws StoreError, IpamError, NetlinkError
 */
export async function openIpam(
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
export async function lookAtKernel(): Promise<KernelMark[]> {
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
