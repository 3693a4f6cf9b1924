// SPDX-License-Identifier: Apache-2.0
//
// Remembers what a program was made from, so that it is only made again when that changed: by content, because a fresh
// checkout or a switched branch changes every file's time.

import { createHash } from "node:crypto";
import { globSync } from "node:fs";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ROOT } from "../repo.ts";

interface Stamp {
  /** Hash of every source file by its path from the root. */
  readonly inputs: Record<string, string>;
  /** Size and time of every output, so that one that was replaced by hand is noticed without reading it. */
  readonly outputs: Record<string, string>;
}

/** Files that every program depends on besides its sources. Packages are covered by the lockfile. */
function commonInputs(): string[] {
  return [
    "package-lock.json",
    "tsconfig.json",
    "scripts/repo.ts",
    ...globSync("scripts/{build.ts,pack/*.ts}", { cwd: ROOT }),
  ];
}

/** Says whether the outputs are there as they were made and nothing they were made from has changed. */
export async function isCurrent(stampPath: string): Promise<boolean> {
  const text = await readFile(stampPath, "utf8").catch(() => null);
  if (text === null) return false;
  const stamp: Stamp = JSON.parse(text);
  for (const path of commonInputs()) if (!(path in stamp.inputs)) return false;
  for (const [path, mark] of Object.entries(stamp.outputs)) if ((await markOf(path)) !== mark) return false;
  for (const [path, hash] of Object.entries(stamp.inputs)) if ((await hashOf(path)) !== hash) return false;
  return true;
}

/** Records a finished program. `sources` come from the bundler; those in node_modules are left to the lockfile. */
export async function writeStamp(
  stampPath: string,
  sources: readonly string[],
  outputs: readonly string[],
): Promise<void> {
  const inputs: Record<string, string> = {};
  for (const path of [...commonInputs(), ...sources]) {
    if (!path.startsWith("node_modules/")) inputs[path] = await hashOf(path);
  }
  const marks: Record<string, string> = {};
  for (const path of outputs) marks[path] = await markOf(path);
  await mkdir(dirname(stampPath), { recursive: true });
  await writeFile(stampPath, `${JSON.stringify({ inputs, outputs: marks } satisfies Stamp, null, 1)}\n`);
}

async function hashOf(path: string): Promise<string> {
  const bytes = await readFile(join(ROOT, path)).catch(() => null);
  return bytes === null ? "missing" : createHash("sha256").update(bytes).digest("hex");
}

async function markOf(path: string): Promise<string> {
  const info = await stat(join(ROOT, path)).catch(() => null);
  return info === null ? "missing" : `${info.ino} ${info.size} ${info.mtimeMs}`;
}
