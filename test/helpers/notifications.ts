// SPDX-License-Identifier: Apache-2.0
//
// A process in a test's namespace that listens to the kernel's notifications and tells of them.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Cleanup, waitFor } from "./daemon.ts";
import type { Netns } from "./netns.ts";

const SCRIPT = fileURLToPath(new URL("notifications.script.ts", import.meta.url));

export interface Listener {
  /** How often it has told of this: "message 24" (a message type), "lost". */
  count(what: string): number;
  /** Waits until it has told of this so many times in all. */
  waitFor(what: string, times?: number): Promise<void>;
  /** Does the work while the listener is busy and reads nothing. */
  block(work: () => Promise<void>): Promise<void>;
}

export async function listenInNetns(netns: Netns, cleanup: Cleanup): Promise<Listener> {
  const [command = "", ...args] = netns.command(process.execPath, SCRIPT);
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const exited = once(child, "exit");
  cleanup.add(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  const counts = new Map<string, number>();
  createInterface(child.stdout).on("line", (line) => counts.set(line, (counts.get(line) ?? 0) + 1));
  const count = (what: string) => counts.get(what) ?? 0;
  const reach = (what: string, times = 1) =>
    waitFor(() => count(what) >= times, { until: () => child.exitCode !== null || child.signalCode !== null });
  await reach("listening");
  return {
    count,
    waitFor: reach,
    block: async (work) => {
      child.kill("SIGSTOP");
      try {
        await work();
      } finally {
        child.kill("SIGCONT");
      }
    },
  };
}
