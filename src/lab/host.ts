// SPDX-License-Identifier: Apache-2.0
//
// A lab host: `flatnetctl lab-host`, one process in the namespace of each node and pod. It does what the lab cannot do from
// outside: open sockets there, and run programs there. It ends when its stdin does, so none outlives its lab.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import type { Family } from "../net/address.ts";
import { inParallel } from "./concurrency.ts";
import { messageOf } from "./errors.ts";
import { MAX_LINE, type Reply, type Request, type RunResult } from "./host-protocol.ts";
import { LineSplitter } from "./lines.ts";
import { answerProbes, listOwnAddresses, probe } from "./probe.ts";

/** Probes of one host under way at once. */
const PROBES_AT_ONCE = 16;
/** Most bytes kept of a program's stdout and stderr, each. */
const MAX_OUTPUT = 1 << 20;

/**
 * Serves requests until stdin ends.
 * @param name what it calls itself in its answers: the name of the node or pod.
 * @returns the exit code.
 */
export async function runLabHost(name: string, stdin: Readable, stdout: Writable): Promise<number> {
  const closers: (() => void)[] = [];
  const lines = new LineSplitter(MAX_LINE);
  const say = (reply: Reply) => stdout.write(`${JSON.stringify(reply)}\n`);
  // Nobody is there to hear it any more; stdin's end follows.
  stdout.on("error", () => {});

  const serve = async (id: number, request: Request) => {
    try {
      if (request.op === "listen") {
        const own = await listOwnAddresses();
        closers.push(await answerProbes(name, request.port, request.families as Family[], own));
        say({ id, done: { own: own.map(({ address }) => address) } });
      } else if (request.op === "probe") {
        await inParallel(request.targets, PROBES_AT_ONCE, async (target, index) => {
          say({ id, probed: { index, result: await probe(target, request.timeoutMs) } });
        });
        say({ id, done: { own: (await listOwnAddresses()).map(({ address }) => address) } });
      } else if (request.op === "run") {
        say({ id, done: { run: await run(request) } });
      } else {
        throw new Error(`unknown request ${JSON.stringify(request)}`);
      }
    } catch (error) {
      say({ id, error: messageOf(error) });
    }
  };

  say({ ready: true });
  try {
    for await (const chunk of stdin) {
      for (const line of lines.push(chunk as Buffer)) {
        const { id, ...request } = JSON.parse(line) as Request & { id: number };
        void serve(id, request as Request);
      }
    }
    return 0;
  } finally {
    for (const close of closers) close();
  }
}

function run(request: Extract<Request, { op: "run" }>): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const begun = process.hrtime.bigint();
    const child = spawn(request.command, request.args, { env: request.env, stdio: ["pipe", "pipe", "pipe"] });
    let exit: { code: number; ms: number } | undefined;
    const timer = setTimeout(() => child.kill("SIGKILL"), request.timeoutMs);
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on("exit", (code, signal) => {
      const ms = Number(process.hrtime.bigint() - begun) / 1e6;
      exit = { code: code ?? 128 + (signal === null ? 0 : constants.signals[signal]), ms };
    });
    child.on("close", () => {
      clearTimeout(timer);
      if (exit !== undefined) resolve({ ...exit, stdout: stdout(), stderr: stderr() });
    });
    // A program that ends without reading is judged by its exit code.
    child.stdin.on("error", () => {});
    child.stdin.end(request.stdin);
  });
}

function collect(stream: Readable): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on("data", (chunk: Buffer) => {
    if (size < MAX_OUTPUT) chunks.push(chunk);
    size += chunk.length;
  });
  return () => Buffer.concat(chunks).toString("utf8").slice(0, MAX_OUTPUT);
}
