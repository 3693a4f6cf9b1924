// SPDX-License-Identifier: Apache-2.0
//
// Processes of the tests: commands that are run to their end, daemons that are started and stopped, and the stack that
// undoes what a test made, whatever became of the test.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

/** A command of the tests that failed, or a daemon that did not come up. Its message holds what the process printed. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly code = "COMMAND_FAILED";
}

/** How a command ended. `status` is null when a signal ended it. */
export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Written to the command's stdin, which is empty otherwise. */
  readonly input?: string;
  /** The whole environment; the test's own when missing. */
  readonly env?: Record<string, string>;
  /** The command is killed after this long; 60 s when missing. */
  readonly timeoutMs?: number;
}

/** Runs a command to its end, whatever its exit status. */
export async function runToEnd(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const [command = "", ...args] = argv;
  const child = spawn(command, args, {
    stdio: ["pipe", "pipe", "pipe"],
    timeout: options.timeoutMs ?? 60_000,
    killSignal: "SIGKILL",
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  // A command may end without reading its input; EPIPE is no news then.
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  try {
    await once(child, "close");
  } catch (cause) {
    throw new CommandError(`cannot run ${argv.join(" ")}`, { cause });
  }
  return { status: child.exitCode, stdout: stdout(), stderr: stderr() };
}

/** Runs a command and returns its stdout; any end but exit status 0 is a CommandError. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await runToEnd(argv, options);
  if (status !== 0) {
    throw new CommandError(
      `${argv.join(" ")}: ${status === null ? "killed" : `exit status ${status}`}\n${stderr}${stdout}`,
    );
  }
  return stdout;
}

export interface DaemonOptions {
  readonly argv: readonly string[];
  /** Asked again and again until it says true: the daemon is ready. An exception counts as "not yet". */
  readonly ready: (output: string) => boolean | Promise<boolean>;
  readonly env?: Record<string, string>;
  /** How long to wait for `ready`; 30 s when missing. */
  readonly timeoutMs?: number;
}

/** A process that runs until it is stopped. It dies with the test process, even when that is killed. */
export interface Daemon {
  /** The daemon's own pid, when argv[0] and what it starts in its place exec (nsenter and `ip netns exec` do). */
  readonly pid: number;
  /** What it printed until now, stdout and stderr. */
  output(): string;
  /**
   * Sends a signal, SIGTERM when missing, or closes its stdin, and waits until the process is gone; SIGKILL follows after
   * 10 s. Done at once if it is gone already. Resolves as `exited` does.
   */
  stop(how?: NodeJS.Signals | "close stdin"): Promise<number | null>;
  /** Resolves when the process is gone, with its exit status or null when a signal ended it. */
  readonly exited: Promise<number | null>;
}

/** Starts a daemon and waits until it is ready. If it does not get ready it is killed, and the error holds what it printed. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...options.argv], {
    stdio: ["pipe", "pipe", "pipe"],
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  child.stdin.on("error", () => {});
  const exited = new Promise<number | null>((resolve) => {
    child.on("error", () => resolve(null));
    child.on("exit", (code) => resolve(code));
  });
  const daemon: Daemon = {
    pid: child.pid ?? 0,
    output: () => stdout() + stderr(),
    stop: (how = "SIGTERM") => stopChild(child, exited, how),
    exited,
  };
  try {
    await waitFor(
      () => {
        if (hasEnded(child)) throw new CommandError("it ended");
        return options.ready(daemon.output());
      },
      { timeoutMs: options.timeoutMs ?? 30_000, until: () => hasEnded(child) },
    );
  } catch (cause) {
    await daemon.stop("SIGKILL");
    throw new CommandError(`${options.argv.join(" ")} did not get ready:\n${daemon.output()}`, { cause });
  }
  return daemon;
}

function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}

async function stopChild(
  child: ChildProcess,
  exited: Promise<number | null>,
  how: NodeJS.Signals | "close stdin",
): Promise<number | null> {
  if (how === "close stdin") child.stdin?.end();
  else if (!hasEnded(child)) child.kill(how);
  const giveUp = setTimeout(() => child.kill("SIGKILL"), 10_000);
  const status = await exited;
  clearTimeout(giveUp);
  return status;
}

/**
 * Waits until `condition` says true. While it says false or throws it is asked again; what it threw last is the cause of
 * the error at the end. `until` ends the wait early.
 */
export async function waitFor(
  condition: () => boolean | Promise<boolean>,
  options: { timeoutMs?: number; until?: () => boolean } = {},
): Promise<void> {
  const timeoutMs = options.timeoutMs ?? 10_000;
  const end = performance.now() + timeoutMs;
  let cause: unknown;
  do {
    try {
      if (await condition()) return;
    } catch (error) {
      cause = error;
    }
    if (options.until?.() === true) break;
    await sleep(20);
  } while (performance.now() < end);
  throw new CommandError(`not true within ${timeoutMs} ms`, { cause });
}

function collect(stream: NodeJS.ReadableStream): () => string {
  let text = "";
  stream.setEncoding("utf8");
  stream.on("data", (chunk: string) => {
    text += chunk;
  });
  return () => text;
}

/**
 * What is left to undo, last made first undone. Register each step as soon as it is done, and give `run` to afterEach or
 * afterAll: it does every step even if some fail, and then throws what failed.
 */
export class Cleanup {
  readonly #steps: (() => unknown)[] = [];

  add(step: () => unknown): void {
    this.#steps.push(step);
  }

  async run(): Promise<void> {
    const errors: unknown[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1)
      throw new AggregateError(errors, `${errors.length} steps of the cleanup failed: ${errors.join("; ")}`);
  }
}
