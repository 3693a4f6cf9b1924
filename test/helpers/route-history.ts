// SPDX-License-Identifier: Apache-2.0
//
// What happens to the routes of a namespace while a test does something to it, in the kernel's own order: `ip monitor`.
import { type Cleanup, CommandError, run, startDaemon, waitFor } from "./daemon.ts";
import type { Netns } from "./netns.ts";

/** A destination that nobody has (RFC 5737): changes of ours, by which it is known how far the monitor has come. */
const MARK = "198.51.100.1";

export class RouteHistory {
  readonly #netns: Netns;
  readonly #before: readonly string[];
  readonly #output: () => string;

  private constructor(netns: Netns, before: readonly string[], output: () => string) {
    this.#netns = netns;
    this.#before = before;
    this.#output = output;
  }

  /** Begins to listen; `cleanup` ends it. */
  static async begin(netns: Netns, cleanup: Cleanup): Promise<RouteHistory> {
    const monitor = await startDaemon({ argv: ["ip", "-n", netns.name, "-N", "monitor", "route"], ready: () => true });
    cleanup.add(() => monitor.stop());
    // Whether it listens shows only when something happens.
    await waitFor(async () => {
      await mark(netns);
      return monitor.output().includes(MARK);
    });
    const before = await Promise.all([netns.ip("-4", "-N", "route"), netns.ip("-6", "-N", "route")]);
    return new RouteHistory(netns, before.join("\n").split("\n"), monitor.output);
  }

  /** The changes since the beginning, as `ip monitor` prints them. */
  async events(): Promise<string[]> {
    const marks = () => lines(this.#output()).filter((line) => isMark(line) && line.startsWith("Deleted ")).length;
    const before = marks();
    await mark(this.#netns);
    await waitFor(() => marks() > before).catch((cause) => {
      throw new CommandError(`the monitor doesn't see what happens any more:\n${this.#output()}`, { cause });
    });
    return lines(this.#output()).filter((line) => !isMark(line));
  }

  /** Of these subnets those that had no route at some moment, and the events that made it so. */
  async gapsOf(subnets: readonly string[]): Promise<string[]> {
    const events = await this.events();
    return subnets.flatMap((subnet) => {
      const there = new Set(this.#before.filter((line) => isOf(line, subnet)).map(metricOf));
      if (there.size === 0) return [`${subnet} had none before`];
      return events
        .filter((line) => isOf(line, subnet))
        .flatMap((line) => {
          if (line.startsWith("Deleted ")) there.delete(metricOf(line));
          else there.add(metricOf(line));
          return there.size === 0 ? [line] : [];
        });
    });
  }
}

async function mark(netns: Netns): Promise<void> {
  await netns.ip("route", "add", "blackhole", MARK);
  await netns.ip("route", "delete", "blackhole", MARK);
}

function isMark(line: string): boolean {
  return line.includes(MARK);
}

function lines(text: string): string[] {
  return text.split("\n").filter((line) => line.trim() !== "");
}

function isOf(line: string, subnet: string): boolean {
  return line.replace(/^Deleted /, "").startsWith(`${subnet} `);
}

/** With the destination, what tells one route from another. */
function metricOf(line: string): string {
  return / metric (\d+)/.exec(line)?.[1] ?? "0";
}

/** Ends every process in a namespace, the programs that outlive what started them included. */
export async function endProcesses(netns: Netns): Promise<void> {
  const pids = (await run(["ip", "netns", "pids", netns.name])).split("\n").filter((pid) => pid !== "");
  for (const pid of pids) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}
