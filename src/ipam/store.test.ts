// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readdir, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Level } from "level";
import { expect, onTestFinished, test, vi } from "vitest";
import type { KeyRange } from "./history.ts";
import type { Write } from "./records.ts";
import { DATABASE_NAME, Store } from "./store.ts";
import { temporaryDirectory } from "./testing/fixtures.ts";

const HOLD_STORE = fileURLToPath(new URL("testing/hold-store.ts", import.meta.url));
const ALLOCATE = fileURLToPath(new URL("testing/allocate-for-ever.ts", import.meta.url));

const released = (address: string, releasedAtMs = 1) => ({
  type: "put" as const,
  key: `r/${address}`,
  value: JSON.stringify({ v: 1, releasedAtMs, holder: "pods/a/eth0" }),
});

async function opened(dir: string): Promise<Awaited<ReturnType<typeof Store.open>>> {
  const result = await Store.open(dir);
  onTestFinished(() => result.store.close());
  return result;
}

function started(script: string, ...args: string[]): ChildProcess & { stdout: NodeJS.ReadableStream } {
  const child = spawn(process.execPath, [script, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => ended(child));
  return child as ChildProcess & { stdout: NodeJS.ReadableStream };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

/** Something other than the store writes into the database. */
async function planted(dir: string, entries: Record<string, string>): Promise<void> {
  const level = new Level<string, string>(join(dir, DATABASE_NAME));
  for (const [key, value] of Object.entries(entries)) await level.put(key, value);
  await level.close();
}

test("what was committed is there after opening again", async () => {
  const dir = await temporaryDirectory();
  const first = await Store.open(dir);
  expect(first.snapshot).toEqual({ allocations: new Map(), released: new Map() });
  await first.store.commit([released("10.0.0.1"), released("10.0.0.2")]);
  await first.store.commit([{ type: "del", key: "r/10.0.0.2" }]);
  await first.store.close();
  const { snapshot } = await opened(dir);
  expect([...snapshot.released]).toEqual([["10.0.0.1", { releasedAtMs: 1, holder: "pods/a/eth0" }]]);
});

test("the history is read backwards in its range, and only its end when a database is opened", async () => {
  const dir = await temporaryDirectory();
  const first = await Store.open(dir);
  const key = (n: number) => `h/0000000000000007/${`${n}`.padStart(10, "0")}/10.0.0.1`;
  const all = Array.from({ length: 2500 }, (_, n) => key(n));
  await first.store.commit([
    ...all.map((one): Write => ({ type: "put", key: one, value: "not looked at" })),
    { type: "put", key: "z", value: "of a newer writer" },
    released("10.0.0.1"),
  ]);
  await first.store.close();
  const { store, snapshot } = await opened(dir);
  expect(snapshot.lastTenure).toMatchObject({ orderMs: 7, count: 2499 });
  expect([...snapshot.released.keys()]).toEqual(["10.0.0.1"]);
  const read = async (range: KeyRange) => {
    const read: string[] = [];
    for await (const keys of store.historyKeys(range)) read.push(...keys);
    return read;
  };
  expect(await read({})).toEqual(all.toReversed());
  expect(await read({ gte: key(10), lt: key(12) })).toEqual([key(11), key(10)]);
  expect(await store.historyValues([key(3), key(9999)])).toEqual(["not looked at", undefined]);
  await store.close();
  await expect(read({})).rejects.toMatchObject({ code: "STORE_READ" });
  await expect(store.historyValues([key(3)])).rejects.toMatchObject({ code: "STORE_READ" });
});

test("every write is synced", async () => {
  // No kill shows a missing fsync, only a power cut does; so this looks at what LevelDB is asked for.
  const batch = vi.spyOn(Level.prototype, "batch");
  onTestFinished(() => batch.mockRestore());
  const { store } = await opened(await temporaryDirectory());
  await Promise.all(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map((address) => store.commit([released(address)])));
  const asked = batch.mock.calls as unknown as [operations: unknown[], options?: { sync?: boolean }][];
  // The format's mark, the first writer, and the two that came meanwhile.
  expect(asked.map(([operations, options]) => [operations.length, options?.sync])).toEqual([
    [1, true],
    [1, true],
    [2, true],
  ]);
});

test("the database's directory is its owner's only, also if it was not before", async () => {
  const dir = join(await temporaryDirectory(), "a", "b");
  const first = await Store.open(dir);
  expect((await stat(first.store.path)).mode & 0o777).toBe(0o700);
  await first.store.close();
  await chmod(first.store.path, 0o755);
  await opened(dir);
  expect((await stat(first.store.path)).mode & 0o777).toBe(0o700);
});

test("a database that another process has open is refused with its pid and command line", {
  timeout: 30_000,
}, async () => {
  const dir = await temporaryDirectory();
  const child = started(HOLD_STORE, dir);
  await once(child.stdout, "data");
  await expect(Store.open(dir)).rejects.toMatchObject({
    name: "StoreError",
    code: "STORE_LOCKED",
    message: expect.stringMatching(
      new RegExp(`ipam.db: the database is held by process ${child.pid} \\(.*hold-store.ts`),
    ),
  });
  // The refused attempt leaves nothing behind that would be in the way when the holder is gone.
  await ended(child);
  await opened(dir);
});

test("a database that this process has open is refused, and stays locked for other processes", {
  timeout: 30_000,
}, async () => {
  const dir = await temporaryDirectory();
  await opened(dir);
  await expect(Store.open(join(dir, "..", dir.slice(dir.lastIndexOf("/"))))).rejects.toMatchObject({
    code: "STORE_LOCKED",
    message: expect.stringContaining(`open in this process (${process.pid})`),
  });
  const child = spawn(process.execPath, [HOLD_STORE, dir], { stdio: ["ignore", "ignore", "pipe"] });
  onTestFinished(() => ended(child));
  let said = "";
  for await (const chunk of child.stderr) said += chunk;
  expect(said).toContain(`held by process ${process.pid} `);
});

test("records that cannot be served from are refused with path and key, and the database is left closed", async () => {
  const dir = await temporaryDirectory();
  await planted(dir, { "a/pods/a/eth0": "{" });
  await expect(Store.open(dir)).rejects.toMatchObject({
    code: "STORE_DAMAGED",
    message: `${join(dir, "ipam.db")}: the database is damaged: record "a/pods/a/eth0": it is not JSON`,
    cause: { code: "RECORD_INVALID", key: "a/pods/a/eth0" },
  });
  await planted(dir, { "a/pods/a/eth0": '{"v":2}' });
  await expect(Store.open(dir)).rejects.toMatchObject({ code: "STORE_NEWER", cause: { code: "RECORD_NEWER" } });
});

test("a database of a newer format is refused even if it is empty", async () => {
  const dir = await temporaryDirectory();
  await planted(dir, { f: '{"v":2}' });
  await expect(Store.open(dir)).rejects.toMatchObject({
    code: "STORE_NEWER",
    cause: { code: "RECORD_NEWER", key: "f" },
  });
});

test("a database that lost its CURRENT file is refused and not made an empty one", async () => {
  const dir = await temporaryDirectory();
  const { store } = await Store.open(dir);
  await store.commit([released("10.0.0.1")]);
  await store.close();
  await unlink(join(store.path, "CURRENT"));
  const before = await readdir(store.path);
  await expect(Store.open(dir)).rejects.toMatchObject({
    code: "STORE_DAMAGED",
    message: expect.stringContaining("CURRENT: it is missing"),
  });
  expect(await readdir(store.path)).toEqual(before);
});

test("a state directory that is a file, and a database of garbage, are clear errors with the path", async () => {
  const dir = await temporaryDirectory();
  const file = join(dir, "file");
  await writeFile(file, "");
  await expect(Store.open(file)).rejects.toMatchObject({
    code: "STORE_OPEN",
    message: expect.stringContaining(join(file, "ipam.db")),
  });
  const path = join(dir, "ipam.db");
  await mkdir(path);
  await writeFile(join(path, "CURRENT"), "garbage");
  await expect(Store.open(dir)).rejects.toMatchObject({
    code: "STORE_DAMAGED",
    message: `${path}: the database is damaged: CURRENT: it doesn't name a manifest`,
  });
});

test("a closed store refuses commits", async () => {
  const { store } = await Store.open(await temporaryDirectory());
  await store.close();
  await store.close();
  await expect(store.commit([released("10.0.0.1")])).rejects.toMatchObject({ code: "STORE_CLOSED" });
  await expect(store.reopen()).rejects.toMatchObject({ code: "STORE_CLOSED" });
});

test("a store can be opened again in place and keeps what it has", async () => {
  const { store } = await opened(await temporaryDirectory());
  await store.commit([released("10.0.0.1")]);
  expect([...(await store.reopen()).released.keys()]).toEqual(["10.0.0.1"]);
  await store.commit([released("10.0.0.2")]);
  expect([...(await store.reopen()).released.keys()]).toEqual(["10.0.0.1", "10.0.0.2"]);
});

test("closing while it is opened again leaves it closed", async () => {
  const dir = await temporaryDirectory();
  const { store } = await Store.open(dir);
  const reopened = store.reopen();
  await Promise.all([reopened, store.close()]);
  await opened(dir);
});

/** What a crashed process has said: who holds what, and for whom the release was under way. */
class Account {
  readonly held = new Map<string, string>();
  readonly open = new Set<string>();
  readonly errors: string[] = [];
  lines = 0;
  hear(line: string): void {
    const [sign, name, ...rest] = line.split(" ") as [string, string, ...string[]];
    if (sign === "+") this.held.set(name, rest.join(" "));
    if (sign === "?") this.open.add(name);
    if (sign === "-") {
      this.held.delete(name);
      this.open.delete(name);
    }
    if (sign === "!") this.errors.push(rest.join(" "));
    this.lines++;
  }
  /** Everything said is on disk, and what is on disk and was not said is at most what was under way. */
  compare(onDisk: ReadonlyMap<string, string>): void {
    const missing = [...this.held].filter(
      ([name, addresses]) => !this.open.has(name) && onDisk.get(name) !== addresses,
    );
    expect(missing).toEqual([]);
    const all = [...onDisk.values()].flatMap((text) => text.split(" "));
    expect(new Set(all).size).toBe(all.length);
  }
}

async function heldOnDisk(dir: string): Promise<Map<string, string>> {
  const { store, snapshot } = await Store.open(dir);
  await store.close();
  return new Map(
    [...snapshot.allocations.values()].map((one) => [one.attachment.containerId, one.addresses.join(" ")]),
  );
}

test("after kill -9 at any point everything that was said is on disk, each address once", {
  timeout: 60_000,
}, async () => {
  const dir = await temporaryDirectory();
  const account = new Account();
  for (const [run, linesToHear] of [1, 40, 333, 1000, 77].entries()) {
    const child = started(ALLOCATE, `run${run}`, dir);
    const before = account.lines;
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => {
      account.hear(line);
      // A point that depends on how far it got, not on time; what it says until the signal arrives is heard too.
      if (account.lines - before === linesToHear) child.kill("SIGKILL");
    });
    await Promise.all([once(child, "exit"), once(lines, "close")]);
    const onDisk = await heldOnDisk(dir);
    account.compare(onDisk);
    // The outcome of what was under way is known now.
    for (const name of account.open) if (!onDisk.has(name)) account.held.delete(name);
    account.open.clear();
  }
  expect(account.held.size).toBeGreaterThan(100);
});

test("on a full disk nothing is handed out that is not on it, and service resumes when there is room", {
  timeout: 60_000,
}, async () => {
  const dir = await temporaryDirectory();
  const account = new Account();
  const child = started(ALLOCATE, "full", dir);
  const lines = createInterface({ input: child.stdout });
  const heard = (happened: (line: string) => boolean) =>
    new Promise<void>((resolve) => {
      const listen = (line: string) => {
        if (!happened(line)) return;
        lines.off("line", listen);
        resolve();
      };
      lines.on("line", listen);
    });
  lines.on("line", (line) => account.hear(line));
  await heard((line) => line.startsWith("+"));
  // A limit on the size of its files: a write beyond it fails half-way, as on a full disk.
  const failing = heard((line) => line.startsWith("!"));
  await limitFileSize(child, 100_000);
  await failing;
  await heard((line) => line.startsWith("!"));
  const held = account.held.size;
  await limitFileSize(child, undefined);
  await heard(() => account.held.size > held + 200);
  child.kill("SIGKILL");
  await Promise.all([once(child, "exit"), once(lines, "close")]);
  expect(new Set(account.errors)).toEqual(new Set(["IPAM_STORE"]));
  account.compare(await heldOnDisk(dir));
});

async function limitFileSize(child: ChildProcess, bytes: number | undefined): Promise<void> {
  const limit = `--fsize=${bytes ?? "unlimited"}:unlimited`;
  const prlimit = spawn("prlimit", ["--pid", `${child.pid}`, limit], { stdio: "inherit" });
  expect(await once(prlimit, "exit")).toEqual([0, null]);
}
