// SPDX-License-Identifier: Apache-2.0
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import { type Cleanup, CommandError } from "../test/helpers/daemon.ts";
import { inNetns, type Netns } from "../test/helpers/netns.ts";
import type { Batch, BatchResult, Measured, Operation } from "./operation.ts";

/** The worker in a node's namespace. One batch at a time. */
export class Worker {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: Interface;
  readonly #ended: Promise<unknown>;

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    this.#lines = createInterface(child.stdout);
    this.#ended = once(child, "exit");
  }

  static async start(node: Netns, cleanup: Cleanup): Promise<Worker> {
    const script = new URL("worker.ts", import.meta.url).pathname;
    const [program = "", ...args] = inNetns(node.path, process.execPath, script);
    const child = spawn(program, args, { stdio: "pipe" });
    child.stderr.pipe(process.stderr);
    cleanup.add(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.stdin.end();
      await ended;
    });
    return new Worker(child);
  }

  async run(batch: Batch): Promise<BatchResult> {
    const line = once(this.#lines, "line");
    this.#child.stdin.write(`${JSON.stringify(batch)}\n`);
    const first = await Promise.race([line, this.#ended.then(() => undefined)]);
    if (first === undefined) throw new CommandError("the worker has ended");
    const result = JSON.parse(first[0] as string) as BatchResult;
    for (const { failure } of result.measured) if (failure !== undefined) throw new CommandError(failure);
    return result;
  }

  /** One operation, alone. @throws CommandError with what the plugin said that failed */
  async one(operation: Operation): Promise<Measured> {
    const { measured } = await this.run({ operations: [operation], inFlight: 1 });
    return measured[0] as Measured;
  }
}
