// SPDX-License-Identifier: Apache-2.0
//
// The releases that the plugin could not tell us. A DEL that finds no daemon tears the link down, writes one synced file
// into the journal directory, and succeeds; here they are caught up with, before anything is served.
//
// A file is <name>.json with {"v":1,"network":…,"containerId":…,"ifname":…,"at":<ms since 1970>}; a name that begins with
// "." is still being written. A file goes only after its release is durable, so a crash in between replays it, and that is
// harmless: the attachment is unknown then, or was added again after `at` and keeps its addresses (Allocator.planRelease).
import { constants } from "node:fs";
import { open, readdir, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Attachment } from "../net/names.ts";
import { IpamError } from "./errors.ts";
import { parseAttachment } from "./requests.ts";

/** Where the plugin writes unless told otherwise. */
export const DEFAULT_JOURNAL_DIR = "/var/lib/flatnet/journal";

/** The only version of an entry. */
const JOURNAL_VERSION = 1;

/** An entry has a few hundred bytes; more is not one. */
const ENTRY_LIMIT = 16 * 1024;

/** Entries in flight: enough to share a synced write, few enough for the file descriptors. */
const BATCH = 64;

/** Where the replay tells what it met; pino's shape. */
export interface JournalLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface ReplayResult {
  /** Entries that are dealt with and gone. */
  readonly replayed: number;
  /** Entries that are still there: the release failed, or a newer plugin wrote them. */
  readonly failed: number;
  /** Entries that made no sense and are now called <name>.bad. */
  readonly setAside: number;
}

/** IpamService.release: `readded` says that the attachment was added again after the DEL and keeps its addresses. */
export type ReleaseDeleted = (attachment: Attachment, deletedAtMs: number) => Promise<{ readonly readded: boolean }>;

type Entry =
  | { readonly kind: "delete"; readonly attachment: Attachment; readonly atMs: number }
  | { readonly kind: "newer"; readonly version: number }
  | { readonly kind: "malformed"; readonly reason: string }
  | { readonly kind: "unreadable"; readonly error: unknown };

/**
 * Releases what the journal says was deleted, and empties it. One entry never stops another. A directory that is not
 * there is an empty one. To be called before serving; again at any time is safe.
 * @param told paths of entries of a newer plugin that the log knows of, to be handed in again the next time
 * @throws IpamError IPAM_STORE when the directory cannot be read
 */
export async function replayJournal(
  dir: string,
  release: ReleaseDeleted,
  log: JournalLog,
  told = new Set<string>(),
): Promise<ReplayResult> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return { replayed: 0, failed: 0, setAside: 0 };
    throw new IpamError("IPAM_STORE", `journal ${dir} cannot be read: ${messageOf(cause)}`, cause);
  }
  const entries = names.filter((name) => name.endsWith(".json") && !name.startsWith(".")).sort();
  const count = { replayed: 0, failed: 0, setAside: 0 };
  for (let i = 0; i < entries.length; i += BATCH) {
    const paths = entries.slice(i, i + BATCH).map((name) => join(dir, name));
    // All are read before the first is released, so that the releases are in flight together.
    const read = await Promise.all(paths.map(async (path) => ({ path, entry: await tryReadEntry(path) })));
    const outcomes = await Promise.all(read.map(({ path, entry }) => replayEntry(path, entry, release, log, told)));
    for (const outcome of outcomes) count[outcome]++;
  }
  if (count.replayed + count.setAside > 0) await syncDirectory(dir);
  if (count.replayed + count.setAside > 0) log.info({ dir, ...count }, "the plugin's journal is replayed");
  return count;
}

/** Deals with one entry and never throws: what stands in its way is told in the log. */
async function replayEntry(
  path: string,
  entry: Entry,
  release: ReleaseDeleted,
  log: JournalLog,
  told: Set<string>,
): Promise<keyof ReplayResult> {
  try {
    switch (entry.kind) {
      case "unreadable":
        throw entry.error;
      case "newer":
        if (!told.has(path)) {
          log.warn(
            { path, version: entry.version },
            "a journal entry is of a newer plugin; it stays for a newer daemon",
          );
        }
        told.add(path);
        return "failed";
      case "malformed":
        await rename(path, `${path}.bad`);
        log.warn({ path: `${path}.bad`, reason: entry.reason }, "a journal entry makes no sense; it is set aside");
        return "setAside";
      case "delete": {
        const { readded } = await release(entry.attachment, entry.atMs);
        globalThis.faultPoint?.("daemon.note-released");
        if (readded) {
          const fields = { ...entry.attachment, deletedAtMs: entry.atMs };
          log.warn(fields, "a journal entry is older than the attachment's latest ADD; it keeps its addresses");
        }
        await unlink(path);
        globalThis.faultPoint?.("daemon.note-removed");
        return "replayed";
      }
    }
  } catch (err) {
    // Gone in between: another replay did it.
    if (codeOf(err) === "ENOENT") return "replayed";
    log.error({ err, path }, "a journal entry could not be replayed; it stays");
    return "failed";
  }
}

async function tryReadEntry(path: string): Promise<Entry> {
  try {
    return await readEntry(path);
  } catch (error) {
    return { kind: "unreadable", error };
  }
}

/** Throws only what reading the file throws. */
async function readEntry(path: string): Promise<Entry> {
  let text: string;
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stats = await handle.stat();
      if (!stats.isFile()) return { kind: "malformed", reason: "it is not a regular file" };
      if (stats.size > ENTRY_LIMIT) return { kind: "malformed", reason: `it has ${stats.size} bytes` };
      text = await handle.readFile("utf8");
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (codeOf(error) === "ELOOP") return { kind: "malformed", reason: "it is a symbolic link" };
    throw error;
  }
  return parseEntry(text);
}

/** The content of a file. */
function parseEntry(text: string): Entry {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { kind: "malformed", reason: "it is not JSON" };
  }
  if (typeof value !== "object" || value === null) return { kind: "malformed", reason: "it is not a JSON object" };
  const { v, network, containerId, ifname, at } = value as Record<string, unknown>;
  if (typeof v === "number" && v > JOURNAL_VERSION) return { kind: "newer", version: v };
  if (v !== JOURNAL_VERSION) return { kind: "malformed", reason: `v is ${JSON.stringify(v)}` };
  if (typeof at !== "number" || !Number.isSafeInteger(at) || at < 0) {
    return { kind: "malformed", reason: `at is ${JSON.stringify(at)}` };
  }
  if (typeof network !== "string" || typeof containerId !== "string" || typeof ifname !== "string") {
    return { kind: "malformed", reason: "network, containerId and ifname are not all text" };
  }
  try {
    return { kind: "delete", attachment: parseAttachment({ network, containerId, ifname }), atMs: at };
  } catch (error) {
    return { kind: "malformed", reason: messageOf(error) };
  }
}

async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
