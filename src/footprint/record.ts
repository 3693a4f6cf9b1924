// SPDX-License-Identifier: Apache-2.0
//
// What the daemon has changed on the node that bears no mark of ours: files in others' directories, and sysctls with the
// values they had. Written down, on disk, before it is done, so that leaving can undo it, whoever was killed when.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { FootprintError, isMissing, reasonOf } from "./errors.ts";
import { makeDirectories, missingDirectories, placeText, sweepParts } from "./place.ts";

/** A sysctl by its path under /proc/sys/net, "ipv4/ip_forward". */
export interface SysctlValue {
  readonly sysctl: string;
  readonly before: string;
  readonly after: string;
}

export interface SysctlChange extends SysctlValue {
  /** The kernel's boot_id when it was changed: with the next boot nothing of it is left. */
  readonly bootId: string;
  /** What the kernel changes along with it, as far as a change back would not bring it back. */
  readonly along: readonly SysctlValue[];
}

/** BIRD's, in BGP mode. */
export interface BirdRecord {
  readonly program: string;
  /** Number of the kernel's table that it has its routes in. */
  readonly table: number;
}

export interface Footprint {
  readonly files: readonly string[];
  /** Directories of others that weren't there, in the order in which they were made. */
  readonly directories: readonly string[];
  readonly sysctls: readonly SysctlChange[];
  readonly bird: BirdRecord | undefined;
  /** Path of the gRPC socket. */
  readonly socket: string | undefined;
}

const NAME = "footprint.json";
const NOTHING: Footprint = { files: [], directories: [], sysctls: [], bird: undefined, socket: undefined };

/** Where it is, in the state directory. */
export function recordPath(stateDir: string): string {
  return join(stateDir, NAME);
}

/** @returns nothing of anything where there is no record. @throws FootprintError FOOTPRINT_FILE */
export async function readFootprint(stateDir: string): Promise<Footprint> {
  const path = recordPath(stateDir);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return NOTHING;
    throw new FootprintError("FOOTPRINT_FILE", `${path} can't be read: ${reasonOf(error)}`, error);
  }
  return parseFootprint(text, path);
}

/** Pure. @throws FootprintError FOOTPRINT_FILE when it isn't what it should be */
export function parseFootprint(text: string, path: string): Footprint {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FootprintError("FOOTPRINT_FILE", `${path} is not JSON: ${reasonOf(error)}`, error);
  }
  if (!isObject(value)) throw new FootprintError("FOOTPRINT_FILE", `${path} is not a JSON object`);
  const { files, directories, sysctls, bird, socket } = value;
  return {
    files: stringsOf(files),
    directories: stringsOf(directories),
    sysctls: Array.isArray(sysctls) ? sysctls.flatMap((one) => parseChange(one) ?? []) : [],
    bird:
      isObject(bird) && typeof bird["program"] === "string" && typeof bird["table"] === "number"
        ? { program: bird["program"], table: bird["table"] }
        : undefined,
    socket: typeof socket === "string" ? socket : undefined,
  };
}

function stringsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}

function parseChange(value: unknown): SysctlChange | undefined {
  const own = parseValue(value);
  if (own === undefined || !isObject(value)) return undefined;
  const { bootId, along } = value;
  if (typeof bootId !== "string") return undefined;
  return { ...own, bootId, along: Array.isArray(along) ? along.flatMap((one) => parseValue(one) ?? []) : [] };
}

/** The path is one under /proc/sys/net and stays there. */
function parseValue(value: unknown): SysctlValue | undefined {
  if (!isObject(value)) return undefined;
  const { sysctl, before, after } = value;
  if (typeof sysctl !== "string" || typeof before !== "string" || typeof after !== "string") return undefined;
  return sysctl.split("/").some((part) => part === "" || part === "..") ? undefined : { sysctl, before, after };
}

/** The record of a daemon that runs: the only one that writes it. */
export class FootprintRecord {
  readonly #stateDir: string;
  #now: Footprint;

  private constructor(stateDir: string, now: Footprint) {
    this.#stateDir = stateDir;
    this.#now = now;
  }

  /** @param onUnreadable told when there is one that can't be read; it is taken for none then */
  static async open(stateDir: string, onUnreadable: (error: unknown) => void): Promise<FootprintRecord> {
    const there = await readFootprint(stateDir).catch((error: unknown) => {
      onUnreadable(error);
      return NOTHING;
    });
    await sweepParts(stateDir);
    return new FootprintRecord(stateDir, there);
  }

  get now(): Footprint {
    return this.#now;
  }

  /** Durable when it returns; nothing is written where nothing changes. @throws FootprintError FOOTPRINT_FILE */
  async set(changes: Partial<Footprint>): Promise<void> {
    const next = { ...this.#now, ...changes };
    const path = recordPath(this.#stateDir);
    if (JSON.stringify(next) === JSON.stringify(this.#now)) return;
    try {
      await placeText(path, `${JSON.stringify({ v: 1, ...next }, undefined, 2)}\n`, 0o600);
    } catch (error) {
      throw new FootprintError("FOOTPRINT_FILE", `${path} can't be written: ${reasonOf(error)}`, error);
    }
    this.#now = next;
    globalThis.faultPoint?.("daemon.change-recorded");
  }

  /** Makes a directory, and those on the way to it. @throws FootprintError FOOTPRINT_FILE */
  async makeDirectory(path: string): Promise<void> {
    try {
      const missing = await missingDirectories(path);
      if (missing.length === 0) return;
      await this.set({ directories: [...new Set([...this.#now.directories, ...missing])] });
      await makeDirectories(missing);
    } catch (error) {
      if (error instanceof FootprintError) throw error;
      throw new FootprintError("FOOTPRINT_FILE", `${path} can't be made: ${reasonOf(error)}`, error);
    }
  }

  /** @throws FootprintError FOOTPRINT_FILE */
  async addFiles(paths: readonly string[]): Promise<void> {
    await this.set({ files: [...new Set([...this.#now.files, ...paths])] });
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
