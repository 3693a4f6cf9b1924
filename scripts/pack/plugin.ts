// SPDX-License-Identifier: Apache-2.0
//
// dist/flatnet: the plugin as one static executable: one bundled module, as bytecode, and the engine that runs it.

import { join } from "node:path";
import { type Arch, StepError } from "../repo.ts";
import { bundle } from "./bundle.ts";
import type { Variant } from "./faults.ts";
import { guardPlugin } from "./guard.ts";
import { linkModule } from "./quickjs.ts";

/** What the engine, whose language is ES2020, has of ES2022, and what esbuild must not leave as it is. */
const LANGUAGE = {
  target: "es2022",
  supported: { "class-static-blocks": false, "class-private-brand-check": false, "top-level-await": false },
};

/** What went into a bundle. Files by their path from the root. */
export interface Bundle {
  /** All that were read. */
  readonly sources: string[];
  /** Those that something of is in the output. */
  readonly inside: string[];
  /** Of JavaScript. */
  readonly bytes: number;
}

/** Bundles an entry point that imports src/sys/quickjs.ts into the file `outfile`. */
export async function bundleModule(entry: string, variant: Variant, outfile: string): Promise<Bundle> {
  const metafile = await bundle(entry, variant, outfile, {
    // Before any other file's first line.
    inject: ["src/sys/quickjs/globals.ts"],
    // Of a module, and not of one big function: a variable of a module is found at once, one of a function by a search.
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    ...LANGUAGE,
    minify: true,
  });
  const [output] = Object.values(metafile.outputs);
  if (output === undefined) throw new StepError(`esbuild wrote nothing for ${entry}`);
  // Of a package's files many are read and only those in use are taken along.
  const inside = Object.entries(output.inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0);
  return { sources: Object.keys(metafile.inputs), inside: inside.map(([path]) => path), bytes: output.bytes };
}

/** Writes the executable and returns the files it was made from, by their path from the root. */
export async function compilePlugin(arch: Arch, variant: Variant, scratch: string, out: string): Promise<string[]> {
  const module = join(scratch, "plugin.js");
  const entry = variant === "faults" ? "src/bin/testing/flatnet.ts" : "src/bin/flatnet.ts";
  const { sources, inside, bytes } = await bundleModule(entry, variant, module);
  if (variant === "release") guardPlugin(inside, bytes);
  const linked = await linkModule(module, arch, variant === "faults" ? ["FAULTS"] : [], scratch, out);
  return [...sources, ...linked];
}
