// SPDX-License-Identifier: Apache-2.0
//
// The system calls on libc, for any runtime that can call a C function: quickjs.ts and node.ts hand in the functions.
import { errnoName } from "./errno.ts";
import { type Fd, type FileId, type Sys, SysError } from "./sys.ts";

/** The functions by their C types: `ptr` takes bytes. */
export const LIBC = {
  close: { args: ["i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  fsync: { args: ["i32"], returns: "i32" },
  open: { args: ["ptr", "i32", "u32"], returns: "i32" },
  read: { args: ["i32", "ptr", "size"], returns: "ssize" },
  rename: { args: ["ptr", "ptr"], returns: "i32" },
  setns: { args: ["i32", "i32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  statx: { args: ["i32", "ptr", "i32", "u32", "ptr"], returns: "i32" },
  unlink: { args: ["ptr"], returns: "i32" },
  write: { args: ["i32", "ptr", "size"], returns: "ssize" },
} as const;

/** A C function that returns -1 when it fails. */
export type Native = (...args: (number | bigint | Uint8Array)[]) => number;

export type Libc = { readonly [K in keyof typeof LIBC]: Native };

export const EINTR = 4;
const O_CLOEXEC = 0o2000000;
const SOCK_CLOEXEC = O_CLOEXEC;
const CLONE_NEWNET = 0x40000000;
const AF_UNIX = 1;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const AT_EMPTY_PATH = 0x1000;
const STATX_INO = 0x100;

const encoder = new TextEncoder();
const cstring = (text: string): Uint8Array => encoder.encode(`${text}\0`);

/** A call's result; throws its errno when it is negative. `call` runs again after EINTR. */
export type Check = (syscall: string, what: string, call: () => number) => number;

/** @param errno the calling thread's, as the last call of these functions left it */
export function checkWith(errno: () => number): Check {
  return (syscall, what, call) => {
    for (;;) {
      const result = call();
      if (result >= 0) return result;
      const number = errno();
      if (number !== EINTR) throw new SysError(syscall, number, errnoName(number), what);
    }
  };
}

/** The system calls, made of libc's functions. Clocks are every runtime's own. */
export function createSys(libc: Libc, check: Check): Omit<Sys, "now" | "sleep"> {
  const sys: Omit<Sys, "now" | "sleep"> = {
    open: (path, flags, mode = 0) => {
      const name = cstring(path);
      return check("open", path, () => libc.open(name, flags | O_CLOEXEC, mode));
    },
    close: (fd) => {
      // Not called again after EINTR: Linux has closed the descriptor already (close(2)).
      libc.close(fd);
    },
    read: (fd, into) => check("read", "", () => libc.read(fd, into, into.length)),
    write: (fd, bytes) => check("write", "", () => libc.write(fd, bytes, bytes.length)),
    fsync: (fd) => {
      check("fsync", "", () => libc.fsync(fd));
    },
    fstat: (fd) => fstat(libc, check, fd),
    rename: (from, to) => {
      const [a, b] = [cstring(from), cstring(to)];
      check("rename", to, () => libc.rename(a, b));
    },
    unlink: (path) => {
      const name = cstring(path);
      check("unlink", path, () => libc.unlink(name));
    },
    socket: (domain, type, protocol) => check("socket", "", () => libc.socket(domain, type | SOCK_CLOEXEC, protocol)),
    connectUnix: (fd, path) => {
      // struct sockaddr_un (include/uapi/linux/un.h): u16 family, char path[108] with a zero at the end.
      const name = encoder.encode(path);
      if (name.length > 107) throw new SysError("connect", 36, "ENAMETOOLONG", path);
      const address = new Uint8Array(2 + name.length + 1);
      address[0] = AF_UNIX;
      address.set(name, 2);
      check("connect", path, () => libc.connect(fd, address, address.length));
    },
    setsockopt: (fd, level, option, value) => {
      check("setsockopt", "", () => libc.setsockopt(fd, level, option, value, value.length));
    },
    setTimeouts: (fd, timeoutMs) => {
      // struct timeval: two 64-bit words. Zero would mean "for ever".
      const ms = Math.max(1, Math.ceil(timeoutMs));
      const value = new BigInt64Array([BigInt(Math.floor(ms / 1000)), BigInt((ms % 1000) * 1000)]);
      const bytes = new Uint8Array(value.buffer);
      sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, bytes);
      sys.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, bytes);
    },
    setns: (fd) => {
      check("setns", "", () => libc.setns(fd, CLONE_NEWNET));
    },
  };
  return sys;
}

/** statx(2) and not fstat(2), because struct statx is the same on every architecture. */
function fstat(libc: Libc, check: Check, fd: Fd): FileId {
  const buffer = new Uint8Array(256);
  const empty = new Uint8Array(1);
  check("statx", "", () => libc.statx(fd, empty, AT_EMPTY_PATH, STATX_INO, buffer));
  const view = new DataView(buffer.buffer);
  return {
    ino: view.getBigUint64(32, true),
    dev: (BigInt(view.getUint32(136, true)) << 32n) | BigInt(view.getUint32(140, true)),
  };
}
