// SPDX-License-Identifier: Apache-2.0
//
// The plugin's system calls on Node, as far as Node has them: files. A socket or a namespace is ENOSYS.
import fs from "node:fs";
import { type Fd, type Sys, SysError } from "../../src/sys/sys.ts";

const ENOSYS = 38;

/** `sys`, and which descriptors a test's subject left open. */
export interface NodeSys {
  readonly sys: Sys;
  readonly open: ReadonlySet<Fd>;
}

export function createNodeSys(overrides: Partial<Sys> = {}): NodeSys {
  const open = new Set<Fd>();
  const missing = (syscall: string) => (): never => {
    throw new SysError(syscall, ENOSYS, "ENOSYS");
  };
  const sys: Sys = {
    open: (path, flags, mode) => {
      const fd = check("open", path, () => fs.openSync(path, flags, mode));
      open.add(fd);
      return fd;
    },
    close: (fd) => {
      open.delete(fd);
      check("close", "", () => fs.closeSync(fd));
    },
    read: (fd, into) => check("read", "", () => fs.readSync(fd, into)),
    write: (fd, bytes) => check("write", "", () => fs.writeSync(fd, bytes)),
    fsync: (fd) => check("fsync", "", () => fs.fsyncSync(fd)),
    fstat: (fd) => check("fstat", "", () => fs.fstatSync(fd, { bigint: true })),
    rename: (from, to) => check("rename", to, () => fs.renameSync(from, to)),
    unlink: (path) => check("unlink", path, () => fs.unlinkSync(path)),
    socket: missing("socket"),
    connectUnix: missing("connect"),
    setsockopt: missing("setsockopt"),
    setTimeouts: missing("setsockopt"),
    setns: missing("setns"),
    now: () => performance.now(),
    sleep: missing("sleep"),
    ...overrides,
  };
  return { sys, open };
}

function check<T>(syscall: string, what: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    const { errno = 0, code = "" } = error as NodeJS.ErrnoException;
    throw new SysError(syscall, -errno, code, what);
  }
}
