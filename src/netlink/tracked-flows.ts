// SPDX-License-Identifier: Apache-2.0
import { readFile } from "node:fs/promises";

const COUNT_FILE = "/proc/sys/net/netfilter/nf_conntrack_count";

/** How many connections the kernel tracks: 0 where tracking is not in the kernel; asking ctnetlink would load it. */
export async function trackedFlows(): Promise<number> {
  try {
    return Number(await readFile(COUNT_FILE, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return 0;
    throw error;
  }
}
