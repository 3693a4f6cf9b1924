// SPDX-License-Identifier: Apache-2.0
//
// Peak memory of plugins: the greatest resident set of any process of an operation, children that a plugin starts included
// (ru_maxrss, getrusage(2)). A process has its parent's until exec, and that counts: so GNU time is in between, which is
// smaller than any plugin. It takes time itself; who is weighed isn't timed.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Cleanup } from "../test/helpers/daemon.ts";
import type { Measured, Operation } from "./operation.ts";

/** What runs one operation: the worker, or scales in front of it. */
export interface Runner<Of extends Measured = Measured> {
  /** @throws CommandError with what the plugin said that failed */
  one(operation: Operation): Promise<Of>;
}

export interface Weighed extends Measured {
  /** In MB of 1,000,000 bytes. */
  readonly peakMB: number;
}

const TIME = "/usr/bin/time";

/** The operation, with the peak of each of its steps appended to a file, a line of kB each. Pure. */
export function weighedInto(file: string, { steps, ...rest }: Operation): Operation {
  const time = [TIME, "--quiet", "--format=%M", "--append", `--output=${file}`, "--"];
  return { ...rest, steps: steps.map((step) => ({ ...step, argv: [...time, ...step.argv] })) };
}

/** @param lines kB each; at least one */
export function greatestMB(lines: string): number {
  const peaks = lines.trim().split("\n").map(Number);
  const greatest = Math.max(...peaks);
  if (!(greatest > 0)) throw new Error(`GNU time told no peak memory: ${lines}`);
  return (greatest * 1024) / 1e6;
}

export class Scales implements Runner<Weighed> {
  readonly #runner: Runner;
  readonly #directory: string;
  #weighed = 0;

  constructor(runner: Runner, cleanup: Cleanup) {
    this.#runner = runner;
    this.#directory = mkdtempSync(join(tmpdir(), "flatnet-bench-"));
    cleanup.add(() => rmSync(this.#directory, { recursive: true, force: true }));
  }

  async one(operation: Operation): Promise<Weighed> {
    const file = join(this.#directory, `${this.#weighed++}`);
    const measured = await this.#runner.one(weighedInto(file, operation));
    const peakMB = greatestMB(readFileSync(file, "utf8"));
    rmSync(file);
    return { ...measured, peakMB };
  }
}
