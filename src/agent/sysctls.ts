// SPDX-License-Identifier: Apache-2.0
//
// The sysctls that make a host a router.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
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

/**
 * Switches forwarding on for the families. The kernel stops listening to IPv6 router advertisements then, and a node that
 * has its default route from one would lose it; interfaces that listen now are told to go on (accept_ra=2).
 * @returns the sysctls that were changed, as `ipv4/ip_forward=1`
 * @throws SysctlError
 */
export async function enableForwarding(families: ReadonlySet<Family>, root = ROOT): Promise<string[]> {
  const changed: string[] = [];
  const set = async (sysctl: string, value: string) => {
    if ((await read(root, sysctl)) === value) return;
    await write(root, sysctl, value);
    changed.push(`${sysctl}=${value}`);
  };
  const keepListening = async (link: string) => {
    const sysctl = `ipv6/conf/${link}/accept_ra`;
    if ((await read(root, sysctl)) === "1") await set(sysctl, "2");
  };
  if (families.has(4)) await set("ipv4/ip_forward", "1");
  if (families.has(6)) {
    const forwarding = "ipv6/conf/all/forwarding";
    if ((await read(root, forwarding)) !== "1") {
      for (const link of await links(root)) await unlessGone(keepListening(link));
    }
    await set(forwarding, "1");
  }
  return changed;
}

/** Links come and go while they are looked at, pods' above all. */
async function unlessGone(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (((error as SysctlError).cause as NodeJS.ErrnoException | undefined)?.code !== "ENOENT") throw error;
  }
}

async function links(root: string): Promise<string[]> {
  try {
    return (await readdir(join(root, "ipv6/conf"))).filter((name) => !NO_UPLINKS.has(name));
  } catch (cause) {
    throw new SysctlError("ipv6/conf", cause);
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
