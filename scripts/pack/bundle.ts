// SPDX-License-Identifier: Apache-2.0
//
// One bundled script out of an entry point and all that it imports, for both programs.

import { type BuildOptions, build, type Metafile } from "esbuild";
import { ROOT, StepError } from "../repo.ts";
import { FAULT_POINT, type Variant } from "./faults.ts";

/**
 * Writes the file `outfile` and returns what went into it.
 * @throws StepError for what esbuild can't do or only warns about
 */
export async function bundle(
  entry: string,
  variant: Variant,
  outfile: string,
  options: BuildOptions,
): Promise<Metafile> {
  const { metafile, warnings } = await build({
    absWorkingDir: ROOT,
    entryPoints: [entry],
    // A call of what isn't there is nothing, and goes.
    define: variant === "release" ? { [FAULT_POINT]: "undefined" } : {},
    outfile,
    bundle: true,
    ...options,
    metafile: true,
    logLevel: "silent",
  }).catch((error: unknown) => {
    throw new StepError(`esbuild could not bundle ${entry}`, error instanceof Error ? error.message : "");
  });
  // A warning is a require() that cannot be followed or an import.meta that is empty in CommonJS: it fails at run time.
  const texts = warnings.map(({ text, location }) => `${location?.file ?? ""}:${location?.line ?? ""} ${text}`);
  if (texts.length > 0) throw new StepError(`esbuild warns about ${entry}`, texts.join("\n"));
  return metafile;
}
