// SPDX-License-Identifier: Apache-2.0
//
// What only the start needed of the daemon's own executable: most of Node's text, its tables, and the bundle itself. They are
// clean pages of a file, more than half of all resident memory; given back, those that are used again come from the page cache.
import { readFileSync } from "node:fs";
import { dropPages } from "../sys/node.ts";
import type { Log } from "./log.ts";

/** One mapping of a process, as /proc/PID/smaps lists it (proc_pid_smaps(5)). */
export interface Mapping {
  readonly start: bigint;
  /** In bytes. */
  readonly length: number;
  readonly writable: boolean;
  /** The file behind it; empty when there is none. */
  readonly path: string;
  /** Bytes that differ from the file. */
  readonly dirty: number;
  /** Bytes in memory. */
  readonly resident: number;
}

/** Every mapping in the text of a /proc/PID/smaps. */
export function parseMappings(smaps: string): Mapping[] {
  const mappings: Mapping[] = [];
  const HEAD = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)$/;
  for (const entry of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [, from, to, rights, path] = HEAD.exec(entry.slice(0, entry.indexOf("\n"))) ?? [];
    if (from === undefined || to === undefined || rights === undefined || path === undefined) continue;
    const bytes = (name: string) =>
      1024 * Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(entry)?.[1] ?? Number.NaN);
    const start = BigInt(`0x${from}`);
    const length = Number(BigInt(`0x${to}`) - start);
    const dirty = bytes("Private_Dirty") + bytes("Shared_Dirty") + bytes("Anonymous");
    mappings.push({ start, length, writable: rights[1] === "w", path, dirty, resident: bytes("Rss") });
  }
  return mappings;
}

/**
 * Those of a file that hold nothing but what is in it: their pages can go. What was relocated or written is not among them, nor is
 * anything whose state isn't known.
 */
export function givable(mappings: readonly Mapping[], file: string): Mapping[] {
  return mappings.filter(
    ({ path, writable, dirty, resident }) => path === file && !writable && dirty === 0 && resident > 0,
  );
}

/** Gives back what the start has used and the daemon's work may not. A kernel that doesn't tell what there is changes nothing. */
export function giveBackStart(log: Log): void {
  try {
    for (const { start, length } of givable(
      parseMappings(readFileSync("/proc/self/smaps", "utf8")),
      process.execPath,
    )) {
      dropPages(start, length);
    }
  } catch (err) {
    log.debug({ err }, "the memory of the start stays");
  }
}
