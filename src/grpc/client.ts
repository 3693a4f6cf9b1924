// SPDX-License-Identifier: Apache-2.0
//
// The plugin's way to the daemon: one unary gRPC call over a unix socket, made with blocking system calls. A daemon that is
// being restarted is waited for, within bounds; the methods are idempotent, so a call may be made twice.
import { AF_UNIX, type Fd, SOCK_STREAM, type Sys, SysError } from "../sys/sys.ts";
import { type HeaderField, HpackError } from "./hpack.ts";
import { Status, type StatusName, statusName } from "./status.ts";
import { UnaryCall, type UnaryResult } from "./unary.ts";

/** One call. Times are in milliseconds. */
export interface UnaryOptions {
  readonly socketPath: string;
  /** "/package.Service/Method". */
  readonly path: string;
  /** The request, encoded. */
  readonly message: Uint8Array;
  /** For the whole call, waiting and trying again included. */
  readonly deadlineMs: number;
  /** How much of that may be spent on waiting for a daemon that is not there or on its way down; 0 tries once. */
  readonly connectWaitMs: number;
  /** A larger response is RPC_RESOURCE_EXHAUSTED. */
  readonly maxResponseBytes: number;
  /** Further header fields, such as traceparent. */
  readonly metadata?: readonly HeaderField[];
}

/**
 * A call without a response. `code` is "RPC_" and the name of the gRPC status, or one of three that no server says:
 * RPC_NO_DAEMON, nobody listens on the socket (status UNAVAILABLE); RPC_SOCKET, the socket cannot be used at all, for want
 * of permission for instance (UNKNOWN); RPC_REQUEST, what we were asked to send cannot be sent (INVALID_ARGUMENT).
 * `cause` is the system call that failed, if one did. The message names the socket, unless it is the server's own words or
 * the fault is the request's.
 */
export class RpcError extends Error {
  override readonly name = "RpcError";
  readonly code: `RPC_${StatusName}` | "RPC_NO_DAEMON" | "RPC_SOCKET" | "RPC_REQUEST";
  /** gRPC status. */
  readonly status: number;
  /** True when the same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;
  constructor(code: RpcError["code"], status: number, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.status = status;
    this.retryable = status === Status.UNAVAILABLE || status === Status.DEADLINE_EXCEEDED || status === Status.ABORTED;
  }
}

/** Bytes of the longest path in sockaddr_un (linux/un.h: 108 with the zero at its end). */
const MAX_SOCKET_PATH = 107;

/** Waits between attempts double from the first to the second of these. */
const FIRST_WAIT_MS = 5;
const LAST_WAIT_MS = 100;

/** Bytes asked for in one read(2); a usual reply comes in one. */
const READ_BYTES = 65536;

/**
 * Makes the call and returns the response, encoded.
 * @throws RpcError
 */
export function callUnary(sys: Sys, options: UnaryOptions): Uint8Array {
  assertSocketPath(options.socketPath);
  const deadline = sys.now() + options.deadlineMs;
  let waitedMs = 0;
  let waitMs = FIRST_WAIT_MS;
  for (;;) {
    const attempt = tryOnce(sys, options, deadline);
    if (attempt.response !== undefined) return attempt.response;
    if (!attempt.again) throw attempt.error("");
    const before = sys.now();
    const budgetMs = Math.min(options.connectWaitMs - waitedMs, deadline - before);
    // sleep(2) may be a hair short; less than a millisecond is not worth another attempt.
    if (budgetMs < 1) throw attempt.error(waited(waitedMs));
    sys.sleep(Math.min(waitMs, budgetMs));
    waitedMs += sys.now() - before;
    // What was seen says more than that the time is over.
    if (sys.now() >= deadline) throw attempt.error(waited(waitedMs));
    waitMs = Math.min(waitMs * 2, LAST_WAIT_MS);
  }
}

function waited(ms: number): string {
  return ms > 0 ? `; waited ${Math.round(ms)} ms` : "";
}

/** How an attempt ended: with a response, or with an error that says `again` when a new connection may do better. */
type Attempt =
  | { readonly response: Uint8Array }
  | {
      readonly response?: undefined;
      readonly again: boolean;
      /** The error, its message ending in how long was waited for. */
      readonly error: (wait: string) => RpcError;
    };

function tryOnce(sys: Sys, options: UnaryOptions, deadline: number): Attempt {
  const remainingMs = deadline - sys.now();
  if (remainingMs <= 0) return late(options, "been asked");
  let call: UnaryCall;
  try {
    call = new UnaryCall({
      authority: "localhost",
      path: options.path,
      message: options.message,
      timeoutMs: remainingMs,
      maxResponseBytes: options.maxResponseBytes,
      ...(options.metadata !== undefined && { metadata: options.metadata }),
    });
  } catch (error) {
    if (!(error instanceof HpackError)) throw error;
    throw new RpcError("RPC_REQUEST", Status.INVALID_ARGUMENT, `cannot call ${options.path}: ${error.message}`, error);
  }
  let fd: Fd;
  try {
    fd = sys.socket(AF_UNIX, SOCK_STREAM, 0);
  } catch (error) {
    return refused(options, error);
  }
  const bound = boundsOf(sys, fd);
  try {
    try {
      // Holds for connect(2) too, which blocks while the daemon's backlog is full.
      bound(remainingMs);
      sys.connectUnix(fd, options.socketPath);
    } catch (error) {
      return isTimeout(error) ? late(options, "taken the connection", error) : refused(options, error);
    }
    return converse(sys, fd, call, options, deadline, bound);
  } finally {
    sys.close(fd);
  }
}

/** By how much a wait may outlast the deadline, so that the socket needn't be told anew before each of a call's steps. */
const SLACK_MS = 100;

/** What sees to it that the next step on a socket takes no longer than given in milliseconds, and SLACK_MS. */
function boundsOf(sys: Sys, fd: Fd): (remainingMs: number) => void {
  let set = Number.POSITIVE_INFINITY;
  return (remainingMs) => {
    if (set - remainingMs <= SLACK_MS) return;
    sys.setTimeouts(fd, wholeMs(remainingMs));
    set = remainingMs;
  };
}

/** Moves bytes between the call and the socket until the call is over. */
function converse(
  sys: Sys,
  fd: Fd,
  call: UnaryCall,
  options: UnaryOptions,
  deadline: number,
  bound: (remainingMs: number) => void,
): Attempt {
  const buffer = new Uint8Array(READ_BYTES);
  let out = call.start();
  let writable = true;
  let cause: unknown;
  while (call.result === undefined) {
    while (out.length > 0 && writable) {
      const remainingMs = deadline - sys.now();
      if (remainingMs <= 0) return late(options, "taken the request", cause);
      try {
        bound(remainingMs);
        out = out.subarray(sys.write(fd, out));
      } catch (error) {
        // The server's last words, a status or a GOAWAY, can still be read after it hung up.
        if (isHangUp(error)) writable = false;
        else if (!isTimeout(error)) return broken(options, error);
        cause = error;
      }
    }
    const remainingMs = deadline - sys.now();
    if (remainingMs <= 0) return late(options, "answered", cause);
    let count = 0;
    try {
      bound(remainingMs);
      count = sys.read(fd, buffer);
    } catch (error) {
      cause = error;
      if (isTimeout(error)) continue; // and find the deadline over
      if (!isHangUp(error)) return broken(options, error);
    }
    if (count === 0) call.closed();
    else out = call.receive(buffer.subarray(0, count));
  }
  return outcome(call.result, options, cause);
}

function outcome(result: UnaryResult, options: UnaryOptions, cause: unknown): Attempt {
  if (result.response !== undefined) return { response: result.response };
  const { transport } = result;
  // However the connection failed, what it means is that the daemon was not available.
  const code = transport ? Status.UNAVAILABLE : result.code;
  const where = result.answered ? "" : `the daemon at ${options.socketPath}: `;
  const message = result.message === "" ? `${options.path} failed with ${statusName(code)}` : result.message;
  return {
    // UNAVAILABLE as a status is what the daemon says while it starts or stops.
    again: transport || code === Status.UNAVAILABLE,
    error: (wait) => new RpcError(`RPC_${statusName(code)}`, code, `${where}${message}${wait}`, cause),
  };
}

/** No connection: the daemon is not there (yet), or the socket is not one that we can use. */
function refused(options: UnaryOptions, error: unknown): Attempt {
  if (!(error instanceof SysError)) throw error;
  if (error.code !== "ENOENT" && error.code !== "ECONNREFUSED") return broken(options, error);
  const message = `no daemon is listening on ${options.socketPath}: ${error.code}`;
  return {
    again: true,
    error: (wait) => new RpcError("RPC_NO_DAEMON", Status.UNAVAILABLE, `${message}${wait}`, error),
  };
}

function broken(options: UnaryOptions, error: unknown): Attempt {
  if (!(error instanceof SysError)) throw error;
  const message = `cannot use the daemon's socket ${options.socketPath}: ${error.message}`;
  return { again: false, error: () => new RpcError("RPC_SOCKET", Status.UNKNOWN, message, error) };
}

function late(options: UnaryOptions, what: string, cause?: unknown): Attempt {
  const message = `the daemon at ${options.socketPath} has not ${what} within ${Math.round(options.deadlineMs)} ms`;
  return {
    again: false,
    error: () => new RpcError("RPC_DEADLINE_EXCEEDED", Status.DEADLINE_EXCEEDED, message, cause),
  };
}

function assertSocketPath(path: string): void {
  const bytes = new TextEncoder().encode(path).length;
  const fault =
    bytes > MAX_SOCKET_PATH
      ? `has ${bytes} bytes, and a unix socket's path has ${MAX_SOCKET_PATH} at most`
      : path === ""
        ? "is empty"
        : path.includes("\0")
          ? "has a zero byte in it"
          : "";
  if (fault === "") return;
  throw new RpcError("RPC_REQUEST", Status.INVALID_ARGUMENT, `socket path ${JSON.stringify(path)} ${fault}`);
}

/** EAGAIN is what a timed-out read, write or connect gives (socket(7), SO_RCVTIMEO). */
function isTimeout(error: unknown): boolean {
  return error instanceof SysError && error.code === "EAGAIN";
}

function isHangUp(error: unknown): boolean {
  return error instanceof SysError && (error.code === "EPIPE" || error.code === "ECONNRESET");
}

/** A timeout of 0 would be none at all. */
function wholeMs(ms: number): number {
  return Math.max(1, Math.ceil(ms));
}
