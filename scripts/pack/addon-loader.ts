// SPDX-License-Identifier: Apache-2.0
//
// Part of the packaged daemon, not of the build: takes the place of node-gyp-build there. The addons are assets of the
// executable, but the dynamic loader only takes files, so each is written out once at start and loaded from there.

import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { getRawAsset } from "node:sea";

/**
 * Where an addon may be written, in this order. One that is missing, read-only, full or mounted noexec (/run on Debian,
 * /dev/shm in containers) is passed over, so a daemon with a read-only root file system needs one of them mounted.
 */
const DIRECTORIES = ["/var/lib/flatnet", "/run", "/tmp", "/var/tmp", "/dev/shm"];

/** O_TMPFILE without its O_DIRECTORY half, which differs between machines (asm-generic/fcntl.h). */
const O_TMPFILE_BIT = 0o20000000;

/** No directory could hold the addon. The causes are in the message, one for each directory. */
export class AddonError extends Error {
  override readonly name = "AddonError";
  readonly code = "ADDON_NOT_LOADED";
}

/** Loads an addon of the executable by its asset name and returns its exports. */
export function loadAddon(asset: string): unknown {
  const bytes = new Uint8Array(getRawAsset(asset));
  const failures: string[] = [];
  for (const directory of DIRECTORIES) {
    for (const load of [loadUnnamed, loadNamed]) {
      try {
        return load(directory, asset, bytes);
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error));
      }
    }
  }
  throw new AddonError(
    `cannot load the addon ${asset}: no directory of ${DIRECTORIES.join(", ")} is writable and executable ` +
      `(${failures.join("; ")})`,
  );
}

/**
 * From a file that never has a name: nobody else can open or replace it, and nothing is left behind however the process
 * ends. The descriptor stays open on purpose: its number is the file's name to the dynamic loader, which takes a second
 * file of the same name for one it has already.
 */
function loadUnnamed(directory: string, _asset: string, bytes: Uint8Array): unknown {
  const fd = openSync(directory, O_TMPFILE_BIT | constants.O_DIRECTORY | constants.O_RDWR, 0o700);
  try {
    writeAll(fd, bytes);
    return dlopen(`/proc/self/fd/${fd}`);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** For file systems without O_TMPFILE (overlayfs before Linux 6.1): a private directory, gone as soon as it is loaded. */
function loadNamed(directory: string, asset: string, bytes: Uint8Array): unknown {
  const own = mkdtempSync(join(directory, "flatnetd-"));
  try {
    const path = join(own, `${asset}.node`);
    const fd = openSync(path, "wx", 0o700);
    try {
      writeAll(fd, bytes);
    } finally {
      closeSync(fd);
    }
    return dlopen(path);
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}

function dlopen(path: string): unknown {
  const module: { exports: unknown } = { exports: {} };
  process.dlopen(module, path);
  return module.exports;
}
