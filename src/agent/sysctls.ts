// SPDX-License-Identifier: Apache-2.0
//
// The sysctls that make a host a router.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { SysctlChange, SysctlValue } from "../footprint/record.ts";
import type { Family } from "../net/address.ts";

const ROOT = "/proc/sys/net";

/** Entries beside the interfaces' own, and the one interface that never hears a router. */
const NO_UPLINKS: ReadonlySet<string> = new Set(["all", "default", "lo"]);

/** A sysctl that can't be read or written; the message names it. */
export class SysctlError extends Error {
  override readonly name = "SysctlError";
  readonly code = "SYSCTL_FAILED";
  constructor(sysctl: string, cause: unknown) {
    super(`sysctl net.${sysctl.replaceAll("/", ".")}: ${(cause as Error).message}`, { cause });
  }
}

/** Where it is written down what a sysctl was, before it is changed. */
export interface SysctlRecord {
  readonly now: { readonly sysctls: readonly SysctlChange[] };
  set(changes: { readonly sysctls: readonly SysctlChange[] }): Promise<void>;
}

/**
 * Switches forwarding on for the families. The kernel stops listening to IPv6 router advertisements then, and a node that
 * has its default route from one would lose it; interfaces that listen now are told to go on (accept_ra=2).
 * @param bootId of the kernel that runs
 * @returns the sysctls that were changed, as `ipv4/ip_forward=1`
 * @throws SysctlError; FootprintError when it can't be written down
 */
export async function enableForwarding(
  families: ReadonlySet<Family>,
  record: SysctlRecord,
  bootId: string,
  root = ROOT,
): Promise<string[]> {
  const changed: string[] = [];
  const set = async (sysctl: string, after: string, along: () => Promise<SysctlValue[]>) => {
    const before = await read(root, sysctl);
    if (before === after) return;
    // Of another boot nothing is left. One that somebody set back since has the value now that it is to have again.
    const others = record.now.sysctls.filter((one) => one.sysctl !== sysctl && one.bootId === bootId);
    await record.set({ sysctls: [...others, { sysctl, before, after, bootId, along: await along() }] });
    await write(root, sysctl, after);
    changed.push(`${sysctl}=${after}`);
  };
  const keepListening = async (link: string) => {
    const sysctl = `ipv6/conf/${link}/accept_ra`;
    if ((await read(root, sysctl)) === "1") await set(sysctl, "2", async () => []);
  };
  if (families.has(4)) await set("ipv4/ip_forward", "1", () => changedByIpForward(root));
  if (families.has(6)) {
    const forwarding = "ipv6/conf/all/forwarding";
    if ((await read(root, forwarding)) !== "1") {
      for (const link of await entries(root, "ipv6/conf")) {
        if (!NO_UPLINKS.has(link)) await unlessGone(keepListening(link));
      }
    }
    await set(forwarding, "1", () => forwardingLinks(root, "ipv6"));
  }
  return changed;
}

/** All links' own forwarding, and whether redirects are believed (devinet.c, inet_forward_change). */
async function changedByIpForward(root: string): Promise<SysctlValue[]> {
  const redirects = "ipv4/conf/all/accept_redirects";
  const along = await forwardingLinks(root, "ipv4");
  await unlessGone(
    read(root, redirects).then((before) => {
      along.push({ sysctl: redirects, before, after: "0" });
    }),
  );
  return along;
}

/** Links that forward by a setting of their own: switching it off for all would switch it off for them too. */
async function forwardingLinks(root: string, family: "ipv4" | "ipv6"): Promise<SysctlValue[]> {
  const found: SysctlValue[] = [];
  for (const link of await entries(root, `${family}/conf`)) {
    const sysctl = `${family}/conf/${link}/forwarding`;
    const look = async () => {
      if ((await read(root, sysctl)) === "1") found.push({ sysctl, before: "1", after: "1" });
    };
    if (link !== "all") await unlessGone(look());
  }
  return found;
}

/** Links come and go while they are looked at, pods' above all. */
async function unlessGone(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (((error as SysctlError).cause as NodeJS.ErrnoException | undefined)?.code !== "ENOENT") throw error;
  }
}

async function entries(root: string, directory: string): Promise<string[]> {
  try {
    return await readdir(join(root, directory));
  } catch (cause) {
    throw new SysctlError(directory, cause);
  }
}

async function read(root: string, sysctl: string): Promise<string> {
  try {
    return (await readFile(join(root, sysctl), "utf8")).trim();
  } catch (cause) {
    throw new SysctlError(sysctl, cause);
  }
}

async function write(root: string, sysctl: string, value: string): Promise<void> {
  try {
    await writeFile(join(root, sysctl), value);
  } catch (cause) {
    throw new SysctlError(sysctl, cause);
  }
}
