// SPDX-License-Identifier: Apache-2.0
//
// npm run build [-- --arch x64|arm64] [--force] [--faults]
//
// Writes the programs into dist/ (dist/<arch>/ for another machine than this one). What is up to date is left alone.
// --faults writes the torture test's programs into build/faults/ instead.

import { existsSync } from "node:fs";
import { chmod, copyFile, link, mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packDaemon } from "./pack/daemon.ts";
import type { Variant } from "./pack/faults.ts";
import { compilePlugin } from "./pack/plugin.ts";
import { hostArch, runtimes } from "./pack/runtimes.ts";
import { isCurrent, writeStamp } from "./pack/stamp.ts";
import { type Arch, explain, ROOT, StepError, say } from "./repo.ts";

/** An executable that goes by two names: the program looks at the one it was started by. */
interface Program {
  readonly name: string;
  readonly alias: string;
  /** Writes the executable and returns its sources. */
  make(arch: Arch, variant: Variant, scratch: string, out: string): Promise<string[]>;
}

/** Where the programs of the torture test are. */
export const FAULTS_DIST = join("build", "faults");

const PROGRAMS: readonly Program[] = [
  {
    name: "flatnet",
    alias: "flatnet-ipam",
    make: compilePlugin,
  },
  {
    name: "flatnetd",
    alias: "flatnetctl",
    make: async (arch, variant, scratch, out) => packDaemon(await runtimes(arch), arch, variant, scratch, out),
  },
];

/** Brings every program up to date and reports a line for each output. Throws StepError when one cannot be made. */
export async function buildAll(
  arch: Arch,
  force: boolean,
  report: (line: string) => void,
  variant: Variant = "release",
): Promise<void> {
  for (const program of PROGRAMS) await buildOne(program, arch, variant, force, report);
}

async function buildOne(
  program: Program,
  arch: Arch,
  variant: Variant,
  force: boolean,
  report: (line: string) => void,
): Promise<void> {
  const started = performance.now();
  const root = variant === "faults" ? FAULTS_DIST : "dist";
  const dist = arch === hostArch() ? root : join(root, arch);
  const outputs = [join(dist, program.name), join(dist, program.alias)];
  const stampPath = join(ROOT, "build", `stamp-${arch}-${variant}-${program.name}.json`);
  const current = !force && (await isCurrent(stampPath));
  if (!current) {
    await mkdir(join(ROOT, "build"), { recursive: true });
    const scratch = await mkdtemp(join(ROOT, "build", `${program.name}-`));
    try {
      const made = join(scratch, program.name);
      const sources = await program.make(arch, variant, scratch, made);
      // A packager that fails may leave half an executable and even exit with 0.
      if (!existsSync(made)) throw new StepError(`${program.name} was not written`);
      await install(made, scratch, outputs);
      await writeStamp(stampPath, sources, outputs);
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  }
  const took = current ? "up to date" : `${((performance.now() - started) / 1000).toFixed(1)} s`;
  for (const path of outputs) {
    const { size } = await stat(join(ROOT, path));
    const what = path === outputs[0] || current ? took : "hard link";
    report(`${path.padEnd(24)} ${(size / 1e6).toFixed(0).padStart(4)} MB  ${what}`);
  }
}

/**
 * Puts the executable in place under all its names, each by a rename, so that a name never stands for half a file and a
 * running program keeps its own. The copy on the way is worth its time: pages of a file that was written in one piece
 * front to back are mapped in cheaper, which took 10 ms and 15 MB off the daemon's start.
 */
async function install(made: string, scratch: string, outputs: readonly string[]): Promise<void> {
  await mkdir(join(ROOT, outputs[0] as string, ".."), { recursive: true });
  const copy = join(scratch, "installed");
  await copyFile(made, copy);
  await chmod(copy, 0o755);
  for (const [at, path] of outputs.entries()) {
    const name = join(scratch, `name-${at}`);
    await link(copy, name);
    await rename(name, join(ROOT, path));
  }
}

if (import.meta.main) {
  try {
    const flag = { type: "boolean", default: false } as const;
    const { values } = parseArgs({ options: { arch: { type: "string" }, force: flag, faults: flag } });
    const arch = values.arch ?? hostArch();
    if (arch !== "x64" && arch !== "arm64") throw new StepError(`--arch ${arch}: must be x64 or arm64`);
    await buildAll(arch, values.force, say, values.faults ? "faults" : "release");
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode = 1;
  }
}
