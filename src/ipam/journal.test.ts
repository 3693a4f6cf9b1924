// SPDX-License-Identifier: Apache-2.0
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type ReplayResult, replayJournal } from "./journal.ts";
import { IpamService } from "./service.ts";
import { attachment, BOOT_ID, prefixes, request, temporaryDirectory } from "./testing/fixtures.ts";
import { MemoryDisk, MemoryStore } from "./testing/memory-store.ts";

const START = 1_800_000_000_000;

async function journal() {
  const dir = await temporaryDirectory();
  const disk = new MemoryDisk();
  const clock = { nowMs: START };
  const service = new IpamService(new MemoryStore(disk), disk.snapshot(), {
    subnets: prefixes("10.0.0.0/24"),
    bootId: BOOT_ID,
    now: () => clock.nowMs,
  });
  const lines: string[] = [];
  const say = (_: object, message: string) => void lines.push(message);
  const log = { info: say, warn: say, error: say };
  const told = new Set<string>();
  return {
    dir,
    disk,
    clock,
    service,
    lines,
    write: (name: string, entry: unknown) =>
      writeFile(join(dir, name), typeof entry === "string" ? entry : JSON.stringify(entry)),
    replay: (): Promise<ReplayResult> => replayJournal(dir, (one, atMs) => service.release(one, atMs), log, told),
    held: async () => (await service.list()).allocations.map((one) => one.attachment.containerId),
  };
}

const entry = (name: string, at = START) => ({ v: 1, ...attachment(name), at });

test("a directory that is not there is an empty journal", async () => {
  const { dir, service } = await journal();
  const missing = join(dir, "none");
  const log = { info() {}, warn() {}, error() {} };
  expect(await replayJournal(missing, (one, at) => service.release(one, at), log)).toEqual({
    replayed: 0,
    failed: 0,
    setAside: 0,
  });
});

test("every entry is released and gone, whether its attachment is known or not", async () => {
  const it = await journal();
  for (const name of ["a", "b", "c"]) await it.service.allocate(request(name));
  await it.write("1.json", entry("a"));
  await it.write("2.json", entry("b"));
  await it.write("3.json", entry("stranger"));
  expect(await it.replay()).toEqual({ replayed: 3, failed: 0, setAside: 0 });
  expect(await it.held()).toEqual(["c"]);
  expect(await readdir(it.dir)).toEqual([]);
  expect(await it.replay()).toEqual({ replayed: 0, failed: 0, setAside: 0 });
});

test("hundreds of entries are replayed with few synced writes", async () => {
  const it = await journal();
  const names = Array.from({ length: 200 }, (_, i) => `c${i}`);
  await Promise.all(names.map((name) => it.service.allocate(request(name))));
  await Promise.all(names.map((name) => it.write(`${name}.json`, entry(name))));
  it.disk.batches = 0;
  expect(await it.replay()).toMatchObject({ replayed: 200 });
  expect(await it.held()).toEqual([]);
  expect(it.disk.batches).toBeLessThan(20);
});

test("an entry from before the attachment's latest ADD goes without taking its addresses", async () => {
  const it = await journal();
  await it.service.allocate(request("a"));
  await it.write("1.json", entry("a", START + 10));
  it.clock.nowMs = START + 20;
  await it.service.allocate(request("a"));
  expect(await it.replay()).toMatchObject({ replayed: 1 });
  expect(await it.held()).toEqual(["a"]);
  expect(await readdir(it.dir)).toEqual([]);
  expect(it.lines[0]).toContain("keeps its addresses");
});

test("names that are still being written or are not entries are not touched", async () => {
  const it = await journal();
  await it.service.allocate(request("a"));
  const names = [".1.json", "2.json.bad", "3.tmp"];
  for (const name of names) await it.write(name, entry("a"));
  expect(await it.replay()).toEqual({ replayed: 0, failed: 0, setAside: 0 });
  expect(await it.held()).toEqual(["a"]);
  expect((await readdir(it.dir)).sort()).toEqual(names);
});

test.for<[title: string, content: unknown]>([
  ["nothing", ""],
  ["half an entry", '{"v":1,"network":"po'],
  ["a list", []],
  ["null", "null"],
  ["no version", { ...entry("a"), v: undefined }],
  ["no time", { ...entry("a"), at: undefined }],
  ["a time that is text", { ...entry("a"), at: "now" }],
  ["no interface", { ...entry("a"), ifname: undefined }],
  ["a network with a slash", { ...entry("a"), network: "../x" }],
  ["far too much", { ...entry("a"), more: "x".repeat(100_000) }],
])("an entry with %s is set aside and stops no other", async ([, content]) => {
  const it = await journal();
  for (const name of ["a", "b"]) await it.service.allocate(request(name));
  await it.write("1.json", content);
  await it.write("2.json", entry("b"));
  expect(await it.replay()).toEqual({ replayed: 1, failed: 0, setAside: 1 });
  expect(await it.held()).toEqual(["a"]);
  expect(await readdir(it.dir)).toEqual(["1.json.bad"]);
  expect(it.lines[0]).toContain("set aside");
});

test("a directory and a symbolic link with an entry's name are set aside", async () => {
  const it = await journal();
  await mkdir(join(it.dir, "1.json"));
  await it.write("target", entry("a"));
  await symlink("target", join(it.dir, "2.json"));
  expect(await it.replay()).toEqual({ replayed: 0, failed: 0, setAside: 2 });
  expect((await readdir(it.dir)).sort()).toEqual(["1.json.bad", "2.json.bad", "target"]);
});

test("an entry of a newer plugin is told of once, however often it is met", async () => {
  const it = await journal();
  await it.write("1.json", { v: 2 });
  for (let i = 0; i < 3; i++) await it.replay();
  expect(it.lines).toEqual([expect.stringContaining("newer plugin")]);
  await it.write("2.json", { v: 3 });
  await it.replay();
  expect(it.lines).toHaveLength(2);
});

test("an entry of a newer plugin stays for a newer daemon", async () => {
  const it = await journal();
  await it.write("1.json", { v: 2, anything: true });
  expect(await it.replay()).toEqual({ replayed: 0, failed: 1, setAside: 0 });
  expect(JSON.parse(await readFile(join(it.dir, "1.json"), "utf8"))).toMatchObject({ v: 2 });
});

test("an entry whose release cannot be made durable stays and succeeds the next time", async () => {
  const it = await journal();
  await it.service.allocate(request("a"));
  await it.write("1.json", entry("a"));
  it.disk.faults.push("before");
  expect(await it.replay()).toEqual({ replayed: 0, failed: 1, setAside: 0 });
  expect(await readdir(it.dir)).toEqual(["1.json"]);
  expect(await it.replay()).toEqual({ replayed: 1, failed: 0, setAside: 0 });
  expect(await it.held()).toEqual([]);
});

test("a journal that is not a directory is a clear error", async () => {
  const it = await journal();
  await it.write("file", "");
  const log = { info() {}, warn() {}, error() {} };
  await expect(replayJournal(join(it.dir, "file"), async () => ({ readded: false }), log)).rejects.toMatchObject({
    code: "IPAM_STORE",
    message: expect.stringContaining(join(it.dir, "file")),
  });
});
