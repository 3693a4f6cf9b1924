// SPDX-License-Identifier: Apache-2.0
//
// The daemon asks itself what a plugin would ask, over the socket that a plugin would ask on.
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { IpamServiceDefinition, StatusRequest } from "../gen/flatnet/ipam/v1/ipam.ts";

/** How long the answer may take, in milliseconds. */
const DEADLINE_MS = 4_000;

/** Statuses that no handler of ours gave: nobody is on the socket, or nobody answers. */
const DEAD: ReadonlySet<status> = new Set([status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.UNIMPLEMENTED]);

/**
 * Calls Status on the socket. An answer that says what is wrong is an answer.
 * @returns why there was none
 */
export async function callSelf(socket: string): Promise<string | undefined> {
  // A connection of its own each time: one from before would not notice that the socket is gone.
  const options = { "grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0 };
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), options);
  try {
    return await new Promise((done) => {
      const { fullName, methods } = IpamServiceDefinition;
      client.makeUnaryRequest(
        `/${fullName}/${methods.status.name}`,
        (request: StatusRequest) => Buffer.from(StatusRequest.encode(request).finish()),
        (bytes: Buffer) => bytes,
        {},
        { deadline: Date.now() + DEADLINE_MS },
        (error: ServiceError | null) =>
          done(error !== null && DEAD.has(error.code) ? `${socket}: ${error.details}` : undefined),
      );
    });
  } finally {
    client.close();
  }
}
