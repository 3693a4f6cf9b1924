// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createNodeSys } from "../../test/helpers/node-sys.ts";
import { type Sys, SysError } from "../sys/sys.ts";
import { journalName, writeJournalEntry } from "./journal.ts";

const ATTACHMENT = { network: "pods", containerId: "c0ffee", ifname: "eth0" };
const NAME = "160f3a6c6ece56a4becc102a91b376e7344df804bd536dda68e4c0d9449736d2.json";
const NOW = 1_800_000_000_000;
const PID = 4711;
const sha256 = (text: string): Uint8Array => createHash("sha256").update(text).digest();

let dir: string;
beforeEach(() => {
  dir = fs.mkdtempSync(join(tmpdir(), "flatnet-journal-"));
});
afterEach(() => fs.rmSync(dir, { recursive: true, force: true }));

function write(overrides: Partial<Sys> = {}, at = NOW) {
  const { sys, open } = createNodeSys(overrides);
  try {
    writeJournalEntry(sys, dir, ATTACHMENT, at, PID, sha256);
  } finally {
    expect([...open]).toEqual([]);
  }
}

test("an entry is one file with the attachment and the time, for root only", () => {
  write();
  expect(fs.readdirSync(dir)).toEqual([NAME]);
  expect(fs.readFileSync(join(dir, NAME), "utf8")).toBe(
    '{"v":1,"network":"pods","containerId":"c0ffee","ifname":"eth0","at":1800000000000}\n',
  );
  expect(fs.statSync(join(dir, NAME)).mode & 0o777).toBe(0o600);
});

test("the entry's name is the hash of the key", () => {
  expect(journalName(ATTACHMENT, sha256)).toBe(`${createHash("sha256").update("pods/c0ffee/eth0").digest("hex")}.json`);
  expect(journalName(ATTACHMENT, sha256)).toBe(NAME);
});

test("two DELs of one attachment are one entry, the later one", () => {
  write();
  write({}, NOW + 1);
  expect(fs.readdirSync(dir)).toEqual([NAME]);
  expect(JSON.parse(fs.readFileSync(join(dir, NAME), "utf8"))).toMatchObject({ at: NOW + 1 });
});

test("an entry is whole even when the disk takes it byte by byte", () => {
  write({ write: (fd, bytes) => fs.writeSync(fd, bytes.subarray(0, 1)) });
  expect(JSON.parse(fs.readFileSync(join(dir, NAME), "utf8"))).toEqual({ v: 1, ...ATTACHMENT, at: NOW });
});

test("what was half-written by a plugin that was killed is written over", () => {
  fs.writeFileSync(join(dir, `.${NAME}.${PID}`), "x".repeat(1000));
  write();
  expect(fs.readdirSync(dir)).toEqual([NAME]);
});

const full = () => {
  throw new SysError("write", 28, "ENOSPC");
};
test.for<[step: string, overrides: Partial<Sys>]>([
  ["write", { write: full }],
  ["fsync", { fsync: full }],
  ["rename", { rename: full }],
])("a failing %s leaves no file, half or whole, and is told", ([, overrides]) => {
  expect(() => write(overrides)).toThrow("ENOSPC");
  expect(fs.readdirSync(dir)).toEqual([]);
});

test("the first error counts when the left-over can't be removed either", () => {
  const unlink = () => {
    throw new SysError("unlink", 30, "EROFS");
  };
  expect(() => write({ write: full, unlink })).toThrow("ENOSPC");
});

test("a directory that isn't there is ENOENT", () => {
  fs.rmSync(dir, { recursive: true });
  expect(() => write()).toThrow(expect.objectContaining({ name: "SysError", code: "ENOENT" }));
});
