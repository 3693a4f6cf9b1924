// SPDX-License-Identifier: Apache-2.0
//
// Removes a lab by its marks: the names of its namespaces and of its folder. It needs no state, so it works just as well on
// what a killed lab left.
import { readdir, rm, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { inParallel } from "./concurrency.ts";
import { LabError, messageOf } from "./errors.ts";
import { ip } from "./ip.ts";
import { labDir } from "./state.ts";
import { isNamespaceOf } from "./topology.ts";

/** Where iproute2 keeps named namespaces (ip-netns(8)). */
export const NETNS_DIR = "/run/netns";
/** How long processes have to end by themselves. */
const TERM_MS = 1500;
/** How long the kernel has to end killed ones. */
const KILL_MS = 5000;

/** The lab's namespaces that exist now. */
export async function listNamespaces(labName: string): Promise<string[]> {
  try {
    return (await readdir(NETNS_DIR)).filter((name) => isNamespaceOf(labName, name)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** Whether there is anything of the lab. */
export async function isAnythingLeft(labName: string): Promise<boolean> {
  if ((await listNamespaces(labName)).length > 0) return true;
  return stat(labDir(labName)).then(
    () => true,
    () => false,
  );
}

/**
 * Ends the lab's processes, deletes its namespaces with all that is in them, and removes its folder. What fails does not
 * stop the rest.
 * @throws LabError LAB_LEFT_BEHIND, with what could not be removed.
 */
export async function sweep(labName: string): Promise<void> {
  const failures: string[] = [];
  const attempt = async (work: () => Promise<unknown>) => {
    try {
      await work();
    } catch (error) {
      failures.push(messageOf(error));
    }
  };
  const namespaces = await listNamespaces(labName);
  await attempt(() => endProcesses(namespaces));
  if (namespaces.length > 0) {
    await attempt(() =>
      ip(
        ["-force"],
        namespaces.map((namespace) => `netns delete ${namespace}`),
      ),
    );
  }
  await attempt(() => rm(labDir(labName), { recursive: true, force: true }));
  const remaining = await listNamespaces(labName);
  if (failures.length > 0 || remaining.length > 0) {
    throw new LabError("LAB_LEFT_BEHIND", `lab ${labName} could not be removed entirely`, {
      detail: [...remaining.map((name) => `namespace ${name}`), ...failures],
    });
  }
}

/** SIGTERM, and SIGKILL for those that don't heed it, to every process in the namespaces. */
async function endProcesses(namespaces: readonly string[]): Promise<void> {
  for (const [signal, patienceMs] of [
    ["SIGTERM", TERM_MS],
    ["SIGKILL", KILL_MS],
  ] as const) {
    const signalled = new Set<number>();
    const until = Date.now() + patienceMs;
    for (;;) {
      const pids = await processesIn(namespaces);
      if (pids.length === 0) return;
      for (const pid of pids) {
        if (signalled.has(pid)) continue;
        signalled.add(pid);
        killIfThere(pid, signal);
      }
      if (Date.now() > until) break;
      await sleep(25);
    }
  }
  const pids = await processesIn(namespaces);
  if (pids.length > 0) throw new Error(`processes ${pids.join(", ")} did not end`);
}

async function processesIn(namespaces: readonly string[]): Promise<number[]> {
  const found = await inParallel(namespaces, 4, async (namespace) =>
    (await ip(["netns", "pids", namespace])).split(/\s+/).filter((text) => text !== ""),
  );
  return found.flat().map(Number);
}

function killIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It ended by itself in between.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
