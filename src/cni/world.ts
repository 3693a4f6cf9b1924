// SPDX-License-Identifier: Apache-2.0
import type { Sys } from "../sys/sys.ts";
import type { Environment } from "./args.ts";

/** Everything outside the plugin, given to it by the entry point: the only thing a test has to replace. */
export interface World {
  readonly sys: Sys;
  readonly env: Environment;
  readonly sha256: (text: string) => Uint8Array;
  /** Milliseconds since 1970-01-01T00:00Z. */
  readonly wallClock: () => number;
  /** The process's id, for names of temporary files. */
  readonly pid: number;
  /** W3C trace context of the runtime's call, to be passed on; absent where there is none or it is malformed. */
  readonly traceparent?: string;
}

/** What the entry point is to do: at most one JSON document for stdout, text for stderr, and the exit status. */
export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

/** All went well. Most verbs print nothing then. */
export function succeed(stdout = "", stderr = ""): Outcome {
  return { stdout, stderr, status: 0 };
}
