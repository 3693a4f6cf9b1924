// SPDX-License-Identifier: Apache-2.0
//
// Executables of one bundled module: QuickJS, the module's bytecode and host.c, compiled and linked by the machine's C compiler.
// The engine's source comes out of an npm package (its addon for Node isn't built), so the lockfile pins it.

import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Arch, mustRun, ROOT, StepError } from "../repo.ts";
import { hostArch } from "./runtimes.ts";

const ENGINE = join(ROOT, "node_modules", "qjsc", "deps", "quickjs_2021_03_27");
const HOST = join("src", "sys", "quickjs");
const UNITS = ["quickjs", "libregexp", "libunicode", "cutils", "libbf"];

/** Debian's name of each machine; its compiler for another machine than this one is called after it. */
const TRIPLE: Record<Arch, string> = { x64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" };

/** The engine is compiled as its makefile does it, and warns as much. */
const ENGINE_FLAGS = ["-O2", "-w", "-D_GNU_SOURCE", "-DCONFIG_BIGNUM", '-DCONFIG_VERSION="2021-03-27"'];
const HOST_FLAGS = ["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-fstack-protector-strong"];
/** One file that needs nothing of the node it is copied to: no C library, no loader, nothing to relocate at a start. */
const LINK_FLAGS = ["-static", "-no-pie", "-s", "-Wl,--gc-sections", "-Wl,-z,relro,-z,now,-z,noexecstack"];

/** The files that an executable is made of besides its module, by their path from the root. */
export const HOST_SOURCES = [join(HOST, "host.c"), join(HOST, "compile.c")];

/** The C compiler for a machine. Throws StepError that names the package when there is none. */
async function compiler(arch: Arch): Promise<string> {
  const name = arch === hostArch() ? "cc" : `${TRIPLE[arch]}-gcc`;
  await mustRun(name, ["--version"]).catch((cause: unknown) => {
    const debian = arch === hostArch() ? "gcc libc6-dev" : `gcc-${TRIPLE[arch].replace("_", "-")}`;
    throw new StepError(`there is no ${name}: on Debian apt-get install ${debian}`, "", { cause });
  });
  return name;
}

/** Writes an executable for `arch` that runs the module in the file `module`. `scratch` is an empty folder. */
export async function linkModule(
  module: string,
  arch: Arch,
  defines: readonly string[],
  scratch: string,
  out: string,
): Promise<void> {
  const bytecode = join(scratch, "module.bytecode");
  await mustRun(await compileTool(), [module, bytecode]);
  const engine = await engineObjects(arch);
  const flags = [...HOST_FLAGS, `-isystem${ENGINE}`, `-DBYTECODE="${bytecode}"`, ...defines.map((name) => `-D${name}`)];
  await mustRun(await compiler(arch), [...flags, join(HOST, "host.c"), ...engine, ...LINK_FLAGS, "-lm", "-o", out]);
}

/** The program that makes bytecode, for the machine that builds. */
async function compileTool(): Promise<string> {
  const tool = join(ROOT, "build", `quickjs-${hostArch()}`, "compile");
  const engine = await engineObjects(hostArch());
  await mustRun(await compiler(hostArch()), [
    ...HOST_FLAGS,
    `-isystem${ENGINE}`,
    join(HOST, "compile.c"),
    ...engine,
    "-lm",
    "-o",
    tool,
  ]);
  return tool;
}

/** The engine's object files, compiled once for each lockfile, compiler flag and machine. */
async function engineObjects(arch: Arch): Promise<string[]> {
  if (!existsSync(ENGINE)) throw new StepError(`${ENGINE} is missing: run npm ci`);
  const folder = join(ROOT, "build", `quickjs-${arch}`);
  await mkdir(folder, { recursive: true });
  const cc = await compiler(arch);
  const made = JSON.stringify([cc, ENGINE_FLAGS, await readFile(join(ENGINE, "VERSION"), "utf8")]);
  const stamp = join(folder, "stamp");
  const objects = UNITS.map((unit) => join(folder, `${unit}.o`));
  if ((await readFile(stamp, "utf8").catch(() => "")) === made) return objects;
  await Promise.all(
    UNITS.map(async (unit, at) => {
      // Two builds at once must not read each other's halves.
      const half = `${objects[at]}.${process.pid}`;
      await mustRun(cc, [...ENGINE_FLAGS, "-ffunction-sections", "-c", join(ENGINE, `${unit}.c`), "-o", half]);
      await rename(half, objects[at] as string);
    }),
  );
  await writeFile(stamp, made);
  return objects;
}
