// SPDX-License-Identifier: Apache-2.0
//
// Whether a database's files are as LevelDB wrote them, found out without opening it: opening would throw away what it
// doesn't understand.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type BlockHandle, checkTable, type Problem, readLog, readManifest } from "./leveldb-files.ts";

/** One file that is damaged, or that should be there and isn't. */
export interface Damage {
  readonly file: string;
  readonly problem: Problem;
  /** Blocks of a table that are all that is damaged of it. */
  readonly blocks?: readonly BlockHandle[];
}

/**
 * What is damaged of a database. Nothing is written, and nothing that LevelDB doesn't use is looked at: half-written files
 * that a killed process left are no damage.
 * @throws what reading throws: a file that can't be read is not a damaged one
 */
export async function inspectDatabase(path: string): Promise<Damage[]> {
  const files = new Set(await readdir(path));
  const data = [...files].find((name) => /\.(ldb|sst|log)$/.test(name));
  if (!files.has("CURRENT")) {
    // MANIFEST-* is written before CURRENT in a new database, so alone it means that its very first start was cut short.
    // LevelDB takes such a directory for a new database and deletes the data files in it.
    return data === undefined ? [] : [{ file: "CURRENT", problem: `it is missing, and there is ${data}` }];
  }
  const current = await readFile(join(path, "CURRENT"), "latin1");
  const manifestName = /^(MANIFEST-\d+)\n$/.exec(current)?.[1];
  if (manifestName === undefined) return [{ file: "CURRENT", problem: "it doesn't name a manifest" }];
  if (!files.has(manifestName)) return [{ file: manifestName, problem: "it is missing" }];
  const manifest = readManifest(await readFile(join(path, manifestName)));
  if (typeof manifest === "string") return [{ file: manifestName, problem: manifest }];
  const damages: Damage[] = [];
  for (const number of manifest.tables) damages.push(...(await inspectTable(path, files, number)));
  const { logNumber, prevLogNumber } = manifest;
  if (logNumber !== 0 && !files.has(fileName(logNumber, "log"))) {
    damages.push({ file: fileName(logNumber, "log"), problem: "it is missing" });
  }
  for (const file of files) {
    const number = Number(/^(\d+)\.log$/.exec(file)?.[1] ?? Number.NaN);
    if (!(number >= logNumber || number === prevLogNumber)) continue;
    const { problem } = readLog(await readFile(join(path, file)));
    if (problem !== undefined) damages.push({ file, problem });
  }
  return damages;
}

async function inspectTable(path: string, files: ReadonlySet<string>, number: number): Promise<Damage[]> {
  const file = [fileName(number, "ldb"), fileName(number, "sst")].find((name) => files.has(name));
  if (file === undefined) return [{ file: fileName(number, "ldb"), problem: "it is missing" }];
  const { problem, damaged } = checkTable(await readFile(join(path, file)));
  if (problem !== undefined) return [{ file, problem }];
  if (damaged.length === 0) return [];
  return [{ file, problem: `${damaged.length} blocks whose checksum is wrong`, blocks: damaged }];
}

function fileName(number: number, kind: string): string {
  return `${`${number}`.padStart(6, "0")}.${kind}`;
}
