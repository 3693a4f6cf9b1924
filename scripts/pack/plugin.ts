// SPDX-License-Identifier: Apache-2.0
//
// dist/flatnet: the plugin as one executable, compiled by Bun with its bytecode inside.

import { readFile } from "node:fs/promises";
import { relative, resolve } from "node:path";
import { mustRun, ROOT } from "../repo.ts";
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
  // Code that runs once is not worth compiling: with a tenfold threshold ADD takes a sixth less time and CPU.
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
 * Writes the executable and returns the files it was made from, by their path from the root. `host` compiles, `target`
 * is what the executable is made of. strip(1) must never see the result: it cuts off what Bun appended.
 */
export async function compilePlugin(host: Runtimes, target: Runtimes, scratch: string, out: string): Promise<string[]> {
  const metafile = resolve(scratch, "plugin.meta.json");
  const args = [...FLAGS, `--metafile=${metafile}`, `--outfile=${out}`, "src/bin/flatnet.ts"];
  // Without this Bun would fetch the other machine's executable from the network.
  if (target.bun !== host.bun) args.push(`--compile-executable-path=${target.bun}`);
  await mustRun(host.bun, args);
  const meta: Metafile = JSON.parse(await readFile(metafile, "utf8"));
  const inputs = Object.keys(meta.inputs).map((path) => relative(ROOT, resolve(ROOT, path)));
  guardPlugin(
    inputs,
    Object.values(meta.outputs).reduce((sum, { bytes }) => sum + bytes, 0),
  );
  return inputs;
}
