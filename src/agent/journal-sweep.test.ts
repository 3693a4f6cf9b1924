// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { sweepJournal } from "./journal-sweep.ts";
import { createLog } from "./log.ts";

test("what was begun long ago goes; what is being written and what is finished stays", async () => {
  const dir = mkdtempSync(join(tmpdir(), "journal-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const now = 1_700_000_000_000;
  const ages = { ".abandoned.json.7": 60_000, ".young.json.8": 59_000, "finished.json": 3_600_000 };
  for (const [name, age] of Object.entries(ages)) {
    writeFileSync(join(dir, name), "");
    utimesSync(join(dir, name), (now - age) / 1000, (now - age) / 1000);
  }
  await sweepJournal(dir, now, createLog("silent", "node"));
  expect(readdirSync(dir).sort()).toEqual([".young.json.8", "finished.json"]);
});
