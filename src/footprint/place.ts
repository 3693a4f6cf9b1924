// SPDX-License-Identifier: Apache-2.0
//
// Files put in their place in one step, so that whoever reads sees the old one or the new one, whole, and never none. What
// a killed daemon had begun is known by its name.
import { constants } from "node:fs";
import { chmod, mkdir, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { isMissing } from "./errors.ts";

/**
 * What names of files under way begin with. A leading dot, and at the end a number: runtimes read files that end in .conf,
 * .conflist or .json (libcni/conf.go, ConfFiles), and call plugins by their names.
 */
const MARK = ".flatnet-part.";

let count = 0;

/** A name beside `path` that nobody has. */
export function partOf(path: string): string {
  return join(dirname(path), `${MARK}${basename(path)}.${process.pid}.${++count}`);
}

/** Writes the whole content so that it is on disk under this name when this returns. Throws as node:fs does. */
export async function placeText(path: string, text: string, mode: number): Promise<void> {
  const part = partOf(path);
  try {
    const file = await open(part, "wx", mode);
    try {
      await file.chmod(mode);
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    globalThis.faultPoint?.("daemon.file-written");
    await rename(part, path);
    globalThis.faultPoint?.("daemon.file-placed");
  } catch (error) {
    await unlinkIfThere(part);
    throw error;
  }
  await syncNames(dirname(path));
}

/** The directories on the way to this one, and itself, that aren't there: the outermost first. */
export async function missingDirectories(directory: string): Promise<string[]> {
  try {
    await stat(directory);
    return [];
  } catch (error) {
    if (!isMissing(error)) throw error;
    return [...(await missingDirectories(dirname(directory))), directory];
  }
}

/** Makes them, for everybody to read whatever the umask is. */
export async function makeDirectories(missing: readonly string[]): Promise<void> {
  for (const directory of missing) {
    await mkdir(directory, { recursive: true });
    await chmod(directory, 0o755);
  }
}

/** Makes the names in a directory durable. */
export async function syncNames(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Removes what processes that are gone had begun in the directory. For whoever is the only one to place files there.
 * @returns the paths
 */
export async function sweepParts(directory: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
  const left = names.filter((name) => name.startsWith(MARK)).map((name) => join(directory, name));
  for (const path of left) await unlinkIfThere(path);
  return left;
}

/** @returns whether it was there */
export async function unlinkIfThere(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}
