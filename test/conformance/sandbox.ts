// SPDX-License-Identifier: Apache-2.0
//
// A host of the suite's own, so that the machine's network stays untouched, and fresh namespaces for pods. Made and read with
// iproute2.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { ConformanceError } from "./errors.ts";

const execute = promisify(execFile);
const COMMAND_TIMEOUT_MS = 30_000;
const NETNS_DIRECTORY = "/run/netns";

/** IN6_ADDR_GEN_MODE_NONE (linux/if_link.h); a kernel without IPv6 has no such file. */
const NO_LINK_LOCAL = `file=/proc/sys/net/ipv6/conf/default/addr_gen_mode; [ ! -e $file ] || echo 1 >$file`;

/** What can't be deleted, such as a real device, goes back to where it came from when the namespace ends. */
const END_LINKS = `for link in $(ip -o link show | cut -d : -f 2 | cut -d @ -f 1); do
  [ "$link" = lo ] || ip link delete "$link" 2>/dev/null || true
done`;

/** A network namespace by the file that stands for it. */
export interface Netns {
  readonly path: string;
}

function createDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), "cni-conformance-"));
}

/** Runs a command on the machine and returns its stdout. */
export async function command(file: string, ...args: string[]): Promise<string> {
  try {
    return (await execute(file, args, { timeout: COMMAND_TIMEOUT_MS, maxBuffer: 64 << 20 })).stdout;
  } catch (cause) {
    const { stderr } = cause as { stderr?: string };
    throw new ConformanceError("SANDBOX", `${file} ${args.join(" ")}: ${stderr?.trim() || cause}`, { cause });
  }
}

/** A command line that runs `argv` in a namespace, with everything else as outside. */
export function inside(netns: Netns, ...argv: string[]): string[] {
  return ["nsenter", `--net=${netns.path}`, "--", ...argv];
}

/** Runs a command in a namespace. */
export function commandIn(netns: Netns, ...argv: string[]): Promise<string> {
  const [file = "", ...args] = inside(netns, ...argv);
  return command(file, ...args);
}

/**
 * An interface that no plugin made, up, with an address of its own if one is given. Its other end is beside it: a veth pair
 * is what every kernel has that can run a plugin.
 */
export async function addForeignLink(netns: Netns, ifname: string, address?: string): Promise<void> {
  const other = `peer${randomBytes(4).toString("hex")}`;
  await commandIn(netns, "ip", "link", "add", ifname, "type", "veth", "peer", "name", other);
  if (address !== undefined) await commandIn(netns, "ip", "address", "add", address, "dev", ifname);
  for (const end of [ifname, other]) await commandIn(netns, "ip", "link", "set", end, "up");
}

export class Sandbox {
  /** Where the plugin runs. */
  readonly host: Netns;
  /** For files of this run; removed at its end. */
  readonly directory: string;
  readonly #made = new Set<string>();

  private constructor(host: Netns, directory: string) {
    this.host = host;
    this.directory = directory;
  }

  /** @param hostNetns path or name of a namespace to use as the host, which then is left as it is at the end. */
  static async create(hostNetns?: string): Promise<Sandbox> {
    if (hostNetns !== undefined) {
      const host = { path: hostNetns.includes("/") ? hostNetns : join(NETNS_DIRECTORY, hostNetns) };
      await commandIn(host, "true");
      return new Sandbox(host, await createDirectory());
    }
    const name = `conformance-${randomBytes(4).toString("hex")}`;
    const sandbox = new Sandbox({ path: join(NETNS_DIRECTORY, name) }, await createDirectory());
    try {
      await sandbox.#make(name);
      // An address that the kernel makes by itself would be there after a call and not before it.
      await commandIn(sandbox.host, "sh", "-c", NO_LINK_LOCAL);
    } catch (error) {
      await sandbox.remove();
      throw error;
    }
    return sandbox;
  }

  /** A namespace with nothing but its loopback, which is up. */
  async createPod(): Promise<Netns> {
    const name = `conformance-pod-${randomBytes(5).toString("hex")}`;
    await this.#make(name);
    return { path: join(NETNS_DIRECTORY, name) };
  }

  /**
   * What is gone already is fine. The kernel ends a namespace's links some time after the namespace: here they end first, so
   * that their other ends are not seen to go while something else is compared.
   */
  async removePod(pod: Netns): Promise<void> {
    const name = basename(pod.path);
    if (!this.#made.delete(name)) return;
    await commandIn(pod, "sh", "-c", END_LINKS);
    await command("ip", "netns", "delete", name);
  }

  /** Removes all that was made, even if some of it fails; then says what failed. */
  async remove(): Promise<void> {
    const names = [...this.#made];
    this.#made.clear();
    const done = await Promise.allSettled([
      ...names.map((name) => command("ip", "netns", "delete", name)),
      rm(this.directory, { recursive: true, force: true }),
    ]);
    const failed = done.flatMap((one) => (one.status === "rejected" ? [String(one.reason)] : []));
    if (failed.length > 0) throw new ConformanceError("SANDBOX", `not removed: ${failed.join("; ")}`);
  }

  async #make(name: string): Promise<void> {
    await command("ip", "netns", "add", name);
    this.#made.add(name);
    await command("ip", "-n", name, "link", "set", "lo", "up");
  }
}
