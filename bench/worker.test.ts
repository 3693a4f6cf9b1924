// SPDX-License-Identifier: Apache-2.0
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { run } from "../test/helpers/daemon.ts";
import type { Batch, BatchResult, Operation, Step } from "./operation.ts";

const SCRIPT = new URL("worker.ts", import.meta.url).pathname;

let worker: ChildProcessWithoutNullStreams;

beforeEach(() => {
  worker = spawn(process.execPath, [SCRIPT]);
});

afterEach(async () => {
  if (worker.exitCode !== null) return;
  const ended = once(worker, "exit");
  worker.stdin.end();
  await ended;
});

async function runBatch(batch: Batch): Promise<BatchResult> {
  const line = once(createInterface(worker.stdout), "line");
  worker.stdin.write(`${JSON.stringify(batch)}\n`);
  return JSON.parse((await line)[0]);
}

const shell = (script: string, conf: object = {}, env: Record<string, string> = {}): Step => {
  return { argv: ["/bin/sh", "-c", script], env: { PATH: "/usr/bin:/bin", ...env }, conf };
};

const alone = async (operation: Operation) => (await runBatch({ operations: [operation], inFlight: 1 })).measured[0];

describe("the worker", () => {
  test("gives a process its environment and its configuration, and tells what it printed", async () => {
    const conf = { name: "n", long: "x".repeat(200_000) };
    const measured = await alone({ steps: [shell('test "$VERB" = ADD && cat', conf, { VERB: "ADD" })] });
    expect(measured?.failure).toBeUndefined();
    expect(JSON.parse(measured?.output ?? "")).toEqual(conf);
  });

  test("gives each step what the one before printed, or what was there before it if it printed nothing", async () => {
    const steps = [shell("cat", { type: "a" }), shell("true"), shell("cat", { type: "b" })];
    const measured = await alone({ steps, prevResult: { ips: [] } });
    expect(JSON.parse(measured?.output ?? "")).toEqual({
      type: "b",
      prevResult: { type: "a", prevResult: { ips: [] } },
    });
  });

  test.each([
    ["exit 7", "7"],
    ["kill -KILL $$", "null"],
    // Node ignores it, which programs that are started inherit.
    ["kill -PIPE $$", "null"],
  ])("tells that a step failed, and starts none behind it: %s", async (script, status) => {
    const measured = await alone({ steps: [shell(`echo no; ${script}`), shell("echo behind")] });
    expect(measured?.failure).toContain(` ended with ${status}: no\n`);
  });

  test("tells what a process has cost, and not what others have", async () => {
    const work = shell("i=0; while [ $i -lt 50000 ]; do i=$((i + 1)); done");
    const { measured } = await runBatch({ operations: [{ steps: [work] }, { steps: [shell("true")] }], inFlight: 2 });
    const [working, idle] = measured;
    expect(idle?.cpuMs).toBeGreaterThan(0);
    expect(working?.cpuMs).toBeGreaterThan(idle?.cpuMs as number);
  });

  test("runs so many at once as it is told, and all of them", async () => {
    const directory = mkdtempSync(join(tmpdir(), "worker-"));
    try {
      // Each even one ends when its odd one runs too.
      const fifos = Array.from({ length: 4 }, (_, n) => join(directory, `${n}`));
      await run(["mkfifo", ...fifos]);
      const steps = fifos.flatMap((fifo, n) => [shell(`read x <${fifo}; echo '"${n}"'`), shell(`echo x >${fifo}`)]);
      const { measured } = await runBatch({ operations: steps.map((step) => ({ steps: [step] })), inFlight: 2 });
      expect(measured.map(({ output }) => output.trim())).toEqual(['"0"', "", '"1"', "", '"2"', "", '"3"', ""]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
