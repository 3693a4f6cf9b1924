// SPDX-License-Identifier: Apache-2.0
//
// Run as the plugin is (quickjs.ts): one call with the plugin's client and the plugin's system calls, as the JSON in the first
// argument says (UnaryOptions, with a text as the message), and its outcome as one line of JSON.
import { callUnary, RpcError, type UnaryOptions } from "../../src/grpc/client.ts";
import { sys } from "../../src/sys/quickjs.ts";

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
    const message = new TextEncoder().encode(options.message);
    return { response: new TextDecoder().decode(callUnary(sys, { ...options, message })) };
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    const { code, status, retryable, message } = error;
    const cause = (error.cause as { code?: string } | undefined)?.code;
    return { code, status, retryable, message, ...(cause !== undefined && { cause }) };
  }
}

host.start = () => {
  const outcome = outcomeOf(JSON.parse(host.argv[1] ?? "") as ProbeOptions);
  for (let rest = new TextEncoder().encode(JSON.stringify(outcome)); rest.length > 0; ) {
    rest = rest.subarray(sys.write(1, rest));
  }
  host.exit(0);
};
