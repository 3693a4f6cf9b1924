// SPDX-License-Identifier: Apache-2.0
//
// The plugin's client as it is at work: run by QuickJS, blocking system calls, a real socket, a real grpc-js server in another
// process. The plugin itself is tried by its own tests.
import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import http2 from "node:http2";
import net from "node:net";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { Status } from "../../src/grpc/status.ts";
import {
  type Handler,
  METHOD,
  startGrpcServer,
  withDirectory,
  withGrpcServer,
  withRawServer,
} from "../../src/grpc/test-server.ts";
import { compileScript } from "../helpers/quickjs.ts";
import type { ProbeOptions, ProbeOutcome } from "../helpers/unary-probe.ts";

let program = "";

beforeAll(async () => {
  const made = await compileScript("test/helpers/unary-probe.ts");
  program = made.path;
  return made.remove;
});

/** The outcome of one call. The process has long ended when the call's own bounds do not hold. */
function probe(socketPath: string, options: Partial<ProbeOptions> = {}): Promise<ProbeOutcome> {
  const all: ProbeOptions = {
    socketPath,
    path: METHOD,
    message: "ping",
    deadlineMs: 30_000,
    connectWaitMs: 20_000,
    maxResponseBytes: 16 << 20,
    ...options,
  };
  return new Promise((resolve, reject) => {
    execFile(program, [JSON.stringify(all)], { timeout: 60_000, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve(JSON.parse(stdout) as ProbeOutcome);
      else reject(new Error(`the probe failed: ${stderr}`, { cause: error }));
    });
  });
}

const textOf = (outcome: ProbeOutcome) => ("response" in outcome ? outcome.response : outcome);
const echo: Handler = (call, reply) => reply(null, call.request);

describe("a daemon that is there", () => {
  test("answers", async () => {
    expect(textOf(await withGrpcServer(echo, (socketPath) => probe(socketPath)))).toBe("ping");
  });

  test("answers a request with a response of 3 MB", async () => {
    const handler: Handler = (_call, reply) => reply(null, Buffer.alloc(3_000_000, "x"));
    expect(textOf(await withGrpcServer(handler, (path) => probe(path)))).toBe("x".repeat(3_000_000));
  });

  test("gets a request larger than the first flow-control window", async () => {
    const message = "y".repeat(90_000); // an argument has 128 KiB at most (MAX_ARG_STRLEN)
    expect(textOf(await withGrpcServer(echo, (path) => probe(path, { message })))).toBe("y".repeat(90_000));
  });

  test("says no, and its words arrive", async () => {
    const details = "no äddress left in 10.244.1.0/24";
    const outcome = await withGrpcServer(
      (_call, reply) => reply({ code: Status.RESOURCE_EXHAUSTED, details }),
      (socketPath) => probe(socketPath),
    );
    expect(outcome).toEqual({ code: "RPC_RESOURCE_EXHAUSTED", status: 8, retryable: false, message: details });
  });

  test("is too slow for the deadline", async () => {
    const outcome = await withRawServer(
      (socketPath) => probe(socketPath, { deadlineMs: 200 }),
      net.createServer(), // takes the connection and says nothing
    );
    expect(outcome).toMatchObject({ code: "RPC_DEADLINE_EXCEEDED", status: 4, retryable: true, cause: "EAGAIN" });
    expect(outcome).toHaveProperty("message", expect.stringContaining("has not answered within 200 ms"));
  });

  test("is too slow for the deadline, and may say so itself first", async () => {
    const outcome = await withGrpcServer(
      () => {}, // never replies
      (socketPath) => probe(socketPath, { deadlineMs: 300 }),
    );
    expect(outcome).toMatchObject({ code: "RPC_DEADLINE_EXCEEDED", status: 4, retryable: true });
  });
});

describe("a daemon that is not there", () => {
  test.each([
    ["no socket", "ENOENT", async () => {}],
    ["a file where the socket should be", "ECONNREFUSED", (path: string) => writeFile(path, "")],
  ])("%s: waited for within bounds, then named", async (_what, cause, prepare) => {
    await withDirectory(async (directory) => {
      const socketPath = join(directory, "s.sock");
      await prepare(socketPath);
      const outcome = await probe(socketPath, { connectWaitMs: 200 });
      expect(outcome).toMatchObject({ code: "RPC_NO_DAEMON", status: 14, retryable: true, cause });
      expect(outcome).toHaveProperty(
        "message",
        expect.stringContaining(`no daemon is listening on ${socketPath}: ${cause}`),
      );
    });
  });

  test("and whose socket's directory is none is an error at once", async () => {
    await withDirectory(async (directory) => {
      await writeFile(join(directory, "file"), "");
      expect(await probe(join(directory, "file/s.sock"))).toMatchObject({ code: "RPC_SOCKET", cause: "ENOTDIR" });
    });
  });

  test("but comes 300 ms later answers", async () => {
    await withDirectory(async (directory) => {
      const socketPath = join(directory, "s.sock");
      const outcome = probe(socketPath);
      await new Promise((resolve) => setTimeout(resolve, 300));
      const server = await startGrpcServer(socketPath, echo);
      try {
        expect(textOf(await outcome)).toBe("ping");
      } finally {
        server.forceShutdown();
      }
    });
  });

  test("and could never be, for its path is too long for a socket", async () => {
    await withDirectory(async (directory) => {
      const deep = join(directory, "d".repeat(100));
      await mkdir(deep);
      expect(await probe(join(deep, "s.sock"))).toMatchObject({ code: "RPC_REQUEST", status: 3 });
    });
  });
});

describe("a daemon that is being restarted", () => {
  /** A server that does `bad` to the first call and answers the others. */
  const flaky = (bad: (stream: http2.ServerHttp2Stream) => void) => {
    let attempts = 0;
    const server = http2.createServer();
    server.on("stream", (stream) => {
      stream.on("error", () => {});
      if (++attempts === 1) return bad(stream);
      stream.respond({ "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.from("\0\0\0\0\x04pong"));
    });
    return server as unknown as net.Server;
  };

  test.each<[string, (stream: http2.ServerHttp2Stream) => void]>([
    [
      "hangs up half-way through its reply",
      (stream) => {
        stream.respond({ "content-type": "application/grpc" });
        stream.write(Buffer.from("\0\0\0"), () => stream.session?.socket.destroy());
      },
    ],
    ["hangs up before its reply", (stream) => stream.session?.socket.destroy()],
    ["destroys its session", (stream) => stream.session?.destroy()],
    [
      "says GOAWAY and hangs up",
      (stream) => {
        stream.session?.goaway(0);
        setImmediate(() => stream.session?.socket.destroy());
      },
    ],
    ["says UNAVAILABLE", (stream) => stream.respond({ "grpc-status": "14" }, { endStream: true })],
  ])("and %s is called again", async (_how, bad) => {
    expect(textOf(await withRawServer((socketPath) => probe(socketPath), flaky(bad)))).toBe("pong");
  });

  test("and hangs up on a large request before reading it is called again, and no signal ends the plugin", async () => {
    let attempts = 0;
    const message = "z".repeat(90_000);
    await withDirectory(async (directory) => {
      const socketPath = join(directory, "s.sock");
      const first = net.createServer((socket) => {
        attempts++;
        socket.on("error", () => {});
        socket.destroy();
      });
      await new Promise<void>((resolve) => first.listen(socketPath, resolve));
      try {
        const outcome = await probe(socketPath, { message, connectWaitMs: 300 });
        expect(outcome).toMatchObject({ code: "RPC_UNAVAILABLE", status: 14, retryable: true });
        expect(attempts).toBeGreaterThan(1);
      } finally {
        await new Promise((resolve) => first.close(resolve));
      }
    });
  });
});
