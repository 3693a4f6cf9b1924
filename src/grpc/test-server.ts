// SPDX-License-Identifier: Apache-2.0
//
// For tests only: a real gRPC server, or any other peer, on a unix socket in a directory of its own, and a driver that
// moves a UnaryCall's bytes over node:net.
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import { UnaryCall, type UnaryRequest, type UnaryResult } from "./unary.ts";

/** The only method of the test's service; its messages are plain bytes. */
export const METHOD = "/flatnet.test.v1.TestService/Call";

export type Handler = grpc.handleUnaryCall<Buffer, Buffer>;

/** Largest message that the test's server takes or gives. */
const MAX_MESSAGE = 64 << 20;

/** Runs `body` with a fresh directory, which is gone afterwards. */
export async function withDirectory<T>(body: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), "flatnet-grpc-"));
  try {
    return await body(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** A grpc-js server that listens on the socket. The caller ends it with forceShutdown(). */
export async function startGrpcServer(socketPath: string, handler: Handler): Promise<grpc.Server> {
  const server = new grpc.Server({
    "grpc.max_receive_message_length": MAX_MESSAGE,
    "grpc.max_send_message_length": MAX_MESSAGE,
  });
  const same = (bytes: Buffer) => bytes;
  const definition: grpc.ServiceDefinition = {
    call: {
      path: METHOD,
      requestStream: false,
      responseStream: false,
      requestSerialize: same,
      requestDeserialize: same,
      responseSerialize: same,
      responseDeserialize: same,
    },
  };
  server.addService(definition, { call: handler });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix://${socketPath}`, grpc.ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  return server;
}

/** Runs `body` with a grpc-js server. */
export async function withGrpcServer<T>(
  handler: Handler,
  body: (socketPath: string, server: grpc.Server) => Promise<T>,
): Promise<T> {
  return withDirectory(async (directory) => {
    const socketPath = join(directory, "s.sock");
    const server = await startGrpcServer(socketPath, handler);
    try {
      return await body(socketPath, server);
    } finally {
      server.forceShutdown();
    }
  });
}

/** A server on the socket that does what it likes with each connection. */
export interface RawServer {
  /** Ends it, open connections too. */
  close(): Promise<void>;
}

/** Starts a server of plain sockets; a connection's errors are the other end's business. */
export async function startRawServer(
  server: net.Server,
  socketPath: string,
  onSocket?: (socket: net.Socket) => void,
): Promise<RawServer> {
  const sockets = new Set<net.Socket>();
  server.on("connection", (socket: net.Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    onSocket?.(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(socketPath, resolve);
  });
  return {
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** Runs `body` with a server of plain sockets; `server` may be a node:http2 one, without `onSocket`. */
export async function withRawServer<T>(
  body: (socketPath: string) => Promise<T>,
  server: net.Server,
  onSocket?: (socket: net.Socket) => void,
): Promise<T> {
  return withDirectory(async (directory) => {
    const socketPath = join(directory, "s.sock");
    const raw = await startRawServer(server, socketPath, onSocket);
    try {
      return await body(socketPath);
    } finally {
      await raw.close();
    }
  });
}

/** A request with the fields that a test does not care about filled in. */
export function request(fields: Partial<UnaryRequest> = {}): UnaryRequest {
  return {
    authority: "localhost",
    path: METHOD,
    message: new Uint8Array(0),
    timeoutMs: 30_000,
    maxResponseBytes: MAX_MESSAGE,
    ...fields,
  };
}

/** What a call over a real socket came to, and the peer's bytes as they came. */
export interface Driven {
  readonly result: UnaryResult;
  readonly received: Uint8Array;
}

/** Makes the call over node:net, until its result or the socket's end. */
export function drive(socketPath: string, fields: Partial<UnaryRequest> = {}): Promise<Driven> {
  return new Promise((resolve) => {
    const call = new UnaryCall(request(fields));
    const received: Buffer[] = [];
    const socket = net.connect(socketPath);
    const settle = () => {
      if (call.result === undefined) return;
      socket.destroy();
      resolve({ result: call.result, received: Buffer.concat(received) });
    };
    socket.on("connect", () => socket.write(call.start()));
    socket.on("data", (bytes) => {
      received.push(Buffer.from(bytes));
      const out = call.receive(bytes);
      if (out.length > 0) socket.write(out);
      settle();
    });
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => {
      call.closed();
      settle();
    });
  });
}
