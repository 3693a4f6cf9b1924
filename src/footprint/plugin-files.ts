// SPDX-License-Identifier: Apache-2.0
//
// The plugin's executable where runtimes look for it: one file by two names. It is replaced by renames, so a name always
// stands for a program that runs, and one that runs keeps the file it was started from (writing into it would be ETXTBSY,
// on which libcni sleeps for seconds).
import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { copyFile, type FileHandle, link, open, rename, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FootprintError, isMissing, reasonOf } from "./errors.ts";
import { partOf, syncNames, unlinkIfThere } from "./place.ts";

/** The executable's names; the first is the file, the second a hard link. */
export const PLUGIN_NAMES = ["flatnet", "flatnet-ipam"] as const;

/** Everybody may run it, as every plugin; it can do nothing that its caller can't. */
const MODE = 0o755;
/** Bytes that are compared at once. */
const CHUNK = 1 << 16;
/** How long a program may take to say its versions, in milliseconds. */
const TRIAL_MS = 20_000;
/** How often the trial is begun again while a child of ours, on its way to its own program, has the file open for writing. */
const BUSY_TRIES = 50;
const BUSY_WAIT_MS = 20;

/** Paths of both names in a directory. */
export function pluginPaths(directory: string): readonly [string, string] {
  return [join(directory, PLUGIN_NAMES[0]), join(directory, PLUGIN_NAMES[1])];
}

/**
 * Keeps the executable of `source` in place in a directory. What was found equal is not read again while neither file changes.
 */
export class PluginFiles {
  readonly #source: string;
  readonly #directory: string;
  /** Of the source and of both names, when they were last equal. */
  #equal = "";

  constructor(source: string, directory: string) {
    this.#source = source;
    this.#directory = directory;
  }

  /**
   * Puts the executable there under both names, where it isn't. The directory is there.
   * @returns the paths that were changed
   * @throws FootprintError FOOTPRINT_FILE, FOOTPRINT_PLUGIN; what was in place before is still there
   */
  async install(): Promise<string[]> {
    const [plugin, ipam] = pluginPaths(this.#directory);
    if (this.#equal !== "" && this.#equal === (await this.#state())) return [];
    const changed: string[] = [];
    try {
      if (!(await isEqual(this.#source, plugin))) {
        await placeCopy(this.#source, plugin);
        changed.push(plugin);
      }
      if (changed.length > 0 || !(await isEqual(plugin, ipam))) {
        await placeLink(plugin, ipam);
        changed.push(ipam);
      }
      if (changed.length > 0) await syncNames(this.#directory);
      this.#equal = await this.#state();
    } catch (error) {
      if (error instanceof FootprintError) throw error;
      throw new FootprintError(
        "FOOTPRINT_FILE",
        `the plugin can't be installed in ${this.#directory}: ${reasonOf(error)}`,
        error,
      );
    }
    return changed;
  }

  async #state(): Promise<string> {
    const states = await Promise.all([this.#source, ...pluginPaths(this.#directory)].map(stateOf));
    return states.includes("") ? "" : states.join(" ");
  }
}

/** What changes when a file or its content does; "" when there is none. */
async function stateOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mode, mtimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mode, mtimeNs].join(":");
  } catch (error) {
    if (isMissing(error)) return "";
    throw error;
  }
}

/** Whether `path` is an executable with the content of `source`. */
async function isEqual(source: string, path: string): Promise<boolean> {
  const wanted = await open(source, constants.O_RDONLY);
  try {
    const there = await openIfThere(path);
    if (there === undefined) return false;
    try {
      return await hasContentOf(wanted, there);
    } finally {
      await there.close();
    }
  } finally {
    await wanted.close();
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

async function hasContentOf(wanted: FileHandle, there: FileHandle): Promise<boolean> {
  const [a, b] = [await wanted.stat(), await there.stat()];
  if (!b.isFile() || (b.mode & MODE) !== MODE || a.size !== b.size) return false;
  if (a.dev === b.dev && a.ino === b.ino) return true;
  const [one, other] = [Buffer.allocUnsafe(CHUNK), Buffer.allocUnsafe(CHUNK)];
  for (let at = 0; at < a.size; at += CHUNK) {
    const length = Math.min(CHUNK, a.size - at);
    const read = [await readFull(wanted, one, length, at), await readFull(there, other, length, at)];
    if (read.some((bytes) => bytes !== length)) return false;
    if (!one.subarray(0, length).equals(other.subarray(0, length))) return false;
  }
  return true;
}

async function readFull(file: FileHandle, into: Buffer, length: number, at: number): Promise<number> {
  let read = 0;
  while (read < length) {
    const { bytesRead } = await file.read(into, read, length - read, at + read);
    if (bytesRead === 0) break;
    read += bytesRead;
  }
  return read;
}

async function placeCopy(source: string, path: string): Promise<void> {
  const part = partOf(path);
  try {
    await copyFile(source, part, constants.COPYFILE_EXCL);
    const file = await open(part, "r+");
    try {
      await file.chmod(MODE);
      await file.sync();
    } finally {
      await file.close();
    }
    globalThis.faultPoint?.("daemon.plugin-copied");
    await tryOut(part, source);
    await rename(part, path);
    globalThis.faultPoint?.("daemon.plugin-placed");
  } catch (error) {
    await unlinkIfThere(part);
    throw error;
  }
}

async function placeLink(existing: string, path: string): Promise<void> {
  const part = partOf(path);
  await link(existing, part);
  try {
    await rename(part, path);
  } finally {
    // rename(2) does nothing to two names of one file.
    await unlinkIfThere(part);
  }
}

/**
 * Runs the new executable before anybody else can. One of another machine, or half of one, must not take the place of one
 * that works; and when it has run, no child of ours that was forked meanwhile holds it open for writing any more. That it may not
 * be run from here says nothing: what is mounted noexec for the daemon may not be for the runtime.
 * @throws FootprintError FOOTPRINT_PLUGIN
 */
async function tryOut(path: string, source: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    const failure = await runVersion(path);
    if (failure === undefined || failure.code === "EACCES" || failure.code === "EPERM") return;
    if (failure.code === "ETXTBSY" && tries < BUSY_TRIES) {
      await sleep(BUSY_WAIT_MS);
      continue;
    }
    throw new FootprintError(
      "FOOTPRINT_PLUGIN",
      `${source} is not installed in ${dirname(path)}, because it does not run here: ${failure.message}`,
      failure,
    );
  }
}

function runVersion(path: string): Promise<(Error & { code?: unknown }) | undefined> {
  return new Promise((done) => {
    const child = execFile(path, { env: { CNI_COMMAND: "VERSION" }, timeout: TRIAL_MS }, (error) =>
      done(error ?? undefined),
    );
    // One that doesn't start has no stdin, and one that ends at once doesn't read it.
    child.stdin?.on("error", () => {});
    child.stdin?.end('{"cniVersion":"1.0.0"}');
  });
}
