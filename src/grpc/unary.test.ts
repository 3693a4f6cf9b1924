// SPDX-License-Identifier: Apache-2.0
import http2 from "node:http2";
import net from "node:net";
import grpc from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  concat,
  DEFAULT_WINDOW,
  FLAG_ACK,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_PING,
  FRAME_PUSH_PROMISE,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  FRAME_WINDOW_UPDATE,
  type Frame,
  frame,
  PREFACE,
  putUint32,
  SETTINGS_INITIAL_WINDOW_SIZE,
  SETTINGS_MAX_FRAME_SIZE,
  settingsFrame,
  uint32,
  windowUpdateFrame,
} from "./frames.ts";
import { decodeHeaderBlock, encodeHeaderBlock, type HeaderField } from "./hpack.ts";
import { Status, statusName } from "./status.ts";
import { drive, request, withGrpcServer, withRawServer } from "./test-server.ts";
import { UnaryCall, type UnaryRequest, type UnaryResult } from "./unary.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 31) & 0xff);
const uint32Bytes = (...values: number[]) => {
  const out = new Uint8Array(values.length * 4);
  values.forEach((value, i) => {
    putUint32(out, i * 4, value);
  });
  return out;
};

// What a scripted server says.
const SETTINGS = settingsFrame([]);
const headers = (fields: readonly HeaderField[], flags = 0) =>
  frame(FRAME_HEADERS, FLAG_END_HEADERS | flags, 1, encodeHeaderBlock(fields));
const OK_HEADERS: HeaderField[] = [
  [":status", "200"],
  ["content-type", "application/grpc"],
];
const RESPONSE_HEADERS = headers(OK_HEADERS);
const data = (payload: Uint8Array, flags = 0) => frame(FRAME_DATA, flags, 1, payload);
const message = (payload: Uint8Array, compressed = 0) =>
  concat([Uint8Array.of(compressed), uint32Bytes(payload.length), payload]);
const trailers = (status: string, ...more: HeaderField[]) =>
  headers([["grpc-status", status], ...more], FLAG_END_STREAM);
const HELLO_REPLY = concat([SETTINGS, RESPONSE_HEADERS, data(message(bytes("hello"))), trailers("0")]);

/** The call's result after the server's bytes, and the end of them. */
function resultOf(reply: Uint8Array, fields: Partial<UnaryRequest> = {}): UnaryResult {
  const call = new UnaryCall(request(fields));
  call.start();
  call.receive(reply);
  call.closed();
  return call.result as UnaryResult;
}

/** The frames of what the call sends. */
function framesOf(out: Uint8Array): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at < out.length; ) {
    const end = at + 9 + (uint32(out, at) >>> 8);
    const [type, flags] = [out[at + 3] as number, out[at + 4] as number];
    frames.push({ type, flags, stream: uint32(out, at + 5), payload: out.subarray(at + 9, end) });
    at = end;
  }
  return frames;
}

describe("against a grpc-js server", () => {
  test("a call returns the response, and the server sees message, metadata and deadline", async () => {
    let seen: { message: string; trace: unknown; deadlineInMs: number } | undefined;
    const { result } = await withGrpcServer(
      (call, reply) => {
        const deadline = call.getDeadline();
        seen = {
          message: call.request.toString(),
          trace: call.metadata.get("traceparent"),
          deadlineInMs: Number(deadline) - Date.now(),
        };
        reply(null, Buffer.from("pong"));
      },
      (socketPath) =>
        drive(socketPath, { message: bytes("ping"), timeoutMs: 600_000, metadata: [["traceparent", "00-ab-cd-01"]] }),
    );
    expect(result).toEqual({ code: 0, message: "", response: bytes("pong"), transport: false, answered: true });
    expect(seen).toMatchObject({ message: "ping", trace: ["00-ab-cd-01"] });
    expect(seen?.deadlineInMs).toBeGreaterThan(0);
    expect(seen?.deadlineInMs).toBeLessThanOrEqual(600_000);
  });

  test("an empty request and an empty response are messages too", async () => {
    const { result } = await withGrpcServer(
      (call, reply) => reply(null, call.request),
      (socketPath) => drive(socketPath),
    );
    expect(result).toEqual({ code: 0, message: "", response: new Uint8Array(0), transport: false, answered: true });
  });

  test.each(Array.from({ length: 16 }, (_, i) => [i + 1, statusName(i + 1)]))(
    "status %i (%s) arrives with its message",
    async (code) => {
      const details = `reason ${code}: "100%" of ünï©ødé 🚀\nsecond line`;
      const { result } = await withGrpcServer(
        (_call, reply) => reply({ code: code as number, details }),
        (socketPath) => drive(socketPath),
      );
      expect(result).toEqual({ code, message: details, transport: false, answered: true });
    },
  );

  test("an error message of 12,000 bytes arrives whole", async () => {
    const details = "äb%".repeat(3000);
    const { result } = await withGrpcServer(
      (_call, reply) => reply({ code: Status.FAILED_PRECONDITION, details }),
      (socketPath) => drive(socketPath),
    );
    expect(result).toEqual({ code: Status.FAILED_PRECONDITION, message: details, transport: false, answered: true });
  });

  test("an error sent behind the response headers, so not trailers-only, arrives", async () => {
    const { result } = await withGrpcServer(
      (call, reply) => {
        call.sendMetadata(new grpc.Metadata());
        reply({ code: Status.ABORTED, details: "changed my mind" });
      },
      (socketPath) => drive(socketPath),
    );
    expect(result).toEqual({ code: Status.ABORTED, message: "changed my mind", transport: false, answered: true });
  });

  test("a method that the server does not have is UNIMPLEMENTED", async () => {
    const { result } = await withGrpcServer(
      (_call, reply) => reply(null, Buffer.alloc(0)),
      (socketPath) => drive(socketPath, { path: "/flatnet.test.v1.TestService/Nothing" }),
    );
    expect(result).toMatchObject({ code: Status.UNIMPLEMENTED, transport: false });
  });

  test.each([65530, 65531, 65536, 1 << 20, 5_000_000])("a message of %i bytes goes there and back", async (length) => {
    const sent = pattern(length);
    const { result } = await withGrpcServer(
      (call, reply) => reply(null, call.request),
      (socketPath) => drive(socketPath, { message: sent }),
    );
    expect(result.message).toBe("");
    expect(Buffer.compare(result.response ?? new Uint8Array(0), sent)).toBe(0);
  });

  test("a response larger than allowed is RESOURCE_EXHAUSTED", async () => {
    const { result } = await withGrpcServer(
      (_call, reply) => reply(null, Buffer.alloc(1001)),
      (socketPath) => drive(socketPath, { maxResponseBytes: 1000 }),
    );
    expect(result).toEqual({
      code: Status.RESOURCE_EXHAUSTED,
      message: "the response has 1001 bytes, more than the 1000 allowed",
      transport: false,
      answered: false,
    });
  });

  test("a handler slower than the deadline is DEADLINE_EXCEEDED by the server's own clock", async () => {
    const { result } = await withGrpcServer(
      () => {}, // never replies
      (socketPath) => drive(socketPath, { timeoutMs: 50 }),
    );
    expect(result.code).toBe(Status.DEADLINE_EXCEEDED);
  });

  test("a server that is shut down by force during the call is a failure of the transport", async () => {
    let shutDown = () => {};
    const { result } = await withGrpcServer(
      () => shutDown(),
      (socketPath, server) => {
        shutDown = () => server.forceShutdown();
        return drive(socketPath);
      },
    );
    expect(result.transport).toBe(true);
    expect(result.response).toBeUndefined();
  });

  test("a server that is shut down gracefully during the call still answers it", async () => {
    let shutDown = () => {};
    const { result } = await withGrpcServer(
      (_call, reply) => {
        shutDown();
        setImmediate(() => reply(null, Buffer.from("last words")));
      },
      (socketPath, server) => {
        shutDown = () => server.tryShutdown(() => {});
        return drive(socketPath);
      },
    );
    expect(result).toEqual({ code: 0, message: "", response: bytes("last words"), transport: false, answered: true });
  });

  test("the server's bytes, cut anywhere, give the same result", async () => {
    const sent = pattern(40_000);
    const recordings = await withGrpcServer(
      (call, reply) => {
        if (call.request.length > 0) reply(null, call.request);
        else reply({ code: Status.NOT_FOUND, details: "ünknown" });
      },
      async (socketPath) => [await drive(socketPath, { message: sent }), await drive(socketPath)],
    );
    for (const { result, received } of recordings) {
      fc.assert(
        fc.property(fc.array(fc.nat(received.length), { maxLength: 60 }), (cuts) => {
          expect(replay(received, cuts)).toEqual(result);
        }),
      );
    }
  });
});

/** The result when the peer's bytes come in pieces, in a buffer that is used again for each. */
function replay(received: Uint8Array, cuts: readonly number[]): UnaryResult | undefined {
  const call = new UnaryCall(request());
  call.start();
  const buffer = new Uint8Array(received.length);
  let from = 0;
  for (const to of [...cuts].sort((a, b) => a - b).concat(received.length)) {
    buffer.set(received.subarray(from, to));
    call.receive(buffer.subarray(0, to - from));
    buffer.fill(0xff);
    from = to;
  }
  return call.result;
}

describe("against a node:http2 server", () => {
  const respondWith = async (
    respond: (stream: http2.ServerHttp2Stream) => void,
    fields: Partial<UnaryRequest> = {},
  ) => {
    const server = http2.createServer({ settings: { maxFrameSize: 20_000, initialWindowSize: 100_000 } });
    server.on("stream", (stream) => {
      stream.on("error", () => {});
      respond(stream);
    });
    const { result } = await withRawServer((path) => drive(path, fields), server as unknown as net.Server);
    return result;
  };
  const grpcHeaders = { "content-type": "application/grpc+proto" };

  test("a reply in padded frames, one byte each, is put together", async () => {
    const server = http2.createServer({ paddingStrategy: http2.constants.PADDING_STRATEGY_MAX });
    server.on("stream", async (stream) => {
      stream.respond(grpcHeaders, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      for (const byte of message(bytes("padded"))) {
        await new Promise((resolve) => stream.write(Uint8Array.of(byte), resolve));
      }
      stream.end();
    });
    const { result } = await withRawServer((path) => drive(path), server as unknown as net.Server);
    expect(result).toEqual({ code: 0, message: "", response: bytes("padded"), transport: false, answered: true });
  });

  test("a request beyond the server's windows and frame size arrives whole", async () => {
    const sent = pattern(1_000_000);
    const result = await respondWith(
      (stream) => {
        const pieces: Buffer[] = [];
        stream.on("data", (piece: Buffer) => pieces.push(piece));
        stream.on("end", () => {
          const good = Buffer.compare(Buffer.concat(pieces), message(sent)) === 0;
          stream.respond({ ...grpcHeaders, "grpc-status": good ? "5" : "15" }, { endStream: true });
        });
      },
      { message: sent },
    );
    expect(result.code).toBe(5);
  });

  test("headers in CONTINUATION frames are put together", async () => {
    const result = await respondWith((stream) => {
      const many: Record<string, string> = {};
      for (let i = 0; i < 30; i++) many[`x-${i}`] = "\x7e\x5c".repeat(500);
      stream.respond({ ...grpcHeaders, ...many, "grpc-status": "5", "grpc-message": "long" }, { endStream: true });
    });
    expect(result).toEqual({ code: 5, message: "long", transport: false, answered: true });
  });

  test.each([
    [http2.constants.NGHTTP2_INTERNAL_ERROR, Status.INTERNAL, false],
    [http2.constants.NGHTTP2_REFUSED_STREAM, Status.UNAVAILABLE, true],
    [http2.constants.NGHTTP2_CANCEL, Status.CANCELLED, true],
    [http2.constants.NGHTTP2_ENHANCE_YOUR_CALM, Status.RESOURCE_EXHAUSTED, false],
    [http2.constants.NGHTTP2_INADEQUATE_SECURITY, Status.PERMISSION_DENIED, false],
  ])("a stream reset with error %i is status %i", async (errorCode, code, transport) => {
    const result = await respondWith((stream) => {
      stream.close(errorCode);
    });
    expect(result).toMatchObject({ code, transport });
    expect(result.message).toContain("the server reset the stream");
  });

  test.each([
    [400, Status.INTERNAL],
    [401, Status.UNAUTHENTICATED],
    [403, Status.PERMISSION_DENIED],
    [404, Status.UNIMPLEMENTED],
    [429, Status.UNAVAILABLE],
    [500, Status.UNKNOWN],
    [502, Status.UNAVAILABLE],
    [503, Status.UNAVAILABLE],
    [504, Status.UNAVAILABLE],
  ])("HTTP status %i without grpc-status is status %i, with a body or without", async (status, code) => {
    const expected = {
      code,
      message: `the server replied with HTTP status ${status}`,
      transport: false,
      answered: false,
    };
    expect(await respondWith((stream) => stream.respond({ ":status": status }, { endStream: true }))).toEqual(expected);
    const withBody = await respondWith((stream) => {
      stream.respond({ ":status": status, "content-type": "text/html" });
      stream.end("<html>");
    });
    expect(withBody).toEqual(expected);
  });

  test("grpc-status overrules the HTTP status", async () => {
    const result = await respondWith((stream) => {
      stream.respond({ ":status": 503, "grpc-status": "5", "grpc-message": "not here" }, { endStream: true });
    });
    expect(result).toEqual({ code: 5, message: "not here", transport: false, answered: true });
  });

  test("a session destroyed half-way is a failure of the transport", async () => {
    const result = await respondWith((stream) => {
      stream.respond(grpcHeaders);
      stream.write(message(bytes("half")).subarray(0, 6), () => stream.session?.socket.destroy());
    });
    expect(result).toMatchObject({ code: Status.UNAVAILABLE, transport: true });
  });

  test("PING is answered with the same payload", async () => {
    const server = http2.createServer();
    let echoed: Buffer | undefined;
    server.on("stream", (stream) => {
      stream.session?.ping(Buffer.from("12345678"), (_error, _ms, payload) => {
        echoed = payload;
        stream.respond({ ...grpcHeaders, "grpc-status": "5" }, { endStream: true });
      });
    });
    await withRawServer((path) => drive(path), server as unknown as net.Server);
    expect(echoed?.toString()).toBe("12345678");
  });
});

describe("against a peer that is not HTTP/2", () => {
  test("one that hangs up is a failure of the transport", async () => {
    const { result } = await withRawServer(
      (path) => drive(path),
      net.createServer(),
      (socket) => socket.destroy(),
    );
    expect(result).toEqual({
      code: Status.UNAVAILABLE,
      message: "the server closed the connection before it replied",
      transport: true,
      answered: false,
    });
  });

  test("one that speaks HTTP/1.1 is named as what it is", () => {
    expect(resultOf(bytes("HTTP/1.1 400 Bad Request\r\n\r\n"))).toEqual({
      code: Status.INTERNAL,
      message: "malformed reply: the peer does not speak HTTP/2",
      transport: false,
      answered: false,
    });
  });
});

describe("the opening bytes", () => {
  const opening = (fields: Partial<UnaryRequest> = {}) => {
    const out = new UnaryCall(request(fields)).start();
    expect(Buffer.from(out.subarray(0, PREFACE.length)).toString()).toBe(PREFACE);
    return framesOf(out.subarray(PREFACE.length));
  };
  const sentHeaders = (fields: Partial<UnaryRequest>) => {
    const block = opening(fields).find(({ type }) => type === FRAME_HEADERS);
    return new Map(decodeHeaderBlock(block?.payload ?? new Uint8Array(0)));
  };

  test("carry the whole call when it fits into the first window", () => {
    const frames = opening({ message: bytes("hello") });
    expect(frames.map(({ type }) => type)).toEqual([FRAME_SETTINGS, FRAME_WINDOW_UPDATE, FRAME_HEADERS, FRAME_DATA]);
    expect(frames[3]).toMatchObject({ flags: FLAG_END_STREAM, stream: 1, payload: message(bytes("hello")) });
  });

  test("stop at the end of the first window, in frames of 16 KiB at most", () => {
    const sizes = opening({ message: pattern(100_000) })
      .filter(({ type }) => type === FRAME_DATA)
      .map(({ payload, flags }) => [payload.length, flags]);
    expect(sizes).toEqual([
      [16384, 0],
      [16384, 0],
      [16384, 0],
      [16383, 0],
    ]);
  });

  test.each([
    [0, "1m"],
    [0.2, "1m"],
    [10_000, "10000m"],
    [99_999_999, "99999999m"],
    [100_000_001, "100001S"],
    [Number.MAX_SAFE_INTEGER, "99999999S"],
  ])("say a timeout of %d ms as %s", (timeoutMs, text) => {
    expect(sentHeaders({ timeoutMs }).get("grpc-timeout")).toBe(text);
  });

  test("are refused when a field cannot be sent or the metadata do not fit into a frame", () => {
    expect(() => new UnaryCall(request({ path: "/a\nb" }))).toThrow(/:path/);
    expect(() => new UnaryCall(request({ metadata: [["x", "y".repeat(17_000)]] }))).toThrow(/do not fit/);
  });
});

describe("flow control of the request", () => {
  /** How many bytes of DATA the call sends in answer to each of the peer's frames; the opening bytes took 65535. */
  const sentAfter = (...replies: Uint8Array[]) => {
    const call = new UnaryCall(request({ message: pattern(1_000_000) }));
    call.start();
    return replies.map((reply) => {
      const frames = framesOf(call.receive(reply)).filter(({ type }) => type === FRAME_DATA);
      return frames.map(({ payload }) => payload.length);
    });
  };

  test("both windows bound what is sent", () => {
    expect(sentAfter(SETTINGS, windowUpdateFrame(0, 100), windowUpdateFrame(1, 60), windowUpdateFrame(1, 60))).toEqual([
      [],
      [],
      [60],
      [40],
    ]);
  });

  test("a smaller initial window makes the stream's window negative, which updates must fill first", () => {
    const smaller = settingsFrame([[SETTINGS_INITIAL_WINDOW_SIZE, 0]]);
    const connection = windowUpdateFrame(0, 1000);
    expect(sentAfter(smaller, connection, windowUpdateFrame(1, DEFAULT_WINDOW), windowUpdateFrame(1, 7))).toEqual([
      [],
      [],
      [],
      [7],
    ]);
  });

  test("a larger maximum frame size is used", () => {
    const larger = settingsFrame([[SETTINGS_MAX_FRAME_SIZE, 50_000]]);
    expect(sentAfter(larger, windowUpdateFrame(0, 90_000), windowUpdateFrame(1, 90_000))).toEqual([
      [],
      [],
      [50_000, 40_000],
    ]);
  });

  test("SETTINGS are acknowledged once each", () => {
    const call = new UnaryCall(request());
    call.start();
    const frames = framesOf(
      call.receive(concat([SETTINGS, SETTINGS, frame(FRAME_SETTINGS, FLAG_ACK, 0, new Uint8Array(0))])),
    );
    expect(frames.map(({ type, flags }) => [type, flags])).toEqual([
      [FRAME_SETTINGS, FLAG_ACK],
      [FRAME_SETTINGS, FLAG_ACK],
    ]);
  });
});

test("windows for the reply are opened again as it comes", () => {
  const call = new UnaryCall(request());
  call.start();
  const body = message(pattern(3_000_000));
  call.receive(concat([SETTINGS, RESPONSE_HEADERS]));
  const opened = [0, 0];
  for (let at = 0; at < body.length; at += 16384) {
    for (const { type, stream, payload } of framesOf(call.receive(data(body.subarray(at, at + 16384))))) {
      expect(type).toBe(FRAME_WINDOW_UPDATE);
      (opened[stream] as number) += uint32(payload, 0);
    }
  }
  call.receive(trailers("0"));
  expect(call.result?.response?.length).toBe(3_000_000);
  for (const bytesOpened of opened) expect(bytesOpened).toBeGreaterThan(3_000_000 - (1 << 20));
});

describe("a reply that is no unary reply", () => {
  const of = (...frames: Uint8Array[]) => concat([SETTINGS, ...frames]);
  const hello = data(message(bytes("hello")));
  test.each<[string, Uint8Array, number, string]>([
    ["OK without a message", of(RESPONSE_HEADERS, trailers("0")), Status.INTERNAL, "without a message"],
    [
      "OK in a trailers-only reply",
      of(headers([...OK_HEADERS, ["grpc-status", "0"]], FLAG_END_STREAM)),
      Status.INTERNAL,
      "without a message",
    ],
    ["a prefix cut short", of(RESPONSE_HEADERS, data(bytes("\0\0")), trailers("0")), Status.INTERNAL, "cut short"],
    [
      "a message cut short",
      of(RESPONSE_HEADERS, data(message(bytes("hello")).subarray(0, 7)), trailers("0")),
      Status.INTERNAL,
      "cut short",
    ],
    ["two messages", of(RESPONSE_HEADERS, hello, hello, trailers("0")), Status.INTERNAL, "more than one message"],
    ["a compressed message", of(RESPONSE_HEADERS, data(message(bytes("x"), 1))), Status.INTERNAL, "compressed"],
    [
      "an unknown compressed flag",
      of(RESPONSE_HEADERS, data(message(bytes("x"), 2))),
      Status.INTERNAL,
      "compressed flag 2",
    ],
    [
      "a compression nobody asked for",
      of(headers([...OK_HEADERS, ["grpc-encoding", "gzip"]])),
      Status.INTERNAL,
      '"gzip"',
    ],
    [
      "trailers without grpc-status",
      of(RESPONSE_HEADERS, hello, headers([["x", "y"]], FLAG_END_STREAM)),
      Status.UNKNOWN,
      "without grpc-status",
    ],
    [
      "no trailers",
      of(RESPONSE_HEADERS, data(message(bytes("x")), FLAG_END_STREAM)),
      Status.UNKNOWN,
      "without trailers",
    ],
    [
      "another content-type",
      of(
        headers([
          [":status", "200"],
          ["content-type", "text/html"],
        ]),
      ),
      Status.UNKNOWN,
      '"text/html"',
    ],
    ["no content-type", of(headers([[":status", "200"]])), Status.UNKNOWN, "not gRPC"],
    ["a grpc-status that is no number", of(RESPONSE_HEADERS, trailers("x1")), Status.UNKNOWN, 'grpc-status "x1"'],
    [
      "a grpc-status nobody knows",
      of(RESPONSE_HEADERS, trailers("17", ["grpc-message", "new"])),
      Status.UNKNOWN,
      'grpc-status "17": new',
    ],
  ])("%s", (_what, reply, code, text) => {
    const result = resultOf(reply);
    expect(result).toMatchObject({ code, transport: false });
    expect(result.message).toContain(text);
  });

  test("informational headers are passed over", () => {
    const result = resultOf(of(headers([[":status", "103"]]), RESPONSE_HEADERS, hello, trailers("0")));
    expect(result).toMatchObject({ code: 0, response: bytes("hello") });
  });

  test("a grpc-message that is not well-formed is shown as it is", () => {
    const shown = (text: string) => resultOf(of(RESPONSE_HEADERS, trailers("5", ["grpc-message", text]))).message;
    expect(shown("100% %zz %4 %")).toBe("100% %zz %4 %");
    expect(shown("%41%ff")).toBe("A\ufffd");
  });
});

describe("frames against the rules are INTERNAL and say what came", () => {
  const zeros = (length: number) => new Uint8Array(length);
  const afterSettings: [string, Uint8Array, string][] = [
    ["a frame larger than agreed", frame(FRAME_DATA, 0, 1, zeros(16385)), "16385 bytes"],
    ["DATA before headers", data(zeros(5)), "before the response headers"],
    ["DATA on another stream", frame(FRAME_DATA, 0, 3, zeros(1)), "DATA on stream 3"],
    ["HEADERS on another stream", frame(FRAME_HEADERS, FLAG_END_HEADERS, 2, zeros(0)), "HEADERS on stream 2"],
    ["RST_STREAM on another stream", frame(FRAME_RST_STREAM, 0, 3, zeros(4)), "RST_STREAM on stream 3"],
    ["RST_STREAM of a wrong length", frame(FRAME_RST_STREAM, 0, 1, zeros(5)), "RST_STREAM frame of 5 bytes"],
    ["more padding than payload", frame(FRAME_HEADERS, FLAG_END_HEADERS | 0x8, 1, Uint8Array.of(9, 0)), "padding"],
    ["padding without its length", frame(FRAME_HEADERS, FLAG_END_HEADERS | 0x8, 1, zeros(0)), "padding"],
    ["priority cut short", frame(FRAME_HEADERS, FLAG_END_HEADERS | 0x20, 1, zeros(4)), "padding"],
    ["CONTINUATION without HEADERS", frame(FRAME_CONTINUATION, FLAG_END_HEADERS, 1, zeros(0)), "without HEADERS"],
    [
      "a header block interrupted",
      concat([frame(FRAME_HEADERS, 0, 1, zeros(0)), frame(FRAME_PING, 0, 0, zeros(8))]),
      "interrupted",
    ],
    ["a malformed header block", frame(FRAME_HEADERS, FLAG_END_HEADERS, 1, Uint8Array.of(0x80)), "index of 0"],
    ["headers without :status", headers([["a", "b"]]), "without :status"],
    ["informational headers at the end", headers([[":status", "100"]], FLAG_END_STREAM), "informational"],
    ["trailers that do not end", concat([RESPONSE_HEADERS, headers([["grpc-status", "0"]])]), "do not end"],
    ["trailers with :status", concat([RESPONSE_HEADERS, headers(OK_HEADERS, FLAG_END_STREAM)]), "with a :status"],
    ["PUSH_PROMISE", frame(FRAME_PUSH_PROMISE, FLAG_END_HEADERS, 1, zeros(4)), "PUSH_PROMISE"],
    ["SETTINGS of a wrong length", frame(FRAME_SETTINGS, 0, 0, zeros(5)), "SETTINGS frame of 5 bytes"],
    ["SETTINGS on a stream", frame(FRAME_SETTINGS, 0, 1, zeros(0)), "SETTINGS on stream 1"],
    ["SETTINGS ACK with a payload", frame(FRAME_SETTINGS, FLAG_ACK, 0, zeros(6)), "SETTINGS ACK"],
    ["an initial window too large", settingsFrame([[SETTINGS_INITIAL_WINDOW_SIZE, 0x80000000]]), "initial window"],
    ["a maximum frame too small", settingsFrame([[SETTINGS_MAX_FRAME_SIZE, 100]]), "maximum frame size of 100"],
    ["PING of a wrong length", frame(FRAME_PING, 0, 0, zeros(7)), "PING frame of 7 bytes"],
    ["GOAWAY of a wrong length", frame(FRAME_GOAWAY, 0, 0, zeros(7)), "GOAWAY frame of 7 bytes"],
    ["WINDOW_UPDATE of 0", windowUpdateFrame(0, 0), "WINDOW_UPDATE frame of 0"],
    ["WINDOW_UPDATE beyond the maximum", windowUpdateFrame(1, 0x7fffffff), "overflows"],
    ["WINDOW_UPDATE on another stream", windowUpdateFrame(5, 1), "stream 5"],
  ];
  test.each(afterSettings)("%s", (_what, reply, text) => {
    const result = resultOf(concat([SETTINGS, reply]));
    expect(result).toMatchObject({ code: Status.INTERNAL, transport: false });
    expect(result.message).toContain(text);
  });

  test("headers beyond the announced size are RESOURCE_EXHAUSTED, also in endless CONTINUATION frames", () => {
    const pieces = [SETTINGS, frame(FRAME_HEADERS, 0, 1, zeros(0))];
    for (let i = 0; i < 5; i++) pieces.push(frame(FRAME_CONTINUATION, 0, 1, zeros(16384)));
    expect(resultOf(concat(pieces))).toMatchObject({ code: Status.RESOURCE_EXHAUSTED, transport: false });
  });

  test("padding is acknowledged like content, so a peer is never stopped by its own", () => {
    const padded = frame(FRAME_DATA, 0x8, 1, concat([Uint8Array.of(255), zeros(255)]));
    const call = new UnaryCall(request());
    call.start();
    call.receive(concat([SETTINGS, RESPONSE_HEADERS]));
    let opened = 0;
    for (let i = 0; i < 10_000; i++) {
      for (const { stream, payload } of framesOf(call.receive(padded))) if (stream === 1) opened += uint32(payload, 0);
    }
    expect(call.result).toBeUndefined();
    expect(opened).toBeGreaterThan(10_000 * 256 - (1 << 20));
  });

  test("priority, unknown frames and unknown settings are passed over", () => {
    const strange = concat([
      frame(0x2, 0, 1, zeros(5)),
      frame(0xbe, 0xff, 7, zeros(3)),
      settingsFrame([[0xff, 1]]),
      frame(FRAME_PING, FLAG_ACK, 0, zeros(8)),
    ]);
    expect(resultOf(concat([SETTINGS, strange, HELLO_REPLY]))).toMatchObject({ code: 0, response: bytes("hello") });
  });
});

describe("GOAWAY", () => {
  const goaway = (lastStream: number, errorCode: number, debug = "") =>
    frame(FRAME_GOAWAY, 0, 0, concat([uint32Bytes(lastStream, errorCode), bytes(debug)]));

  test("that leaves our stream out ends the call as a failure of the transport", () => {
    const call = new UnaryCall(request());
    call.start();
    call.receive(concat([SETTINGS, goaway(0, 0xb, "too\nmany")]));
    expect(call.result).toEqual({
      code: Status.UNAVAILABLE,
      message: 'the server is shutting down and did not take the call (GOAWAY ENHANCE_YOUR_CALM "too?many")',
      transport: true,
      answered: false,
    });
  });

  test("that covers our stream lets it end", () => {
    const call = new UnaryCall(request());
    call.start();
    call.receive(concat([SETTINGS, goaway(0x7fffffff, 0), goaway(1, 0), HELLO_REPLY]));
    expect(call.result).toMatchObject({ code: 0, response: bytes("hello") });
  });

  test("that covers our stream, with the connection's end before the reply, is told in the message", () => {
    expect(resultOf(concat([SETTINGS, goaway(1, 0)]))).toEqual({
      code: Status.UNAVAILABLE,
      message: "the server closed the connection before it replied (GOAWAY NO_ERROR)",
      transport: true,
      answered: false,
    });
  });
});

test.each(Array.from({ length: 14 }, (_, i) => i))(
  "a stream reset with error %i ends the call at once, half-way too",
  (errorCode) => {
    const reset = frame(FRAME_RST_STREAM, 0, 1, uint32Bytes(errorCode));
    const call = new UnaryCall(request());
    call.start();
    call.receive(concat([SETTINGS, RESPONSE_HEADERS, data(message(bytes("x"))), reset]));
    const other = {
      7: Status.UNAVAILABLE,
      8: Status.CANCELLED,
      11: Status.RESOURCE_EXHAUSTED,
      12: Status.PERMISSION_DENIED,
    };
    const code = other[errorCode as keyof typeof other] ?? Status.INTERNAL;
    expect(call.result).toMatchObject({ code, transport: errorCode === 7 || errorCode === 8 });
  },
);

test("the result is final: what comes later changes nothing and is not answered", () => {
  const call = new UnaryCall(request());
  call.start();
  call.receive(HELLO_REPLY);
  const { result } = call;
  expect(call.receive(SETTINGS)).toHaveLength(0);
  call.closed();
  expect(call.result).toBe(result);
});

test("a reply cut off anywhere is a failure of the transport", () => {
  for (let length = 0; length < HELLO_REPLY.length; length++) {
    expect(resultOf(HELLO_REPLY.subarray(0, length))).toMatchObject({ code: Status.UNAVAILABLE, transport: true });
  }
});

describe("whatever bytes come, there is a result in the end and nothing is thrown", () => {
  const arbitraryFrame = fc
    .record({
      type: fc.oneof(fc.nat(10), fc.nat(255)),
      flags: fc.nat(255),
      stream: fc.oneof(fc.constantFrom(0, 1), fc.nat(5)),
      payload: fc.uint8Array({ maxLength: 40 }),
    })
    .map(({ type, flags, stream, payload }) => frame(type, flags, stream, payload));
  const goodFrame = fc.constantFrom(
    SETTINGS,
    RESPONSE_HEADERS,
    data(message(bytes("hello"))),
    trailers("0"),
    trailers("5"),
  );
  const garbage = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.array(fc.oneof(arbitraryFrame, goodFrame), { maxLength: 12 }).map((frames) => concat([SETTINGS, ...frames])),
    fc.tuple(fc.nat(HELLO_REPLY.length - 1), fc.nat(255)).map(([at, byte]) => {
      const changed = HELLO_REPLY.slice();
      changed[at] = byte;
      return changed;
    }),
  );
  const isStatus = (code: number | undefined) => code !== undefined && code >= 0 && code <= 16;

  test("in one piece", () => {
    const sent = pattern(70_000); // more than the first window, so that there is something to send on
    fc.assert(
      fc.property(garbage, (reply) => isStatus(resultOf(reply, { message: sent }).code)),
      { numRuns: 3000 },
    );
  });

  test("in any pieces, with the same result", () => {
    fc.assert(
      fc.property(garbage, fc.array(fc.nat(300)), (reply, cuts) => {
        const whole = new UnaryCall(request());
        whole.start();
        whole.receive(reply);
        expect(
          replay(
            reply,
            cuts.map((cut) => cut % (reply.length + 1)),
          ),
        ).toEqual(whole.result);
      }),
      { numRuns: 1000 },
    );
  });
});
