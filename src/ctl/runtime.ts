// SPDX-License-Identifier: Apache-2.0
//
// The container runtime on this node, asked which pods it has (Kubernetes' CRI, runtime.v1). Of the answer two fields are of
// interest, so they are read by their numbers.
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { CtlError } from "./errors.ts";

/** A pod as the runtime has it; its ID is what CNI calls the container's. */
export interface Sandbox {
  readonly id: string;
  /** Not stopped: its network hasn't been taken down. */
  readonly ready: boolean;
}

const METHOD = "/runtime.v1.RuntimeService/ListPodSandbox";
const DEADLINE_MS = 10_000;

/**
 * @param endpoint path of the runtime's socket, with or without "unix://"
 * @throws CtlError CTL_UNREACHABLE
 */
export async function listSandboxes(endpoint: string): Promise<Sandbox[]> {
  const path = endpoint.startsWith("unix://") ? endpoint.slice("unix://".length) : endpoint;
  const client = new Client(`unix:${path}`, credentials.createInsecure(), { "grpc.max_receive_message_length": -1 });
  try {
    return await new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        METHOD,
        () => Buffer.alloc(0),
        decodeSandboxes,
        {},
        { deadline: Date.now() + DEADLINE_MS },
        (error: ServiceError | null, sandboxes?: Sandbox[]) => {
          if (error === null) return resolve(sandboxes ?? []);
          reject(new CtlError("CTL_UNREACHABLE", `the runtime on ${path} can't be asked: ${error.details}`, error));
        },
      );
    });
  } finally {
    client.close();
  }
}

/** ListPodSandboxResponse: items = 1; PodSandbox: id = 1, state = 3 (SANDBOX_READY = 0, which isn't sent). */
export function decodeSandboxes(bytes: Uint8Array): Sandbox[] {
  const reader = new BinaryReader(bytes);
  const sandboxes: Sandbox[] = [];
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) sandboxes.push(decodeSandbox(reader.bytes()));
    else reader.skip(type, field);
  }
  return sandboxes;
}

function decodeSandbox(bytes: Uint8Array): Sandbox {
  const reader = new BinaryReader(bytes);
  let [id, state] = ["", 0];
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) id = reader.string();
    else if (field === 3) state = reader.int32();
    else reader.skip(type, field);
  }
  return { id, ready: state === 0 };
}
