// SPDX-License-Identifier: Apache-2.0
//
// Runs a program as a runtime runs a plugin: parameters in the environment, configuration on stdin. Bounded in time and
// output, whatever the program does.

import { spawn } from "node:child_process";

/** Most bytes kept of each stream. A result is a few hundred; more than this is a fault by itself. */
const OUTPUT_MAX = 1 << 20;

/** The whole environment of a call. */
export type Environment = Readonly<Record<string, string>>;

/** One run of the plugin: what was sent and what came back. */
export interface Call {
  readonly env: Environment;
  readonly stdin: string | Uint8Array;
  readonly stdout: string;
  readonly stderr: string;
  /** Exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly signal: string | null;
  /** It did not end by itself, or said without end, and was killed. */
  readonly killedFor: "time" | "output" | null;
}

export interface RunOptions {
  readonly env: Environment;
  readonly stdin: string | Uint8Array;
  readonly timeoutMs: number;
}

/** Never rejects for what the program does; only when it can't be started. */
export function runBounded(argv: readonly string[], { env, stdin, timeoutMs }: RunOptions): Promise<Call> {
  return new Promise((resolve, reject) => {
    const [file = "", ...args] = argv;
    // A group of its own, so that what the plugin starts (delegates) ends with it.
    const child = spawn(file, args, { env: { ...env }, stdio: ["pipe", "pipe", "pipe"], detached: true });
    let killedFor: Call["killedFor"] = null;
    const kill = (why: "time" | "output"): void => {
      killedFor ??= why;
      killGroup(child.pid);
      // A descendant that left the group may hold the pipes open for ever.
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
    };
    const timer = setTimeout(() => kill("time"), timeoutMs);
    const collect = (stream: NodeJS.ReadableStream): (() => string) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      stream.on("error", () => {});
      stream.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > OUTPUT_MAX) kill("output");
        else chunks.push(chunk);
      });
      return () => Buffer.concat(chunks).toString("utf8");
    };
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    child.stdin.on("error", () => {}); // A program may end without reading all: EPIPE is no news.
    child.stdin.end(stdin);
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on("close", (status, signal) => {
      clearTimeout(timer);
      resolve({ env, stdin, stdout: stdout(), stderr: stderr(), status, signal, killedFor });
    });
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    // It ended a moment ago.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
