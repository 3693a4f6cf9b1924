// SPDX-License-Identifier: Apache-2.0
//
// The blocking driver on an operating system in memory, for what a real one does not do when asked. The real one, with a
// real server, is in test/integration/unary.test.ts.
import { describe, expect, test } from "vitest";
import { type Fd, type Sys, SysError } from "../sys/sys.ts";
import { callUnary, RpcError, type UnaryOptions } from "./client.ts";
import {
  concat,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_RST_STREAM,
  frame,
  settingsFrame,
} from "./frames.ts";
import { encodeHeaderBlock, type HeaderField } from "./hpack.ts";
import { Status } from "./status.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const SETTINGS = settingsFrame([]);
const trailersOnly = (status: string, text: string) => {
  const fields: HeaderField[] = [
    [":status", "200"],
    ["grpc-status", status],
    ["grpc-message", text],
  ];
  return concat([SETTINGS, frame(FRAME_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, encodeHeaderBlock(fields))]);
};
const HELLO = concat([
  SETTINGS,
  frame(
    FRAME_HEADERS,
    FLAG_END_HEADERS,
    1,
    encodeHeaderBlock([
      [":status", "200"],
      ["content-type", "application/grpc"],
    ]),
  ),
  frame(FRAME_DATA, 0, 1, bytes("\0\0\0\0\x05hello")),
  frame(FRAME_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, encodeHeaderBlock([["grpc-status", "0"]])),
]);

/** What one connection does, in order of the calls that are made on it; what is not said succeeds or says nothing. */
interface Connection {
  /** Name of the errno that connect gives. */
  readonly connect?: string;
  /** Bytes that one write takes at most, or the errno it gives. */
  readonly write?: number | string;
  /** What each read gives: bytes, an errno, or how many milliseconds pass first. Nothing more: silence. */
  readonly reads?: readonly (Uint8Array | string | number)[];
}

/** A machine in memory whose connections go as scripted, the last one again and again. Time passes only by waiting. */
class FakeSys {
  now = 1000;
  readonly open = new Set<Fd>();
  connections = 0;
  sent: Uint8Array = new Uint8Array(0);
  private timeoutMs = 0;
  private reads: (Uint8Array | string | number)[] = [];
  private readonly script: readonly Connection[];

  constructor(...script: readonly Connection[]) {
    this.script = script;
  }

  private get current(): Connection {
    return this.script[Math.min(this.connections, this.script.length) - 1] ?? {};
  }

  readonly sys = {
    now: () => this.now,
    sleep: (ms: number) => {
      this.now += ms;
    },
    socket: () => {
      this.connections++;
      this.reads = [...(this.current.reads ?? [])];
      this.sent = new Uint8Array(0);
      this.open.add(this.connections);
      return this.connections;
    },
    close: (fd: Fd) => {
      if (!this.open.delete(fd)) throw new SysError("close", 9, "EBADF");
    },
    setTimeouts: (_fd: Fd, timeoutMs: number) => {
      this.timeoutMs = timeoutMs;
    },
    connectUnix: (_fd: Fd, path: string) => {
      if (this.current.connect !== undefined) this.fail("connect", this.current.connect, path);
    },
    write: (_fd: Fd, out: Uint8Array) => {
      const { write } = this.current;
      if (typeof write === "string") this.fail("write", write);
      const piece = out.subarray(0, (write as number | undefined) ?? out.length);
      this.sent = concat([this.sent, piece]);
      return piece.length;
    },
    read: (_fd: Fd, into: Uint8Array) => {
      let next = this.reads.shift();
      if (typeof next === "number") {
        if (next > this.timeoutMs) this.fail("read", "EAGAIN");
        this.now += next;
        next = this.reads.shift();
      }
      if (next === undefined) this.fail("read", "EAGAIN");
      if (typeof next === "string") this.fail("read", next);
      into.set(next as Uint8Array);
      return (next as Uint8Array).length;
    },
  } as unknown as Sys;

  private fail(syscall: string, code: string, what = ""): never {
    if (code === "EAGAIN") this.now += this.timeoutMs;
    throw new SysError(syscall, 0, code, what);
  }
}

const END = new Uint8Array(0);

function call(fake: FakeSys, options: Partial<UnaryOptions> = {}): Uint8Array {
  return callUnary(fake.sys, {
    socketPath: "/run/flatnet/flatnetd.sock",
    path: "/flatnet.test.v1.TestService/Call",
    message: bytes("hi"),
    deadlineMs: 10_000,
    connectWaitMs: 5000,
    maxResponseBytes: 1000,
    ...options,
  });
}

function errorOf(fake: FakeSys, options: Partial<UnaryOptions> = {}): RpcError {
  try {
    call(fake, options);
  } catch (error) {
    if (error instanceof RpcError) return error;
    throw error;
  }
  throw new Error("the call was expected to fail");
}

describe("a daemon that is not there", () => {
  test.each(["ENOENT", "ECONNREFUSED"])("is waited for as long as allowed, then named with %s", (connect) => {
    const fake = new FakeSys({ connect });
    const error = errorOf(fake);
    expect(error).toMatchObject({ code: "RPC_NO_DAEMON", status: Status.UNAVAILABLE, retryable: true });
    expect(error.message).toBe(`no daemon is listening on /run/flatnet/flatnetd.sock: ${connect}; waited 5000 ms`);
    expect(error.cause).toMatchObject({ name: "SysError", code: connect });
    expect(fake.now).toBe(6000);
    expect(fake.open.size).toBe(0);
  });

  test("is not waited for beyond the deadline", () => {
    const fake = new FakeSys({ connect: "ENOENT" });
    expect(errorOf(fake, { deadlineMs: 300 }).message).toBe(
      "no daemon is listening on /run/flatnet/flatnetd.sock: ENOENT; waited 300 ms",
    );
    expect(fake.now).toBe(1300);
  });

  test("is tried once when no wait is allowed", () => {
    const fake = new FakeSys({ connect: "ENOENT" });
    expect(errorOf(fake, { connectWaitMs: 0 }).message).toBe(
      "no daemon is listening on /run/flatnet/flatnetd.sock: ENOENT",
    );
    expect(fake.connections).toBe(1);
  });

  test("is called as soon as it is there", () => {
    const fake = new FakeSys({ connect: "ENOENT" }, { connect: "ECONNREFUSED" }, { reads: [HELLO] });
    expect(call(fake)).toEqual(bytes("hello"));
    expect(fake.open.size).toBe(0);
  });
});

describe("a daemon that is being restarted is called again", () => {
  const goaway = concat([SETTINGS, frame(FRAME_GOAWAY, 0, 0, new Uint8Array(8))]);
  test.each<[string, Connection]>([
    ["it closes before its reply", { reads: [END] }],
    ["it closes half-way through its reply", { reads: [HELLO.subarray(0, 60), END] }],
    ["it resets the connection", { reads: ["ECONNRESET"] }],
    ["it hangs up while it is written to", { write: "EPIPE", reads: [END] }],
    ["it says GOAWAY", { reads: [goaway] }],
    ["it cancels the stream", { reads: [SETTINGS, frame(FRAME_RST_STREAM, 0, 1, Uint8Array.of(0, 0, 0, 8))] }],
    ["it says UNAVAILABLE", { reads: [trailersOnly("14", "stopping")] }],
  ])("when %s", (_when, broken) => {
    const fake = new FakeSys(broken, { connect: "ECONNREFUSED" }, { reads: [HELLO] });
    expect(call(fake)).toEqual(bytes("hello"));
    expect(fake.connections).toBe(3);
    expect(fake.open.size).toBe(0);
  });

  test("within the allowed wait; then its last failure is the error", () => {
    const fake = new FakeSys({ reads: [END] });
    const error = errorOf(fake, { connectWaitMs: 500 });
    expect(error).toMatchObject({ code: "RPC_UNAVAILABLE", status: Status.UNAVAILABLE, retryable: true });
    expect(error.message).toBe(
      "the daemon at /run/flatnet/flatnetd.sock: the server closed the connection before it replied; waited 500 ms",
    );
    expect(fake.now).toBe(1500);
    expect(fake.open.size).toBe(0);
  });

  test("within the allowed wait; a call that it cancelled is then one that it was not available for", () => {
    const cancel = frame(FRAME_RST_STREAM, 0, 1, Uint8Array.of(0, 0, 0, 8));
    const error = errorOf(new FakeSys({ reads: [SETTINGS, cancel] }));
    expect(error).toMatchObject({ code: "RPC_UNAVAILABLE", status: Status.UNAVAILABLE, retryable: true });
    expect(error.message).toContain("CANCEL");
  });

  test("even when it worked on the call for longer than the allowed wait", () => {
    const fake = new FakeSys({ reads: [6000, END] }, { reads: [HELLO] });
    expect(call(fake)).toEqual(bytes("hello"));
  });
});

describe("a daemon that answers with an error is not called again", () => {
  test.each([
    ["3", "RPC_INVALID_ARGUMENT", Status.INVALID_ARGUMENT, false],
    ["8", "RPC_RESOURCE_EXHAUSTED", Status.RESOURCE_EXHAUSTED, false],
    ["10", "RPC_ABORTED", Status.ABORTED, true],
  ])("grpc-status %s", (text, code, status, retryable) => {
    const fake = new FakeSys({ reads: [trailersOnly(text, "no %C3%A4ddress left")] });
    const error = errorOf(fake);
    expect(error).toMatchObject({ code, status, retryable, message: "no äddress left" });
    expect(fake.connections).toBe(1);
    expect(fake.open.size).toBe(0);
  });

  test("an error without words gets some", () => {
    const error = errorOf(new FakeSys({ reads: [trailersOnly("5", "")] }));
    expect(error.message).toBe("/flatnet.test.v1.TestService/Call failed with NOT_FOUND");
  });
});

test("something else that listens on the socket is named with the socket, and not asked again", () => {
  const fake = new FakeSys({ reads: [bytes("HTTP/1.1 400 Bad Request\r\n\r\n")] });
  const error = errorOf(fake);
  expect(error).toMatchObject({ code: "RPC_INTERNAL", status: Status.INTERNAL, retryable: false });
  expect(error.message).toBe(
    "the daemon at /run/flatnet/flatnetd.sock: malformed reply: the peer does not speak HTTP/2",
  );
  expect(fake.connections).toBe(1);
});

test("an error that the server sent before it hung up on the request is read", () => {
  const fake = new FakeSys({ write: "EPIPE", reads: [trailersOnly("3", "too long"), "ECONNRESET"] });
  expect(errorOf(fake)).toMatchObject({ code: "RPC_INVALID_ARGUMENT", message: "too long" });
});

test("a socket that takes only a few bytes at a time gets the whole request", () => {
  const whole = new FakeSys({ reads: [HELLO] });
  const slow = new FakeSys({ write: 7, reads: [HELLO] });
  expect(call(slow)).toEqual(call(whole));
  expect(slow.sent).toEqual(whole.sent);
});

describe("the deadline", () => {
  test.each<[string, Connection, string]>([
    ["connecting", { connect: "EAGAIN" }, "taken the connection"],
    ["writing", { write: "EAGAIN" }, "taken the request"],
    ["waiting for the reply", {}, "answered"],
    ["waiting for the reply's end", { reads: [HELLO.subarray(0, 50)] }, "answered"],
    ["reading a reply that drips", { reads: [1500, HELLO.subarray(0, 1), 1500, HELLO.subarray(1)] }, "answered"],
  ])("ends %s", (_what, connection, seen) => {
    const fake = new FakeSys(connection);
    const error = errorOf(fake, { deadlineMs: 2000 });
    expect(error).toMatchObject({ code: "RPC_DEADLINE_EXCEEDED", status: Status.DEADLINE_EXCEEDED, retryable: true });
    expect(error.message).toBe(`the daemon at /run/flatnet/flatnetd.sock has not ${seen} within 2000 ms`);
    expect(fake.open.size).toBe(0);
  });

  test("that is over before the call opens no socket", () => {
    const fake = new FakeSys({});
    expect(errorOf(fake, { deadlineMs: 0 }).code).toBe("RPC_DEADLINE_EXCEEDED");
    expect(fake.connections).toBe(0);
  });
});

describe("a socket that cannot be used is an error at once, with its cause", () => {
  test.each<[string, Connection]>([
    ["EACCES", { connect: "EACCES" }],
    ["ENOTDIR", { connect: "ENOTDIR" }],
    ["EIO", { reads: ["EIO"] }],
    ["ENOBUFS", { write: "ENOBUFS" }],
  ])("%s", (code, connection) => {
    const fake = new FakeSys(connection);
    const error = errorOf(fake);
    expect(error).toMatchObject({ code: "RPC_SOCKET", status: Status.UNKNOWN, retryable: false });
    expect(error.message).toContain("/run/flatnet/flatnetd.sock");
    expect(error.message).toContain(code);
    expect(error.cause).toMatchObject({ code });
    expect(fake.open.size).toBe(0);
  });
});

describe("what cannot be asked for opens no socket", () => {
  test.each<[string, Partial<UnaryOptions>, string]>([
    ["a socket path of 108 bytes", { socketPath: `/${"a".repeat(107)}` }, "has 108 bytes"],
    ["a socket path of 107 characters and more bytes", { socketPath: `/${"ä".repeat(54)}` }, "has 109 bytes"],
    ["no socket path", { socketPath: "" }, "is empty"],
    ["a socket path with a zero byte", { socketPath: "/run/a\0b" }, "zero byte"],
    ["metadata that no header can carry", { metadata: [["traceparent", "\n"]] }, "traceparent"],
  ])("%s", (_what, options, text) => {
    const fake = new FakeSys({});
    const error = errorOf(fake, options);
    expect(error).toMatchObject({ code: "RPC_REQUEST", status: Status.INVALID_ARGUMENT, retryable: false });
    expect(error.message).toContain(text);
    expect(fake.connections).toBe(0);
  });

  test("a socket path of 107 bytes is fine", () => {
    expect(call(new FakeSys({ reads: [HELLO] }), { socketPath: `/${"a".repeat(106)}` })).toEqual(bytes("hello"));
  });
});

test("an error of another kind passes through, and the socket is closed", () => {
  const fake = new FakeSys({});
  fake.sys.read = () => {
    throw new TypeError("a bug");
  };
  expect(() => call(fake)).toThrow(TypeError);
  expect(fake.open.size).toBe(0);
});
