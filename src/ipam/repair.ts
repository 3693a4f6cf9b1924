// SPDX-License-Identifier: Apache-2.0
//
// From a damaged database one that can be served from. The damaged one is moved aside as it is and kept for good. Of a copy
// LevelDB takes what is sound, and what it takes is judged record by record (snapshot.ts); what is missing then is completed
// from the kernel when the service starts (recovered.ts).
import { copyFile, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { ClassicLevel } from "classic-level";
import { type Damage, inspectDatabase } from "./inspect.ts";
import { FORMAT_KEY, formatWrite, putAllocation, RecordError, type Write } from "./records.ts";
import type { KernelMark } from "./recovered.ts";
import { type Entry, salvage } from "./snapshot.ts";
import { DATABASE_NAME, REPAIRED_NAME, refuseWhenLocked, StoreError, syncDirectory } from "./store.ts";

/** Where the new one is made; whatever is here when nobody works on it was not finished. */
const WORKSHOP_NAME = "ipam.db.repairing";

/** How many records are written at once. */
const BATCH = 1_000;

/** A type of block that there is none of: LevelDB passes over the block and goes on with the next. */
const NO_TYPE = 0xff;

export interface RepairReport {
  /** Where the damaged database is now. */
  readonly movedTo: string;
  /** How many attachments are known again. */
  readonly attachments: number;
  /** What could be read and not be kept, a sentence each. What could not be read is not known. */
  readonly losses: readonly string[];
}

/**
 * Makes a new database of what can be read of `<stateDir>/ipam.db`, which nobody has open, and puts it in its place. Killed at any
 * point, it leaves the damaged one in its place, or the new one where Store.open finds it.
 * @param marks the kernel's word, where records contradict it or each other
 * @throws StoreError STORE_LOCKED, STORE_NEWER, STORE_OPEN when reading or writing fails; the damaged one is where it was then
 */
export async function repairDatabase(
  stateDir: string,
  marks: readonly KernelMark[],
  nowMs: number,
): Promise<RepairReport> {
  const parent = resolve(stateDir);
  const path = join(parent, DATABASE_NAME);
  const workshop = join(parent, WORKSHOP_NAME);
  try {
    await refuseWhenLocked(path);
    await emptyWorkshop(workshop);
    const copy = join(workshop, "copy");
    await copyReadable(path, copy, await inspectDatabase(path));
    await ClassicLevel.repair(copy);
    const { allocations, others, losses } = salvage(await readAll(copy), marks);
    const made = join(workshop, "new");
    await writeAll(made, [
      ...(others.some(([key]) => key === FORMAT_KEY) ? [] : [formatWrite()]),
      ...others.map(([key, value]): Write => ({ type: "put", key, value })),
      ...allocations.map(putAllocation),
    ]);
    const repaired = join(parent, REPAIRED_NAME);
    await rename(made, repaired);
    await syncDirectory(parent);
    await refuseWhenLocked(path);
    const movedTo = `${path}.damaged-${new Date(nowMs).toISOString().replaceAll(":", "")}`;
    await rename(path, movedTo);
    await rename(repaired, path);
    await syncDirectory(parent);
    await rm(workshop, { recursive: true });
    return { movedTo, attachments: allocations.length, losses };
  } catch (cause) {
    if (cause instanceof StoreError) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    const code = cause instanceof RecordError ? "STORE_NEWER" : "STORE_OPEN";
    throw new StoreError(code, path, `the database is damaged and could not be repaired: ${message}`, cause);
  }
}

async function emptyWorkshop(workshop: string): Promise<void> {
  await rm(workshop, { recursive: true, force: true });
  await mkdir(workshop, { recursive: true, mode: 0o700 });
}

/** Copies the data, without the parts that are known to be wrong: LevelDB's repair would believe them. */
async function copyReadable(from: string, to: string, damages: readonly Damage[]): Promise<void> {
  await mkdir(to, { mode: 0o700 });
  const byFile = new Map(damages.map((damage) => [damage.file, damage]));
  for (const name of await readdir(from)) {
    const isTable = /\.(ldb|sst)$/.test(name);
    if (!isTable && !name.endsWith(".log")) continue;
    const damage = byFile.get(name);
    // A table whose index is wrong would give wrong records. A log's records are each checked by LevelDB itself.
    if (isTable && damage !== undefined && damage.blocks === undefined) continue;
    await copyFile(join(from, name), join(to, name));
    if (damage?.blocks === undefined) continue;
    const file = await open(join(to, name), "r+");
    try {
      for (const { offset, size } of damage.blocks) await file.write(Uint8Array.of(NO_TYPE), 0, 1, offset + size);
    } finally {
      await file.close();
    }
  }
}

async function readAll(path: string): Promise<Entry[]> {
  const database = new ClassicLevel<string, string>(path);
  try {
    return await database.iterator().all();
  } finally {
    await database.close();
  }
}

async function writeAll(path: string, writes: readonly Write[]): Promise<void> {
  const database = new ClassicLevel<string, string>(path);
  try {
    for (let at = 0; at < writes.length; at += BATCH) {
      await database.batch(writes.slice(at, at + BATCH) as Write[], { sync: true });
    }
  } finally {
    await database.close();
  }
  await syncDirectory(path);
}
