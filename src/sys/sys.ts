// SPDX-License-Identifier: Apache-2.0
//
// The plugin's whole view of the operating system: blocking calls, as in section 2 of the man pages. This is the one seam
// between runtimes: quickjs.ts and node.ts implement it on libc, and a test may implement it with objects in memory.

/** A file descriptor. */
export type Fd = number;

/** What fstat(2) says that identifies a file: two open files with the same pair are the same file. */
export interface FileId {
  readonly dev: bigint;
  readonly ino: bigint;
}

/** A failed system call. `code` is the errno's name, such as "ENOENT". */
export class SysError extends Error {
  override readonly name = "SysError";
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  constructor(syscall: string, errno: number, code: string, what = "") {
    super(what === "" ? `${syscall}: ${code}` : `${syscall} ${what}: ${code}`);
    this.syscall = syscall;
    this.errno = errno;
    this.code = code;
  }
}

/** Every function throws SysError; none is interrupted by EINTR (the implementation calls again). */
export interface Sys {
  /** open(2) with O_CLOEXEC added. */
  open(path: string, flags: number, mode?: number): Fd;
  close(fd: Fd): void;
  /** read(2): how many bytes came; 0 at the end. On a socket with a receive timeout it fails with EAGAIN when that is over. */
  read(fd: Fd, into: Uint8Array): number;
  /** write(2): how many bytes went; may be fewer than given. */
  write(fd: Fd, bytes: Uint8Array): number;
  fsync(fd: Fd): void;
  fstat(fd: Fd): FileId;
  rename(from: string, to: string): void;
  unlink(path: string): void;
  /** socket(2) with SOCK_CLOEXEC added. */
  socket(domain: number, type: number, protocol: number): Fd;
  /** connect(2) to a unix stream socket's path, 107 bytes at most. */
  connectUnix(fd: Fd, path: string): void;
  setsockopt(fd: Fd, level: number, option: number, value: Uint8Array): void;
  /** SO_RCVTIMEO and SO_SNDTIMEO, in milliseconds, at least 1. */
  setTimeouts(fd: Fd, timeoutMs: number): void;
  /** setns(2) of the calling thread, CLONE_NEWNET only. */
  setns(fd: Fd): void;
  /** CLOCK_MONOTONIC in milliseconds. */
  now(): number;
  sleep(ms: number): void;
}

export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
/** A path may be anything; opening a FIFO would wait for a writer. */
export const O_NONBLOCK = 0o4000;

export const AF_UNIX = 1;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_RAW = 3;
