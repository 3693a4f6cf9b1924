// SPDX-License-Identifier: Apache-2.0
import { cp, mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { crc32c } from "./leveldb-files.ts";
import { type AllocationRecord, putAllocation, type Write, writesOf } from "./records.ts";
import type { KernelMark } from "./recovered.ts";
import { repairDatabase } from "./repair.ts";
import { DATABASE_NAME, REPAIRED_NAME, Store, StoreError } from "./store.ts";
import { BOOT_ID, request, temporaryDirectory } from "./testing/fixtures.ts";

const NOW = 1_800_000_000_000;

function record(name: string, addresses: string[], confirmedAtMs = NOW): AllocationRecord {
  const { requestedAddresses: _, withGateway: __, ...common } = request(name);
  return { ...common, addresses, allocatedAtMs: NOW, confirmedAtMs, bootId: BOOT_ID, extra: {} };
}

async function read(dir: string): Promise<Map<string, AllocationRecord>> {
  const { store, snapshot } = await Store.open(dir);
  await store.close();
  return new Map(snapshot.allocations);
}

function nthRecord(life: number, i: number): AllocationRecord {
  return record(`life${life}-${i}`, [`10.0.${life}.${i}`, `fd00::${life + 1}:${(i + 1).toString(16)}`]);
}

/** Each record as it was written, also one whose end was in what is damaged: its attachment's end will be noticed once more. */
function expectGenuine(records: ReadonlyMap<string, AllocationRecord>): void {
  for (const one of records.values()) {
    const [, life, i] = /^life(\d)-(\d+)$/.exec(one.attachment.containerId) as unknown as [string, string, string];
    expect(one).toEqual(nthRecord(Number(life), Number(i)));
  }
}

/** A database in which some of the records are in tables, the last ones in the log, and some have been deleted. */
async function makeDatabase(dir: string): Promise<Map<string, AllocationRecord>> {
  for (let life = 0; life < 4; life++) {
    const { store } = await Store.open(dir);
    for (let i = 0; i < 60; i++) {
      const one = nthRecord(life, i);
      await store.commit(writesOf({ kind: "hold", record: one }));
      if (i % 4 === 0) await store.commit(writesOf({ kind: "free", record: one, releasedAtMs: NOW }));
    }
    await store.close();
  }
  return read(dir);
}

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return error.code;
  }
}

test("checksums are CRC-32C", () => {
  // RFC 3720, appendix B.4.
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
});

test("whatever is overwritten, cut off or taken away is found, and of the rest no record is lost or another one", {
  timeout: 120_000,
}, async () => {
  const dir = await temporaryDirectory();
  const sound = join(dir, "sound");
  const all = await makeDatabase(sound);
  expect(all.size).toBe(180);
  const files = (await readdir(join(sound, DATABASE_NAME)))
    .filter((name) => /^(CURRENT|MANIFEST-.*|.*\.(ldb|log))$/.test(name))
    .sort();
  expect(files.filter((name) => name.endsWith(".ldb")).length).toBeGreaterThan(0);
  const damage = fc.record({
    file: fc.constantFrom(...files),
    kind: fc.constantFrom("flip" as const, "overwrite" as const, "truncate" as const, "remove" as const),
    at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    mask: fc.integer({ min: 1, max: 255 }),
  });
  let run = 0;
  await fc.assert(
    fc.asyncProperty(damage, async ({ file, kind, at, mask }) => {
      const state = join(dir, `run-${run++}`);
      await cp(sound, state, { recursive: true });
      const path = join(state, DATABASE_NAME);
      const bytes = await readFile(join(path, file));
      const position = Math.floor(at * bytes.length);
      if (kind === "remove") await rm(join(path, file));
      else if (kind === "truncate") await truncate(join(path, file), position);
      else {
        const length = kind === "flip" ? 1 : Math.min(512, bytes.length - position);
        for (let i = position; i < position + length; i++) bytes[i] = (bytes[i] as number) ^ mask;
        await writeFile(join(path, file), bytes);
      }
      const before = await contentOf(path);
      const code = await codeOf(read(state));
      if (code === undefined) {
        const found = await read(state);
        // What a log that ends early has lost can't be told from what was never written; and some files are of no use any more.
        if (kind === "truncate" && file.endsWith(".log")) expectGenuine(found);
        else expect(found).toEqual(all);
        return;
      }
      expect(code).toBe("STORE_DAMAGED");
      const report = await repairDatabase(state, [], NOW);
      // Whole, as it was; LevelDB's own log is no data.
      expect(await contentOf(report.movedTo)).toEqual(before);
      const left = await read(state);
      expect(report.losses).toEqual([]);
      expect(report.attachments).toBe(left.size);
      expectGenuine(left);
      if (file === "CURRENT" || file.startsWith("MANIFEST")) expect(left.size).toBe(all.size);
      await rm(state, { recursive: true });
    }),
    { numRuns: 40 },
  );
});

async function contentOf(path: string): Promise<Map<string, string>> {
  const content = new Map<string, string>();
  for (const name of (await readdir(path)).sort()) {
    if (!/^(LOG|LOG.old|LOCK)$/.test(name)) content.set(name, (await readFile(join(path, name))).toString("base64"));
  }
  return content;
}

async function planted(dir: string, writes: readonly Write[]): Promise<void> {
  const { store } = await Store.open(dir);
  await store.commit(writes);
  await store.close();
}

test("where records contradict each other the kernel decides, and then the later one", async () => {
  const dir = await temporaryDirectory();
  const port = { hostPort: 80, containerPort: 80, protocol: "tcp", hostIp: "" } as const;
  const [old, late, other, alone] = [
    record("old", ["10.0.0.1"], NOW - 1000),
    { ...record("late", ["10.0.0.1", "fd00::1"]), portMappings: [port] },
    { ...record("other", ["10.0.0.2"], NOW - 1000), portMappings: [port] },
    record("alone", ["10.0.0.9"]),
  ];
  await planted(dir, [
    ...[old, late, other, alone].map(putAllocation),
    { type: "put", key: "a/pods/x/eth0", value: "{" },
  ]);
  expect(await codeOf(read(dir))).toBe("STORE_DAMAGED");
  const marks: KernelMark[] = [
    { hostIfname: old.hostIfname, alias: "", addresses: ["10.0.0.1"] },
    { hostIfname: alone.hostIfname, alias: "", addresses: ["10.0.0.3"] },
  ];
  const { losses, attachments } = await repairDatabase(dir, marks, NOW);
  expect(attachments).toBe(4);
  expect(losses).toEqual([
    'record "a/pods/x/eth0": it is not JSON',
    "pods/alone/eth0 had 10.0.0.9; the kernel has 10.0.0.3 for its link",
    "pods/late/eth0 lost address 10.0.0.1, which pods/old/eth0 has too",
    "pods/other/eth0 lost tcp port 80 of every address, which pods/late/eth0 has too",
  ]);
  const held = [...(await read(dir)).values()].map((one) => [one.attachment.containerId, one.addresses.join()]);
  expect(held.sort()).toEqual([
    ["alone", "10.0.0.3"],
    ["late", "fd00::1"],
    ["old", "10.0.0.1"],
    ["other", "10.0.0.2"],
  ]);
});

test("a repair that is cut short anywhere leaves the damaged database or the new one in its place", async () => {
  const dir = await temporaryDirectory();
  await planted(dir, [putAllocation(record("a", ["10.0.0.1"]))]);
  const path = join(dir, DATABASE_NAME);
  // Killed while it worked, and killed before the damaged one was moved: begun anew.
  await mkdir(join(dir, "ipam.db.repairing", "copy"), { recursive: true });
  await mkdir(join(dir, REPAIRED_NAME));
  expect((await read(dir)).size).toBe(1);
  expect(await readdir(dir)).not.toContain(REPAIRED_NAME);
  await rm(join(path, "CURRENT"));
  const { movedTo } = await repairDatabase(dir, [], NOW);
  expect(movedTo).toBe(`${path}.damaged-2027-01-15T080000.000Z`);
  expect((await readdir(dir)).sort()).toEqual(["ipam.db", "ipam.db.damaged-2027-01-15T080000.000Z"]);
  // Killed when it was moved and the new one was not in its place yet.
  await rename(path, join(dir, REPAIRED_NAME));
  expect((await read(dir)).size).toBe(1);
  expect((await stat(path)).mode & 0o777).toBe(0o700);
});

test("a database that is open elsewhere, or of a newer program, is not repaired", async () => {
  const dir = await temporaryDirectory();
  const { store } = await Store.open(dir);
  onTestFinished(() => store.close());
  // In one process it is this process's own lock that LevelDB minds.
  expect(await codeOf(repairDatabase(dir, [], NOW))).toBe("STORE_LOCKED");
  await store.close();
  await planted(dir, [{ type: "put", key: "a/pods/x/eth0", value: '{"v":2}' }]);
  await rm(join(dir, DATABASE_NAME, "CURRENT"));
  expect(await codeOf(repairDatabase(dir, [], NOW))).toBe("STORE_NEWER");
  expect((await readdir(dir)).filter((name) => name.includes("damaged"))).toEqual([]);
});
