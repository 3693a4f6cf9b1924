// SPDX-License-Identifier: Apache-2.0
//
// Where things are in this checkout, and how the scripts start other programs: always an argument array, never a shell.

import { type SpawnOptions, spawn } from "node:child_process";
import { delimiter, dirname, join } from "node:path";

/** The checkout's root. Every path in the scripts is made from it, so that the caller's directory does not matter. */
export const ROOT = join(import.meta.dirname, "..");

/** The machines flatnet is built for, in Node's words. */
export type Arch = "x64" | "arm64";

/** Programs out of node_modules come before those of the system, the Node that runs this before all. */
export function toolEnv(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const own = [dirname(process.execPath), join(ROOT, "node_modules", ".bin")];
  const path = [...own, process.env["PATH"] ?? ""].join(delimiter);
  return { ...process.env, PATH: path, ...extra };
}

export interface Outcome {
  /** Exit code; 128 + signal number is not used here: a signal is told by its name. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Both output streams as they came, empty when they were inherited. */
  readonly output: string;
}

/** Runs a program to its end. Rejects only if it could not be started. */
export function run(file: string, args: readonly string[], options: SpawnOptions = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: ROOT, env: toolEnv(), stdio: ["ignore", "pipe", "pipe"], ...options });
    let output = "";
    const collect = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    child.stdout?.on("data", collect);
    child.stderr?.on("data", collect);
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, output }));
  });
}

/** A step of a script that did not do its work. `output` is what the program behind it said. */
export class StepError extends Error {
  override readonly name = "StepError";
  readonly code = "STEP_FAILED";
  readonly output: string;
  constructor(message: string, output = "", options?: ErrorOptions) {
    super(message, options);
    this.output = output;
  }
}

/** Runs a program to its end and throws StepError unless it exits with 0. */
export async function mustRun(file: string, args: readonly string[], options: SpawnOptions = {}): Promise<string> {
  const { code, signal, output } = await run(file, args, options);
  if (code !== 0) throw new StepError(`${file} ${args.join(" ")}: ${signal ?? `exit code ${code}`}`, output);
  return output;
}

/** One line on standard output. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** A failure as text for people: what a failed program printed, then the message and its causes. */
export function explain(error: unknown): string {
  const lines: string[] = [];
  for (let at: unknown = error; at !== undefined; at = at instanceof Error ? at.cause : undefined) {
    if (at instanceof StepError && at.output !== "") lines.unshift(at.output.trimEnd());
    lines.push(at instanceof StepError ? at.message : at instanceof Error ? (at.stack ?? at.message) : String(at));
  }
  return lines.join("\n");
}
