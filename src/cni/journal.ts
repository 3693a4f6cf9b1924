// SPDX-License-Identifier: Apache-2.0
//
// Word for a daemon that is down: one small file for each attachment that DEL removed meanwhile. The daemon releases them
// before it serves again (design rule 3: DEL always ends).
import { type Attachment, attachmentKey } from "../net/names.ts";
import { O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY, type Sys } from "../sys/sys.ts";

const HEX = "0123456789abcdef";

/**
 * Name of the attachment's entry: its key's SHA-256 in hex, so that two DELs of one attachment are one entry and no
 * length or character of a key matters to the file system.
 */
export function journalName(attachment: Attachment, sha256: (text: string) => Uint8Array): string {
  let name = "";
  for (const byte of sha256(attachmentKey(attachment))) name += HEX.charAt(byte >> 4) + HEX.charAt(byte & 15);
  return `${name}.json`;
}

/**
 * Writes the entry so that it is on disk, whole, when this returns: a name the daemon passes over, fsync, rename, fsync of
 * the directory.
 * @param now milliseconds since 1970-01-01T00:00Z
 * @param pid keeps the temporary names of two plugins apart
 * @throws SysError, with ENOENT when the daemon never ran here and made no directory.
 */
export function writeJournalEntry(
  sys: Sys,
  dir: string,
  attachment: Attachment,
  now: number,
  pid: number,
  sha256: (text: string) => Uint8Array,
): void {
  const name = journalName(attachment, sha256);
  const temporary = `${dir}/.${name}.${pid}`;
  const entry = new TextEncoder().encode(`${JSON.stringify({ v: 1, ...attachment, at: now })}\n`);
  try {
    writeSynced(sys, temporary, entry);
    globalThis.faultPoint?.("plugin.note-written");
    sys.rename(temporary, `${dir}/${name}`);
    globalThis.faultPoint?.("plugin.note-renamed");
  } catch (error) {
    removeLeftOver(sys, temporary);
    throw error;
  }
  const directory = sys.open(dir, O_RDONLY);
  try {
    sys.fsync(directory);
    globalThis.faultPoint?.("plugin.note-synced");
  } finally {
    sys.close(directory);
  }
}

function writeSynced(sys: Sys, path: string, bytes: Uint8Array): void {
  const fd = sys.open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600);
  try {
    for (let rest = bytes; rest.length > 0; ) rest = rest.subarray(sys.write(fd, rest));
    sys.fsync(fd);
  } finally {
    sys.close(fd);
  }
}

/** A runtime tries a failed DEL again and again, each time with another name: on a full disk that would never end. */
function removeLeftOver(sys: Sys, path: string): void {
  try {
    sys.unlink(path);
  } catch {
    // It was never made, or the disk is past writing; what went wrong first is what is reported.
  }
}
