// SPDX-License-Identifier: Apache-2.0
//
// Who has a file locked, for an error message: "in use" alone sends people looking for the wrong daemon.
import { readFile, stat } from "node:fs/promises";

/**
 * The process that holds a POSIX lock on the file, as "process 4711 (flatnetd --config /etc/flatnet.yaml)". The file is not
 * opened, because closing it again would drop a lock of ours. Never throws: what cannot be found out is said.
 */
export async function describeHolder(path: string): Promise<string> {
  let pids: number[];
  try {
    pids = await findHolders(path);
  } catch (error) {
    return `another process (which one cannot be found out: ${error instanceof Error ? error.message : String(error)})`;
  }
  const pid = pids[0];
  // The kernel hides locks of processes that our PID namespace does not see.
  if (pid === undefined) return "a process that is not visible here (one of another PID namespace?)";
  return `process ${pid}${await commandLine(pid)}`;
}

/** The processes that hold a lock on the file, as far as this PID namespace sees them. Throws as node:fs does. */
export async function findHolders(path: string): Promise<number[]> {
  const { ino, dev } = await stat(path, { bigint: true });
  return holdersIn(await readFile("/proc/locks", "utf8"), { ino, dev });
}

/**
 * The processes that hold a lock on the file, from the text of /proc/locks (proc_locks(5)). A line is
 * "1: POSIX  ADVISORY  WRITE 4711 fe:00:131090 0 EOF"; "->" marks one that waits. Device numbers are hexadecimal. A line
 * of the same inode number on another device counts only if no line matches exactly, because some file systems (btrfs,
 * overlayfs) show another device here than stat(2) does.
 */
export function holdersIn(locks: string, file: { ino: bigint; dev: bigint }): number[] {
  const exact: number[] = [];
  const sameInode: number[] = [];
  for (const line of locks.split("\n")) {
    const match = /^\d+: \S+\s+\S+\s+\S+ (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) /.exec(line);
    if (match === null || BigInt(match[4] as string) !== file.ino) continue;
    const pid = Number(match[1]);
    const device = makeDevice(BigInt(`0x${match[2]}`), BigInt(`0x${match[3]}`));
    (device === file.dev ? exact : sameInode).push(pid);
  }
  return exact.length > 0 ? exact : sameInode;
}

/** makedev(3): major and minor number as one st_dev. */
function makeDevice(major: bigint, minor: bigint): bigint {
  return ((major & 0xfffff000n) << 32n) | ((major & 0xfffn) << 8n) | ((minor & 0xffffff00n) << 12n) | (minor & 0xffn);
}

async function commandLine(pid: number): Promise<string> {
  try {
    const words = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").filter((word) => word !== "");
    return words.length === 0 ? "" : ` (${words.join(" ").slice(0, 200)})`;
  } catch {
    // It ended since, or /proc is restricted; its number is worth telling all the same.
    return "";
  }
}
