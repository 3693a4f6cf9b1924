// SPDX-License-Identifier: Apache-2.0
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FootprintRecord, parseFootprint, readFootprint, recordPath } from "./record.ts";

let root: string;
beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), "flatnet-record-"));
});
afterEach(() => fs.rmSync(root, { recursive: true, force: true }));

const fail = (error: unknown) => {
  throw error;
};
const NOTHING = { files: [], directories: [], sysctls: [], bird: undefined, socket: undefined };
const SYSCTL = { sysctl: "ipv4/ip_forward", before: "0", after: "1", bootId: "b", along: [] };

test("what is set is there for the next one, for root alone", async () => {
  const record = await FootprintRecord.open(root, fail);
  await record.set({ sysctls: [SYSCTL], socket: "/s", bird: { program: "/b", table: 254 } });
  await record.addFiles(["/f", "/f", "/g"]);
  await record.addFiles(["/g", "/h"]);
  expect((await FootprintRecord.open(root, fail)).now).toEqual({
    files: ["/f", "/g", "/h"],
    directories: [],
    sysctls: [SYSCTL],
    bird: { program: "/b", table: 254 },
    socket: "/s",
  });
  expect(fs.statSync(recordPath(root)).mode & 0o777).toBe(0o600);
});

test("where nothing changes nothing is written", async () => {
  const record = await FootprintRecord.open(root, fail);
  await record.addFiles(["/f"]);
  fs.rmSync(recordPath(root));
  await record.addFiles(["/f"]);
  expect(fs.existsSync(recordPath(root))).toBe(false);
});

test("directories that are made are written down, and those that were there aren't", async () => {
  const record = await FootprintRecord.open(root, fail);
  const leaf = join(root, "a", "b");
  await record.makeDirectory(leaf);
  await record.makeDirectory(root);
  expect(record.now.directories).toEqual([join(root, "a"), leaf]);
  expect(fs.statSync(leaf).mode & 0o777).toBe(0o755);
});

test("without a record there is nothing", async () => {
  expect(await readFootprint(root)).toEqual(NOTHING);
});

test.for([["{"], ["[]"], ["7"]])("%s is no record, and told with its path", async ([text]) => {
  fs.writeFileSync(recordPath(root), text as string);
  await expect(readFootprint(root)).rejects.toMatchObject({
    code: "FOOTPRINT_FILE",
    message: expect.stringContaining(recordPath(root)),
  });
});

test("a daemon takes one that can't be read for none, and says so", async () => {
  fs.writeFileSync(recordPath(root), "{");
  const errors: unknown[] = [];
  const record = await FootprintRecord.open(root, (error) => errors.push(error));
  expect(errors).toEqual([expect.objectContaining({ code: "FOOTPRINT_FILE" })]);
  await record.addFiles(["/f"]);
  expect((await readFootprint(root)).files).toEqual(["/f"]);
});

test("of a record that somebody has been at only what makes sense counts", () => {
  const text = JSON.stringify({
    files: ["/f", 7],
    directories: "x",
    sysctls: [SYSCTL, { ...SYSCTL, sysctl: "../../kernel/x" }, { ...SYSCTL, before: 0 }, null],
    bird: { program: "/b" },
  });
  expect(parseFootprint(text, "x")).toEqual({ ...NOTHING, files: ["/f"], sysctls: [SYSCTL] });
});
