// SPDX-License-Identifier: Apache-2.0
//
// dist/flatnet: the plugin as one executable, compiled by Bun with its bytecode inside.

import { readFile, writeFile } from "node:fs/promises";
import { relative, resolve } from "node:path";
import { mustRun, ROOT, StepError } from "../repo.ts";
import { FAULT_POINT, type Variant } from "./faults.ts";
import { guardPlugin } from "./guard.ts";
import type { Runtimes } from "./runtimes.ts";

const FLAGS = [
  "build",
  "--compile",
  "--target=bun",
  // Bytecode saves parsing at every start; Bun makes it from CommonJS only, so there is no top-level await.
  "--bytecode",
  "--format=cjs",
  "--minify",
  // Code that runs once is not worth compiling: with a tenfold threshold ADD took a sixth less time and an
  // eighth less CPU, each against the reference plugin in its own run.
  "--compile-jit-policy=10",
  "--reject-unresolved",
  // Without these the executable reads .env and bunfig.toml of whatever directory it is started in, and a preload in
  // that bunfig.toml would be run as root.
  "--no-compile-autoload-dotenv",
  "--no-compile-autoload-bunfig",
  "--no-compile-autoload-tsconfig",
  "--no-compile-autoload-package-json",
];

interface Metafile {
  readonly inputs: Record<string, unknown>;
  readonly outputs: Record<string, { readonly bytes: number }>;
}

/**
 * What the runtime looks for in its environment before any line of ours runs. BUN_BE_BUN makes the executable a plain Bun
 * that runs any script, and BUN_OPTIONS can preload one. There is no flag against them. (Who may set LD_PRELOAD needs
 * neither; this is against a variable that was meant for another Bun.)
 */
const VARIABLES = ["BUN_BE_BUN", "BUN_OPTIONS"];

/**
 * Renames them inside the executable to something that no shell, runtime or service manager passes on by accident: their
 * first byte becomes 0x01. A Bun that spells them otherwise fails the build.
 */
async function forgetVariables(executable: string): Promise<void> {
  const bytes = await readFile(executable);
  for (const name of VARIABLES) {
    let found = 0;
    // Bun keeps names without a zero behind them, so a longer name that begins the same would be hit too: there is none.
    for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at + 1)) {
      bytes[at] = 1;
      found++;
    }
    if (found === 0) throw new StepError(`${name} is not in Bun's executable any more: does it go by another name?`);
  }
  await writeFile(executable, bytes);
}

/**
 * Writes the executable and returns the files it was made from, by their path from the root. `host` compiles, `target`
 * is what the executable is made of. strip(1) must never see the result: it cuts off what Bun appended.
 */
export async function compilePlugin(
  host: Runtimes,
  target: Runtimes,
  variant: Variant,
  scratch: string,
  out: string,
): Promise<string[]> {
  const metafile = resolve(scratch, "plugin.meta.json");
  const entry = variant === "faults" ? "src/bin/testing/flatnet.ts" : "src/bin/flatnet.ts";
  const args = [...FLAGS, `--metafile=${metafile}`, `--outfile=${out}`, entry];
  if (variant === "release") args.push(`--drop=${FAULT_POINT}`);
  // Without this Bun would fetch the other machine's executable from the network.
  if (target.bun !== host.bun) args.push(`--compile-executable-path=${target.bun}`);
  await mustRun(host.bun, args);
  await forgetVariables(out);
  const meta: Metafile = JSON.parse(await readFile(metafile, "utf8"));
  const inputs = Object.keys(meta.inputs).map((path) => relative(ROOT, resolve(ROOT, path)));
  const bytes = Object.values(meta.outputs).reduce((sum, output) => sum + output.bytes, 0);
  if (variant === "release") guardPlugin(inputs, bytes);
  return inputs;
}
