// SPDX-License-Identifier: Apache-2.0
//
// A daemon that answers what a test wants: the contract of proto/ served by grpc-js with handlers of the test's own.

import { Server, ServerCredentials, type ServiceError, type sendUnaryData, type status } from "@grpc/grpc-js";
import type {
  AllocateRequest,
  AllocateResponse,
  Allocation,
  ReleaseRequest,
  ReleaseResponse,
} from "../../src/gen/flatnet/ipam/v1/ipam.ts";
import { toServiceDefinition } from "../../src/ipam/server.ts";
import type { Cleanup } from "./daemon.ts";

/** What a handler says: a response, an error, or nothing at all until the test ends. */
export type Answer<Response> = Response | { readonly code: status; readonly details: string } | "silence";

export interface FakeHandlers {
  readonly allocate: (request: AllocateRequest) => Answer<AllocateResponse>;
  readonly release?: (request: ReleaseRequest) => Answer<ReleaseResponse>;
  /** What it lists; nothing where this is missing. */
  readonly allocations?: readonly Allocation[];
}

/** What was asked of a fake daemon, by container ID. */
export interface FakeDaemon {
  readonly allocated: readonly string[];
  readonly released: readonly string[];
}

/** Serves until `cleanup` ends it. */
export async function startFakeDaemon(socket: string, handlers: FakeHandlers, cleanup: Cleanup): Promise<FakeDaemon> {
  const allocated: string[] = [];
  const released: string[] = [];
  const server = new Server();
  server.addService(toServiceDefinition(), {
    allocate: (call: { request: AllocateRequest }, callback: sendUnaryData<AllocateResponse>) => {
      allocated.push(call.request.attachment?.containerId ?? "");
      say(handlers.allocate(call.request), callback);
    },
    release: (call: { request: ReleaseRequest }, callback: sendUnaryData<ReleaseResponse>) => {
      released.push(call.request.attachment?.containerId ?? "");
      say(handlers.release?.(call.request) ?? { addresses: [] }, callback);
    },
    listAllocations: (_call: unknown, callback: sendUnaryData<unknown>) =>
      callback(null, { allocations: handlers.allocations ?? [], subnets: [], strayAddresses: 0 }),
  });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  cleanup.add(() => server.forceShutdown());
  return { allocated, released };
}

function say<Response extends object>(answer: Answer<Response>, callback: sendUnaryData<Response>): void {
  if (answer === "silence") return;
  if ("code" in answer) callback(answer as unknown as ServiceError);
  else callback(null, answer);
}
