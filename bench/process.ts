// SPDX-License-Identifier: Apache-2.0
//
// What a process that runs has cost until now, as /proc tells it (proc(5)).
import { readFileSync } from "node:fs";

/** A clock tick of /proc/PID/stat in milliseconds (USER_HZ is 100 everywhere). */
const TICK_MS = 10;

/** Resident memory of a process, in MB of 1,000,000 bytes. */
export function residentMB(pid: number): number {
  const kB = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return (Number(kB) * 1024) / 1e6;
}

/** User and system time of a process so far, in milliseconds. */
export function cpuMs(pid: number): number {
  // The name, in parentheses, may have spaces.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}
