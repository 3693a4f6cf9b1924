// SPDX-License-Identifier: Apache-2.0
//
// A node of the fault build: its daemon comes back whenever it ends, as under systemd, its state is on a small disk of its
// own that can be filled, and its wall clock can be set.

import { type ChildProcess, spawn } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FAULTS_DIST } from "../../scripts/build.ts";
import { ROOT } from "../../scripts/repo.ts";
import { type Cleanup, type Finished, run, runToEnd, waitFor } from "../helpers/daemon.ts";
import { FlatnetNode, type NodeOptions } from "../helpers/flatnet-node.ts";
import { createNetns, inNetns } from "../helpers/netns.ts";

/** Of the daemon's state; a database of this test has a few. */
const DISK_MB = 48;

/** A daemon that ends for want of disk says so within this time of its end, in milliseconds. */
const TROUBLE_LASTS_MS = 3_000;

export interface PluginRun {
  readonly env: Record<string, string>;
  readonly conf: object;
  /** The fault point at which it is to end. */
  readonly fault: string | undefined;
  /** Milliseconds after which it is killed. */
  readonly killAfterMs: number | undefined;
}

/** What a daemon's start is armed with: "daemon.batch-written:0.1,…". */
type Arm = () => string;

export class DisturbedNode extends FlatnetNode {
  /** What a daemon did that it must not. */
  readonly problems: string[] = [];
  readonly #files: string;
  #arm: Arm = () => "";
  #delayMs: () => number = () => 0;
  #child: ChildProcess | undefined;
  #keeping: Promise<void> | undefined;
  #wanted = false;
  #ballast = false;
  #ballastUntil = Number.NEGATIVE_INFINITY;
  /** Of the daemon that runs now. */
  #output = "";

  constructor(netns: FlatnetNode["netns"], directory: string, options: NodeOptions) {
    super(netns, directory, options);
    this.#files = directory;
  }

  override command(...flags: string[]): string[] {
    return this.netns.command(join(ROOT, FAULTS_DIST, "flatnetd"), ...flags);
  }

  get faultLog(): string {
    return join(this.#files, "faults.log");
  }

  get daemonLog(): string {
    return join(this.#files, "daemon.log");
  }

  /** Where the daemon installs the plugin. */
  get binDir(): string {
    return join(this.#files, "bin");
  }

  /** Where it writes the conflist. */
  get confDir(): string {
    return join(this.#files, "net.d");
  }

  /** What of the daemon's files is not as it should be, and what is left of those it had begun. */
  fileProblems(): string[] {
    const names = [this.binDir, this.confDir, this.stateDir].flatMap((directory) => readdirSync(directory));
    const begun = names.filter((name) => name.startsWith(".flatnet-part.")).map((name) => `${name} is left over`);
    try {
      const wanted = statSync(join(ROOT, FAULTS_DIST, "flatnet")).size;
      const [plugin, ipam] = ["flatnet", "flatnet-ipam"].map((name) => statSync(join(this.binDir, name)));
      if (plugin?.size !== wanted || ipam?.size !== wanted) begun.push("the plugin is not whole under both names");
      const { plugins } = JSON.parse(readFileSync(join(this.confDir, "10-flatnet.conflist"), "utf8"));
      if (plugins[0].socket !== this.socket) begun.push("the conflist leads to another daemon");
      readFileSync(join(this.stateDir, "footprint.json"));
    } catch (error) {
      begun.push(`a file of the daemon's: ${(error as Error).message}`);
    }
    return begun;
  }

  get #clock(): string {
    return join(this.#files, "clock");
  }

  /** Starts the daemon, and again whenever it ends, until `rest`. Doesn't wait for it. */
  keep(arm: Arm, delayMs: () => number): void {
    this.#arm = arm;
    this.#delayMs = delayMs;
    this.#wanted = true;
    this.#keeping ??= this.#keep();
  }

  /** Ends the daemon by SIGKILL and leaves it so. */
  async rest(): Promise<void> {
    this.#wanted = false;
    this.signal("SIGKILL");
    await this.#keeping;
    this.#keeping = undefined;
  }

  get isServing(): boolean {
    return this.#child !== undefined && this.#output.includes('"msg":"serving"');
  }

  /** Resolves when the daemon serves. */
  serving(): Promise<void> {
    return waitFor(() => this.isServing, { timeoutMs: 30_000 });
  }

  /** @returns whether there was a daemon to be told */
  signal(signal: "SIGKILL" | "SIGTERM"): boolean {
    return this.#child?.kill(signal) ?? false;
  }

  async #keep(): Promise<void> {
    while (this.#wanted) {
      await this.#run();
      if (this.#wanted) await sleep(this.#delayMs());
    }
  }

  async #run(): Promise<void> {
    const env = {
      FLATNET_FAULTS: this.#arm(),
      FLATNET_FAULTS_LOG: this.faultLog,
      FLATNET_CLOCK: this.#clock,
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
    };
    const files = ["--cni-bin-dir", this.binDir, "--cni-conf-dir", this.confDir];
    const argv = ["--pdeathsig", "KILL", "--", ...this.command(...this.flags(...files))];
    const child = spawn("setpriv", argv, { stdio: ["ignore", "pipe", "pipe"], env });
    this.#output = "";
    const hear = (chunk: string) => {
      this.#output += chunk;
      appendFileSync(this.daemonLog, chunk);
    };
    child.stdout.setEncoding("utf8").on("data", hear);
    child.stderr.setEncoding("utf8").on("data", hear);
    const ended = new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve([code, signal]));
    });
    this.#child = child;
    const [code, signal] = await ended;
    this.#child = undefined;
    this.#judgeEnd(code, signal);
  }

  /** Only a full disk may make a daemon give up, and it has to say so. */
  #judgeEnd(code: number | null, signal: NodeJS.Signals | null): void {
    // SIGTERM before it listens for it.
    if (signal === "SIGKILL" || signal === "SIGTERM" || code === 0) return;
    const full = this.#ballast || performance.now() - this.#ballastUntil < TROUBLE_LASTS_MS;
    if (full && code === 1 && this.#output.includes('"level":"fatal"')) return;
    const last = this.#output.trimEnd().split("\n").slice(-20).join("\n");
    this.problems.push(`the daemon ended with ${signal ?? code}:\n${last}`);
  }

  /** Runs a verb. */
  plugin({ env, conf, fault, killAfterMs }: PluginRun): Promise<Finished> {
    const faults = fault === undefined ? {} : { FLATNET_FAULTS: fault, FLATNET_FAULTS_LOG: this.faultLog };
    const argv = inNetns(this.netns.path, join(ROOT, FAULTS_DIST, "flatnet"));
    return runToEnd(argv, {
      env: { ...env, ...faults, FLATNET_CLOCK: this.#clock, CNI_PATH: "/opt/cni/bin" },
      input: this.conf(conf),
      timeoutMs: killAfterMs ?? 60_000,
    });
  }

  /** Leaves as many bytes free on the daemon's disk, and no more. */
  fillDisk(freeBytes: number): void {
    this.#ballast = true;
    const block = Buffer.alloc(64 * 1024);
    const path = join(this.stateDir, "ballast");
    try {
      for (;;) appendFileSync(path, block);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    }
    truncateSync(path, Math.max(0, statSync(path).size - freeBytes));
  }

  emptyDisk(): void {
    rmSync(join(this.stateDir, "ballast"), { force: true });
    if (this.#ballast) this.#ballastUntil = performance.now();
    this.#ballast = false;
  }

  setClock(offsetMs: number): void {
    writeFileSync(this.#clock, `${offsetMs}`);
  }

  faults(): string {
    return readFileSync(this.faultLog, "utf8");
  }
}

/** Makes a node; `keep` starts its daemon. @param directory for its files; the caller's to remove */
export async function createDisturbedNode(
  directory: string,
  cleanup: Cleanup,
  options: NodeOptions,
): Promise<DisturbedNode> {
  const netns = await createNetns("torture", cleanup);
  const node = new DisturbedNode(netns, directory, options);
  mkdirSync(node.stateDir);
  writeFileSync(node.faultLog, "");
  await run(["mount", "-t", "tmpfs", "-o", `size=${DISK_MB}m,mode=700`, "flatnet-torture", node.stateDir]);
  cleanup.add(() => run(["umount", node.stateDir]));
  cleanup.add(() => node.rest());
  return node;
}
