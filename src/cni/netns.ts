// SPDX-License-Identifier: Apache-2.0
//
// The pod's network namespace, as the runtime names it. A namespace is a property of a socket: what has to happen inside
// happens in one short visit that leaves a netlink socket behind.
import { type Fd, O_RDONLY, O_WRONLY, type Sys, SysError } from "../sys/sys.ts";
import { CNI_CODES, CniError } from "./errors.ts";

const OWN_NETNS = "/proc/self/ns/net";

/** A path may be anything; opening a FIFO would wait for a writer. */
const O_NONBLOCK = 0o4000;

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

/**
 * Runs `visit` with the thread in the namespace and brings it back, whatever happens.
 * @throws CniError 4 when the file is no network namespace.
 */
export function inNetns<T>(sys: Sys, fd: Fd, path: string, visit: () => T): T {
  const own = sys.open(OWN_NETNS, O_RDONLY);
  try {
    try {
      sys.setns(fd);
    } catch (cause) {
      if (cause instanceof SysError && cause.code === "EINVAL")
        throw invalidNetns(path, "is not a network namespace", cause);
      throw cause;
    }
    try {
      return visit();
    } finally {
      sys.setns(own);
    }
  } finally {
    sys.close(own);
  }
}

/** Writes a sysctl of the calling thread's namespace: `ipv6/conf/eth0/accept_dad`. */
export function writeSysctl(sys: Sys, name: string, value: string): void {
  const fd = sys.open(`/proc/sys/net/${name}`, O_WRONLY);
  try {
    sys.write(fd, new TextEncoder().encode(value));
  } finally {
    sys.close(fd);
  }
}

function invalidNetns(path: string, problem: string, cause: unknown): CniError {
  return new CniError(CNI_CODES.invalidEnvironment, "invalid environment", `CNI_NETNS=${path} ${problem}`, cause);
}
