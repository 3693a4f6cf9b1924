// SPDX-License-Identifier: Apache-2.0
//
// Runs plugins and measures them, in the network namespace of a node. A program of its own, that waits for nothing but the
// plugins while they run. One Batch a line on stdin, one BatchResult a line on stdout.
import { createInterface } from "node:readline";
import { type Command, type Ended, start, waitForAny } from "./child.ts";
import type { Batch, BatchResult, Measured, Operation } from "./operation.ts";

/** The processes of an operation, one after the other. */
type Measuring = Generator<Command, Measured, Ended>;

function* measure({ steps, prevResult }: Operation): Measuring {
  let previous: object | undefined = prevResult;
  let [cpuMs, output] = [0, ""];
  const started = performance.now();
  const encode = (conf: object) => new TextEncoder().encode(JSON.stringify(conf));
  for (const step of steps) {
    const stdin = encode(previous === undefined ? step.conf : { ...step.conf, prevResult: previous });
    const ended = yield { argv: step.argv, env: step.env, stdin };
    cpuMs += ended.cpuMs;
    output = ended.stdout;
    if (ended.status !== 0) {
      const failure = `${step.argv.join(" ")} ended with ${ended.status}: ${output}`;
      return { wallMs: performance.now() - started, cpuMs, output, failure };
    }
    if (output.trim() !== "") previous = JSON.parse(output);
  }
  return { wallMs: performance.now() - started, cpuMs, output };
}

function runBatch({ operations, inFlight }: Batch): BatchResult {
  const measured = new Array<Measured>(operations.length);
  const waiting = operations.entries();
  /** By the pid of the process that it waits for. */
  const running = new Map<number, readonly [at: number, measuring: Measuring]>();
  const begin = () => {
    const { value } = waiting.next();
    if (value !== undefined) proceed(value[0], measure(value[1]));
  };
  const proceed = (at: number, measuring: Measuring, ...ended: [] | [Ended]) => {
    const { done, value } = measuring.next(...ended);
    if (!done) {
      running.set(start(value), [at, measuring]);
      return;
    }
    measured[at] = value;
    begin();
  };
  const started = performance.now();
  for (let lane = 0; lane < inFlight; lane++) begin();
  while (running.size > 0) {
    const ended = waitForAny();
    const [at, measuring] = running.get(ended.pid) as readonly [number, Measuring];
    running.delete(ended.pid);
    proceed(at, measuring, ended);
  }
  return { wallMs: performance.now() - started, measured };
}

for await (const line of createInterface(process.stdin))
  process.stdout.write(`${JSON.stringify(runBatch(JSON.parse(line)))}\n`);
