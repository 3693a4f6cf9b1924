// SPDX-License-Identifier: Apache-2.0
//
// The pod's network namespace, as the runtime names it.
import { OWN_NETNS } from "../podnet/netns.ts";
import { type Fd, O_NONBLOCK, O_RDONLY, type Sys, SysError } from "../sys/sys.ts";
import { CNI_CODES, CniError } from "./errors.ts";

/**
 * Opens CNI_NETNS and makes sure that it isn't the plugin's own namespace, where the pod's routes would be the node's.
 * The check comes before anything is touched; libcni's own comes after.
 * @throws CniError 4 when it can't be opened, 8 when it is our own.
 */
export function openNetns(sys: Sys, path: string, override: boolean): Fd {
  let fd: Fd;
  try {
    fd = sys.open(path, O_RDONLY | O_NONBLOCK);
  } catch (cause) {
    throw invalidNetns(path, `can't be opened: ${cause instanceof SysError ? cause.code : String(cause)}`, cause);
  }
  try {
    if (!override && isOwnNetns(sys, fd)) {
      throw new CniError(CNI_CODES.invalidNetns, "invalid network namespace", `CNI_NETNS=${path} is the plugin's own`);
    }
  } catch (error) {
    sys.close(fd);
    throw error;
  }
  return fd;
}

/** Whether a path is the plugin's own namespace; a path that can't be opened is not. For DEL, which needs no namespace. */
export function assertForeignNetns(sys: Sys, path: string): void {
  try {
    sys.close(openNetns(sys, path, false));
  } catch (error) {
    if (error instanceof CniError && error.code === CNI_CODES.invalidNetns) throw error;
    // Gone after a reboot or a crash, or no namespace at all: DEL goes on without it.
  }
}

function isOwnNetns(sys: Sys, fd: Fd): boolean {
  const own = sys.open(OWN_NETNS, O_RDONLY);
  try {
    const [a, b] = [sys.fstat(own), sys.fstat(fd)];
    return a.dev === b.dev && a.ino === b.ino;
  } finally {
    sys.close(own);
  }
}

function invalidNetns(path: string, problem: string, cause: unknown): CniError {
  return new CniError(CNI_CODES.invalidEnvironment, "invalid environment", `CNI_NETNS=${path} ${problem}`, cause);
}
