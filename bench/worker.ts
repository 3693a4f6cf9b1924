// SPDX-License-Identifier: Apache-2.0
//
// Runs plugins and measures them, in the network namespace of a node. A program of its own, on Bun, because Bun starts
// processes with little of its own in between and tells what each has cost (wait4). One Batch a line on stdin, one
// BatchResult a line on stdout.
import { createInterface } from "node:readline";
import { spawn, spawnSync } from "bun";
import type { Batch, BatchResult, Measured, Operation, Step } from "./operation.ts";

/** What one process cost. */
interface Run {
  readonly cpuMs: number;
  readonly status: number | null;
  readonly output: string;
}

type Runner = (step: Step, stdin: Uint8Array) => Run | Promise<Run>;

const alone: Runner = ({ argv, env }, stdin) => {
  const child = spawnSync([...argv], { env: { ...env }, stdin, stdout: "pipe", stderr: "ignore" });
  return toRun(child.resourceUsage, child.exitCode, child.stdout.toString());
};

const amongOthers: Runner = async ({ argv, env }, stdin) => {
  const child = spawn([...argv], { env: { ...env }, stdin, stdout: "pipe", stderr: "ignore" });
  const output = await new Response(child.stdout).text();
  const status = await child.exited;
  return toRun(child.resourceUsage() as NonNullable<ReturnType<typeof child.resourceUsage>>, status, output);
};

function toRun(usage: { cpuTime: { total: number | bigint } }, status: number | null, output: string) {
  // Microseconds. Peak memory isn't told: before exec the child had this program's, and that counts.
  return { cpuMs: Number(usage.cpuTime.total) / 1000, status, output };
}

async function measure({ steps, prevResult }: Operation, run: Runner): Promise<Measured> {
  let previous: object | undefined = prevResult;
  let [cpuMs, output] = [0, ""];
  const started = performance.now();
  const encode = (conf: object) => new TextEncoder().encode(JSON.stringify(conf));
  for (const step of steps) {
    const stdin = encode(previous === undefined ? step.conf : { ...step.conf, prevResult: previous });
    const running = run(step, stdin);
    const done = running instanceof Promise ? await running : running;
    cpuMs += done.cpuMs;
    output = done.output;
    if (done.status !== 0) {
      const failure = `${step.argv.join(" ")} ended with ${done.status}: ${output}`;
      return { wallMs: performance.now() - started, cpuMs, output, failure };
    }
    if (output.trim() !== "") previous = JSON.parse(output);
  }
  return { wallMs: performance.now() - started, cpuMs, output };
}

async function runBatch({ operations, inFlight }: Batch): Promise<BatchResult> {
  const run = inFlight === 1 ? alone : amongOthers;
  const measured = new Array<Measured>(operations.length);
  const waiting = operations.entries();
  const started = performance.now();
  const lane = async () => {
    for (const [i, operation] of waiting) measured[i] = await measure(operation, run);
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  return { wallMs: performance.now() - started, measured };
}

for await (const line of createInterface(process.stdin))
  process.stdout.write(`${JSON.stringify(await runBatch(JSON.parse(line)))}\n`);
