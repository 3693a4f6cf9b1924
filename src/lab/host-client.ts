// SPDX-License-Identifier: Apache-2.0
//
// The lab's end of a lab host: starts the process in its namespace and asks it for things.
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import type { Family } from "../net/address.ts";
import { LabError, messageOf } from "./errors.ts";
import { MAX_LINE, type Reply, type Request, type RunResult } from "./host-protocol.ts";
import { LineSplitter, Tail } from "./lines.ts";
import type { Probed, Target } from "./probe.ts";

/** A cold start of the executable from disk takes a quarter of a second; a busy machine many times that. */
const START_TIMEOUT_MS = 30_000;

interface Waiting {
  resolve(done: { own?: readonly string[]; run?: RunResult }): void;
  reject(error: Error): void;
  onProbed?: (index: number, result: Probed) => void;
}

/** A process in a namespace. Whoever starts it must stop it; it also ends when this process does. */
export class LabHost {
  readonly name: string;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #waiting = new Map<number, Waiting>();
  readonly #stderr = new Tail(4096);
  readonly #ended: Promise<void>;
  #next = 1;
  #over: LabError | undefined;
  #ready: { resolve(): void; reject(error: Error): void } | undefined;

  private constructor(name: string, namespace: string, selfCommand: readonly string[]) {
    this.name = name;
    // `ip netns exec` becomes the program it runs, so the child is the lab host itself.
    const words = ["netns", "exec", namespace, ...selfCommand, "lab-host", name];
    this.#child = spawn("ip", words, { detached: true, stdio: ["pipe", "pipe", "pipe"] });
    const lines = new LineSplitter(MAX_LINE);
    this.#child.stdout.on("data", (chunk: Buffer) => {
      try {
        for (const line of lines.push(chunk)) this.#hear(JSON.parse(line) as Reply);
      } catch (cause) {
        this.#fail(
          new LabError("LAB_HOST_FAILED", `the process in ${name} said nonsense: ${messageOf(cause)}`, { cause }),
        );
        this.#child.kill("SIGKILL");
      }
    });
    this.#child.stderr.on("data", (chunk: Buffer) => this.#stderr.push(chunk));
    this.#child.stdin.on("error", () => {});
    this.#ended = new Promise((resolve) => {
      this.#child.on("error", (cause) => {
        this.#fail(
          new LabError("LAB_HOST_FAILED", `the process in ${name} did not start: ${cause.message}`, { cause }),
        );
        resolve();
      });
      this.#child.on("close", (code, signal) => {
        const detail = this.#stderr.lines(10);
        const message = `the process in ${name} ended (${signal ?? `exit code ${code}`})`;
        this.#fail(new LabError("LAB_HOST_FAILED", message, { detail }));
        resolve();
      });
    });
  }

  /** Starts one and waits until it listens to us. */
  static async start(
    name: string,
    namespace: string,
    selfCommand: readonly string[],
    signal: AbortSignal,
  ): Promise<LabHost> {
    signal.throwIfAborted();
    const host = new LabHost(name, namespace, selfCommand);
    const onAbort = () => host.kill();
    signal.addEventListener("abort", onAbort, { once: true });
    const timer = setTimeout(() => {
      host.#fail(new LabError("LAB_HOST_FAILED", `the process in ${name} did not start in ${START_TIMEOUT_MS} ms`));
      host.kill();
    }, START_TIMEOUT_MS);
    void host.#ended.then(() => signal.removeEventListener("abort", onAbort));
    try {
      await new Promise<void>((resolve, reject) => {
        host.#ready = { resolve, reject };
      });
      return host;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Makes it answer probes; returns the addresses it has. */
  async listen(port: number, families: readonly Family[]): Promise<readonly string[]> {
    return (await this.#ask({ op: "listen", port, families })).own ?? [];
  }

  /** Probes every target from there; returns the addresses the host has. */
  async probe(
    targets: readonly Target[],
    timeoutMs: number,
    onProbed: (index: number, result: Probed) => void,
  ): Promise<readonly string[]> {
    return (await this.#ask({ op: "probe", targets, timeoutMs }, onProbed)).own ?? [];
  }

  /** Runs a program there to its end. */
  async run(request: Omit<Extract<Request, { op: "run" }>, "op">): Promise<RunResult> {
    const { run } = await this.#ask({ op: "run", ...request });
    if (run === undefined) throw new LabError("LAB_HOST_FAILED", `the process in ${this.name} gave no result`);
    return run;
  }

  /** Asks it to end and waits for that; after two seconds it is killed. */
  async stop(): Promise<void> {
    this.#child.stdin.end();
    const timer = setTimeout(() => this.kill(), 2000);
    await this.#ended;
    clearTimeout(timer);
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  #ask(request: Request, onProbed?: Waiting["onProbed"]): Promise<{ own?: readonly string[]; run?: RunResult }> {
    return new Promise((resolve, reject) => {
      if (this.#over !== undefined) return reject(this.#over);
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject, ...(onProbed === undefined ? {} : { onProbed }) });
      this.#child.stdin.write(`${JSON.stringify({ id, ...request })}\n`);
    });
  }

  #hear(reply: Reply): void {
    if ("ready" in reply) {
      this.#ready?.resolve();
      return;
    }
    const waiting = this.#waiting.get(reply.id);
    if (waiting === undefined) return;
    if ("probed" in reply) {
      waiting.onProbed?.(reply.probed.index, reply.probed.result);
      return;
    }
    this.#waiting.delete(reply.id);
    if ("error" in reply) waiting.reject(new LabError("LAB_HOST_FAILED", `${this.name}: ${reply.error}`));
    else waiting.resolve(reply.done);
  }

  #fail(error: LabError): void {
    this.#over ??= error;
    this.#ready?.reject(this.#over);
    for (const waiting of this.#waiting.values()) waiting.reject(this.#over);
    this.#waiting.clear();
  }
}
