// SPDX-License-Identifier: Apache-2.0
//
// What the daemon does by itself for the addresses' sake, each in a loop of its own: notes of DELs, attachments that are over,
// history that has had its time, links that nobody finished.
import { type FSWatcher, watch } from "node:fs";
import { mkdir } from "node:fs/promises";
import { replayJournal } from "../ipam/journal.ts";
import type { IpamService } from "../ipam/service.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import { deleteLinkAt } from "../netlink/link.ts";
import type { Closer } from "./closer.ts";
import { HalfMade } from "./half-made.ts";
import { sweepJournal } from "./journal-sweep.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";
import { listLinks } from "./pod-watch.ts";
import { passIntervalMs, Retirer, surroundingsOf } from "./retire.ts";

/** Between passes that nothing asked for. */
const PASS_INTERVAL_MS = 30_000;
/** After a pass over the journal that failed. */
const PASS_RETRY_MS = 2_000;
/** Notes come in several steps; this long after the last one they are read. */
const SETTLE_MS = 50;
/** Between looks whether some of the addresses' history has had its time. */
const PRUNE_INTERVAL_MS = 60_000;
/** An ADD waits for the kernel in a few steps of ten seconds at most; a link that is begun for so long is nobody's. */
const HALF_MADE_GRACE_MS = 60_000;

/** Works off the plugin's notes now, and whenever a new one appears. */
export async function keepJournal(dir: string, service: IpamService, log: Log, closers: Closer[]): Promise<Loop> {
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
export function retireTheGone(
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
export function pruneHistory(service: IpamService, log: Log, closers: Closer[]): void {
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
export function undoHalfMade(service: IpamService, netlink: Netlink, log: Log, closers: Closer[]): void {
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
