// SPDX-License-Identifier: Apache-2.0
//
// Looks at what has been given out, pass by pass, and gives up what is over (retire-rules.ts says when).
import { readdir, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type AllocationRecord, isGateway } from "../ipam/records.ts";
import { attachmentKey, netnsIdentity } from "../net/names.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import { getLink } from "../netlink/link.ts";
import { judge, type LinkSight, type NetnsSight, type Suspicion } from "./retire-rules.ts";

/** Longest time between passes. */
const PASS_INTERVAL_MS = 30_000;

/** NSFS_MAGIC of include/uapi/linux/magic.h: what the file of a namespace is on. */
const NSFS_MAGIC = 0x6e736673;

/** How many entries of a directory are looked at for a namespace. */
const SIBLINGS_MAX = 64;

/** What the retirer needs of the address service; IpamService has it. */
export interface Allocations {
  list(): Promise<{ readonly allocations: readonly AllocationRecord[] }>;
  /** False when the attachment has been deleted or added again since it was listed. */
  retire(record: AllocationRecord): Promise<boolean>;
}

/** What the retirer sees of the machine. */
export interface Surroundings {
  /** What has become of links of these names, in their order; none of them is empty. */
  lookAtLinks(names: readonly string[]): Promise<LinkSight[]>;
  /**
   * @param seen whether a namespace has been seen at the path before
   * @param identity the one that it was at the ADD, where that is known (netnsIdentity)
   */
  lookAtNetns(path: string, seen: boolean, identity: string | undefined): Promise<NetnsSight>;
}

export interface RetireLog {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface RetirerOptions {
  readonly allocations: Allocations;
  readonly surroundings: Surroundings;
  readonly graceMs: number;
  /** This boot of the kernel. */
  readonly bootId: string;
  readonly log: RetireLog;
  /** In milliseconds, never set back or forth. */
  readonly now: () => number;
}

/** Time between passes, so that a short grace period isn't waited for longer than it is. */
export function passIntervalMs(graceMs: number): number {
  return Math.min(PASS_INTERVAL_MS, Math.max(Math.ceil(graceMs / 2), 100));
}

export class Retirer {
  readonly #options: RetirerOptions;
  #suspicions = new Map<string, Suspicion>();
  /** Paths at which the last pass or an earlier one saw a namespace, of attachments that still exist. */
  #seen = new Set<string>();

  constructor(options: RetirerOptions) {
    this.#options = options;
  }

  /** Looks at every attachment once. @throws IpamError when they can't be listed, NetlinkError when links can't be asked for */
  async pass(): Promise<void> {
    const { allocations, surroundings, graceMs, bootId, now } = this.#options;
    const records = (await allocations.list()).allocations.filter(({ attachment }) => !isGateway(attachment));
    const withLink = records.filter(({ hostIfname }) => hostIfname !== "");
    const sights = await surroundings.lookAtLinks(withLink.map(({ hostIfname }) => hostIfname));
    const links = new Map(withLink.map((record, i) => [record, sights[i] ?? "unknown"]));
    const suspicions = new Map<string, Suspicion>();
    const seen = new Set<string>();
    for (const record of records) {
      const identity = record.podEnd?.netnsId;
      const netns = await surroundings.lookAtNetns(record.netns, this.#seen.has(record.netns), identity);
      if (netns === "namespace" || netns === "another" || this.#seen.has(record.netns)) seen.add(record.netns);
      const key = attachmentKey(record.attachment);
      const { confirmedAtMs } = record;
      const candidate = { ofThisBoot: record.bootId === bootId, confirmedAtMs };
      const sight = { link: links.get(record) ?? "none", netns };
      const verdict = judge(candidate, sight, this.#suspicions.get(key), now(), graceMs);
      if (verdict.kind === "suspect") suspicions.set(key, verdict.suspicion);
      if (verdict.kind === "retire" && !(await this.#retire(record))) {
        const before = this.#suspicions.get(key);
        if (before !== undefined) suspicions.set(key, before);
      }
    }
    this.#suspicions = suspicions;
    this.#seen = seen;
  }

  /** Whether the attachment has been dealt with; one that fails doesn't stop the others and is tried again. */
  async #retire(record: AllocationRecord): Promise<boolean> {
    const { allocations, log } = this.#options;
    const { attachment, pod, netns, hostIfname, addresses } = record;
    const holder = { ...attachment, pod, netns, hostIfname, addresses };
    try {
      globalThis.faultPoint?.("daemon.retire-decided");
      if (await allocations.retire(record)) {
        globalThis.faultPoint?.("daemon.retired");
        log.info(holder, "an attachment is retired: its namespace is gone and no DEL has come");
      }
      return true;
    } catch (err) {
      log.error({ err, ...holder }, "an attachment whose namespace is gone could not be retired");
      return false;
    }
  }
}

/** The machine itself. @param netlink a socket of NETLINK_ROUTE in the node's namespace */
export function surroundingsOf(netlink: Netlink): Surroundings {
  return { lookAtLinks: (names) => lookAtLinks(netlink, names), lookAtNetns };
}

async function lookAtLinks(netlink: Netlink, names: readonly string[]): Promise<LinkSight[]> {
  const replies = await netlink.submit(names.map(getLink));
  return replies.map(({ error }) => {
    if (error === undefined) return "present";
    return error.errnoName === "ENODEV" ? "gone" : "unknown";
  });
}

/** See Surroundings. */
export async function lookAtNetns(path: string, seen: boolean, identity?: string): Promise<NetnsSight> {
  // An attachment that was taken over from another plugin, which didn't say where its namespace is.
  if (path === "") return "hidden";
  try {
    if (await isNamespace(path)) {
      return identity === undefined || (await identityOf(path)) === identity ? "namespace" : "another";
    }
    // Something stands there.
    return "hidden";
  } catch (error) {
    if (!isMissing(error)) return "unknown";
  }
  try {
    return (await isDirectory(dirname(path))) && (seen || (await hasNamespace(dirname(path)))) ? "missing" : "hidden";
  } catch (error) {
    return isMissing(error) ? "hidden" : "unknown";
  }
}

async function isNamespace(path: string): Promise<boolean> {
  return (await statfs(path)).type === NSFS_MAGIC;
}

async function identityOf(path: string): Promise<string> {
  const { dev, ino } = await stat(path, { bigint: true });
  // st_dev is glibc's (gnu_dev_major and gnu_dev_minor); the identity has the kernel's major and minor number.
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
  return netnsIdentity({ dev: (major << 32n) | minor, ino });
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path)).isDirectory();
}

async function hasNamespace(directory: string): Promise<boolean> {
  for (const name of (await readdir(directory)).slice(0, SIBLINGS_MAX)) {
    try {
      if (await isNamespace(join(directory, name))) return true;
    } catch {
      // It went while it was looked for, or can't be looked at: it shows nothing, and there may be others.
    }
  }
  return false;
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
