// SPDX-License-Identifier: Apache-2.0
//
// Gives sysctls the values that they had before the daemon changed them, where nobody else has changed them since.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FootprintError, isMissing, reasonOf } from "./errors.ts";
import type { SysctlChange, SysctlValue } from "./record.ts";

const ROOT = "/proc/sys/net";

/** What became of one; "left" where somebody has changed it since, and "gone" with its link or its kernel. */
export interface RestoredSysctl {
  readonly sysctl: string;
  readonly outcome: "restored" | "left" | "gone";
  readonly value: string;
}

/**
 * The last that was changed comes first. May be done again: what is restored isn't what the daemon left any more.
 * @param bootId of the kernel that runs; of an earlier one nothing is left
 * @throws FootprintError FOOTPRINT_SYSCTL
 */
export async function restoreSysctls(
  changes: readonly SysctlChange[],
  bootId: string,
  root = ROOT,
): Promise<RestoredSysctl[]> {
  const restored: RestoredSysctl[] = [];
  for (const change of changes.toReversed()) {
    const { sysctl, before, after } = change;
    const now = change.bootId === bootId ? await read(root, sysctl) : undefined;
    if (now === undefined) restored.push({ sysctl, outcome: "gone", value: "" });
    else if (now !== after) restored.push({ sysctl, outcome: "left", value: now });
    else {
      await restore(root, change);
      restored.push({ sysctl, outcome: "restored", value: before });
    }
  }
  return restored;
}

/**
 * What goes along is put back last, because the kernel changes it again with the sysctl itself. One that somebody has set since gets
 * the value that it has.
 */
async function restore(root: string, { sysctl, before, along }: SysctlChange): Promise<void> {
  const wanted: { readonly sysctl: string; readonly value: string }[] = [];
  for (const one of along) {
    const now = await read(root, one.sysctl);
    if (now !== undefined) wanted.push({ sysctl: one.sysctl, value: valueAfter(one, now) });
  }
  await write(root, sysctl, before);
  for (const { sysctl: name, value } of wanted) {
    const now = await read(root, name);
    if (now !== undefined && now !== value) await write(root, name, value);
  }
}

function valueAfter({ before, after }: SysctlValue, now: string): string {
  return now === after ? before : now;
}

async function read(root: string, sysctl: string): Promise<string | undefined> {
  try {
    return (await readFile(join(root, sysctl), "utf8")).trim();
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw failed(sysctl, error);
  }
}

async function write(root: string, sysctl: string, value: string): Promise<void> {
  try {
    await writeFile(join(root, sysctl), value);
  } catch (error) {
    throw failed(sysctl, error);
  }
}

function failed(sysctl: string, cause: unknown): FootprintError {
  const message = `sysctl net.${sysctl.replaceAll("/", ".")}: ${reasonOf(cause)}`;
  return new FootprintError("FOOTPRINT_SYSCTL", message, cause);
}
