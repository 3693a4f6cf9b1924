// SPDX-License-Identifier: Apache-2.0
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PluginFiles, pluginPaths } from "./plugin-files.ts";

let root: string;
let source: string;
let dir: string;
beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), "flatnet-plugin-"));
  source = join(root, "flatnet");
  dir = join(root, "bin");
  fs.mkdirSync(dir);
  program("one");
});
afterEach(() => fs.rmSync(root, { recursive: true, force: true }));

/** Text of an executable that succeeds, or ends as `end` says. */
function program(text: string, end = "exit 0"): void {
  fs.writeFileSync(source, `#!/bin/sh\n${end}\n# ${text}\n`);
}

const [PLUGIN, IPAM] = ["flatnet", "flatnet-ipam"];
const read = (name = PLUGIN as string) => fs.readFileSync(join(dir, name), "utf8");
const inode = (name: string) => fs.statSync(join(dir, name)).ino;
const install = () => new PluginFiles(source, dir).install();

test("the plugin is there under both names, one file that everybody may run", async () => {
  expect(await install()).toEqual([...pluginPaths(dir)]);
  expect(fs.readdirSync(dir).sort()).toEqual([PLUGIN, IPAM]);
  expect(read()).toBe(fs.readFileSync(source, "utf8"));
  expect(inode("flatnet")).toBe(inode("flatnet-ipam"));
  expect(fs.statSync(join(dir, "flatnet")).mode & 0o7777).toBe(0o755);
});

test("what is right is left alone, also by a daemon that has just been started", async () => {
  const files = new PluginFiles(source, dir);
  await files.install();
  const before = inode("flatnet");
  expect(await files.install()).toEqual([]);
  expect(await install()).toEqual([]);
  expect(inode("flatnet")).toBe(before);
});

test("another content takes its place, and whoever runs the old one keeps it", async () => {
  await install();
  const old = fs.openSync(join(dir, "flatnet"), "r");
  try {
    program("two");
    await install();
    expect(read()).toContain("# two");
    expect(read(IPAM)).toContain("# two");
    expect(fs.readFileSync(old, "utf8")).toContain("# one");
  } finally {
    fs.closeSync(old);
  }
});

test.for<[what: string, harm: () => void]>([
  ["removed", () => fs.rmSync(join(dir, "flatnet"))],
  ["removed under its second name", () => fs.rmSync(join(dir, "flatnet-ipam"))],
  ["cut short", () => fs.truncateSync(join(dir, "flatnet"), 5)],
  ["changed without a change of its size", () => fs.writeFileSync(join(dir, "flatnet"), read().replace("one", "eno"))],
  ["not executable", () => fs.chmodSync(join(dir, "flatnet"), 0o644)],
  [
    "a link to nothing",
    () => {
      fs.rmSync(join(dir, "flatnet"));
      fs.symlinkSync("/none", join(dir, "flatnet"));
    },
  ],
])("one that is %s is put back by the daemon that runs", async ([, harm]) => {
  const files = new PluginFiles(source, dir);
  await files.install();
  harm();
  expect(await files.install()).not.toEqual([]);
  expect(read()).toBe(fs.readFileSync(source, "utf8"));
  expect(inode("flatnet")).toBe(inode("flatnet-ipam"));
  expect(fs.statSync(join(dir, "flatnet")).mode & 0o777).toBe(0o755);
  expect(fs.readdirSync(dir).sort()).toEqual([PLUGIN, IPAM]);
});

test.for<[what: string, harm: () => void]>([
  ["fails", () => program("two", "exit 1")],
  ["is no program", () => fs.writeFileSync(source, "\x7fELF, of some other machine")],
])("one that %s doesn't take the place of one that works", async ([, harm]) => {
  await install();
  harm();
  await expect(install()).rejects.toMatchObject({ name: "FootprintError", code: "FOOTPRINT_PLUGIN" });
  expect(read()).toContain("# one");
  expect(fs.readdirSync(dir).sort()).toEqual([PLUGIN, IPAM]);
});

test("a source that isn't there is an error that names it, and what is in place stays", async () => {
  await install();
  fs.rmSync(source);
  await expect(install()).rejects.toThrow(source);
  expect(read()).toContain("# one");
});
