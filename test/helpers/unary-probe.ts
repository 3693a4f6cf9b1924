// SPDX-License-Identifier: Apache-2.0
//
// Run by Bun: one call with the plugin's client and the plugin's system calls, as the JSON in the first argument says
// (UnaryOptions, with the message as base64), and its outcome as one line of JSON.
import { callUnary, RpcError, type UnaryOptions } from "../../src/grpc/client.ts";
import { sys } from "../../src/sys/bun.ts";

/** What the probe prints. */
export type ProbeOutcome =
  | { readonly response: string }
  | {
      readonly code: string;
      readonly status: number;
      readonly retryable: boolean;
      readonly message: string;
      /** Code of the error's cause. */
      readonly cause?: string;
    };

/** What the probe is given. */
export type ProbeOptions = Omit<UnaryOptions, "message"> & { readonly message: string };

function outcomeOf(options: ProbeOptions): ProbeOutcome {
  try {
    const message = new Uint8Array(Buffer.from(options.message, "base64"));
    return { response: Buffer.from(callUnary(sys, { ...options, message })).toString("base64") };
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    const { code, status, retryable, message } = error;
    const cause = (error.cause as { code?: string } | undefined)?.code;
    return { code, status, retryable, message, ...(cause !== undefined && { cause }) };
  }
}

process.stdout.write(JSON.stringify(outcomeOf(JSON.parse(process.argv[2] ?? "") as ProbeOptions)));
