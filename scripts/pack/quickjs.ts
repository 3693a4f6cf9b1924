// SPDX-License-Identifier: Apache-2.0
//
// Executables of one bundled module: QuickJS, the module's bytecode and host.c, compiled and linked by the machine's C compiler.
// The engine's source comes out of an npm package (its addon for Node isn't built), so the lockfile pins it.

import { existsSync } from "node:fs";
import { mkdir, readFile, realpath, rename, writeFile } from "node:fs/promises";
import { isAbsolute, join, relative } from "node:path";
import { type Arch, mustRun, ROOT, run, StepError } from "../repo.ts";
import { hostArch } from "./runtimes.ts";

/** The folder of the engine's source. */
export const ENGINE = join(ROOT, "node_modules", "qjsc", "deps", "quickjs_2021_03_27");
const HOST = ["host.c", "heap.c", "image.c"].map((name) => join("src", "sys", "quickjs", name));
const HEADERS = ["heap.h", "image.h"].map((name) => join("src", "sys", "quickjs", name));
const COMPILE = join("src", "sys", "quickjs", "compile.c");
const UNITS = ["quickjs", "libregexp", "libunicode", "cutils", "libbf"];

/** A compiler for another machine than this one is called after it. */
const TRIPLE: Record<Arch, string> = { x64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" };
const DEBIAN_ARCH: Record<Arch, string> = { x64: "amd64", arm64: "arm64" };

/** The engine is compiled as its makefile does it, and warns as much. */
const ENGINE_FLAGS = [
  "-O2",
  "-w",
  `-ffile-prefix-map=${ROOT}/=`,
  "-D_GNU_SOURCE",
  "-DCONFIG_BIGNUM",
  '-DCONFIG_VERSION="2021-03-27"',
];
const HOST_FLAGS = [
  "-O2",
  "-Wall",
  "-Wextra",
  "-Wno-unused-parameter",
  "-Werror",
  "-fstack-protector-strong",
  "-fno-strict-aliasing",
];
/** One file that needs nothing of the node it is copied to: no C library, no loader, nothing to relocate at a start. */
const LINK_FLAGS = ["-static", "-no-pie", "-s", "-Wl,--gc-sections", "-Wl,-z,relro,-z,now,-z,noexecstack"];

/** What compiles for a machine. */
interface Toolchain {
  /** The C compiler. */
  readonly cc: string;
  /** Path of the C library that it links into an executable. */
  readonly libc: string;
}

/** Throws StepError that names the packages when the compiler or its C library is missing. */
export async function toolchain(arch: Arch): Promise<Toolchain> {
  const own = arch === hostArch();
  const cc = own ? "cc" : `${TRIPLE[arch]}-gcc`;
  // A compiler without the file gives the name back as it is.
  const libc = await mustRun(cc, ["-print-file-name=libc.a"]).catch(() => null);
  if (libc !== null && isAbsolute(libc)) return { cc, libc: await realpath(libc.trim()) };
  const missing = libc === null ? `there is no ${cc}` : `${cc} has no libc.a to link with`;
  const packages = own ? "gcc libc6-dev" : `gcc-${TRIPLE[arch].replace("_", "-")} libc6-dev-${DEBIAN_ARCH[arch]}-cross`;
  throw new StepError(`${missing}; on Debian: apt-get install --no-install-recommends ${packages}`);
}

/**
 * Writes an executable for `arch` that runs the module in the file `module`. `scratch` is an empty folder.
 * @returns the other files that it is made of, by their path from the root; the engine's are left to the lockfile
 */
export async function linkModule(
  module: string,
  arch: Arch,
  defines: readonly string[],
  scratch: string,
  out: string,
): Promise<string[]> {
  const bytecode = join(scratch, "module.bytecode");
  await mustRun(await compileTool(scratch), [module, bytecode]);
  const { cc, libc } = await toolchain(arch);
  const engine = await engineObjects(arch);
  const runner = await runnerOf(arch);
  const link = async (into: string, ...more: string[]): Promise<void> => {
    const flags = [...HOST_FLAGS, `-isystem${ENGINE}`, `-DBYTECODE="${bytecode}"`, ...more];
    await mustRun(cc, [
      ...flags,
      ...defines.map((name) => `-D${name}`),
      ...HOST,
      ...engine,
      ...LINK_FLAGS,
      "-lm",
      "-o",
      into,
    ]);
  };
  if (runner === undefined) {
    await link(out);
  } else {
    // Runs once to where the module's own top level is done, and writes itself down as it is then.
    const booted = join(scratch, "booted");
    await link(booted, "-DIMAGE");
    const [program = "", ...args] = [...runner, booted, out];
    await mustRun(program, args);
  }
  return [...HOST, ...HEADERS, COMPILE, relative(ROOT, libc)];
}

/**
 * What runs a machine's executables here: nothing for this machine's own, an emulator for another's; undefined when there is none. An
 * executable that can't be run here does at every start what is otherwise done once, by the build.
 */
async function runnerOf(arch: Arch): Promise<readonly string[] | undefined> {
  if (arch === hostArch()) return [];
  const emulator = `qemu-${TRIPLE[arch].split("-", 1)[0]}-static`;
  return (await run(emulator, ["--version"]).catch(() => undefined))?.code === 0 ? [emulator] : undefined;
}

/** The program that makes bytecode, for the machine that builds. */
async function compileTool(scratch: string): Promise<string> {
  const tool = join(scratch, "compile");
  const { cc } = await toolchain(hostArch());
  const engine = await engineObjects(hostArch());
  await mustRun(cc, [...HOST_FLAGS, `-isystem${ENGINE}`, COMPILE, ...engine, "-lm", "-o", tool]);
  return tool;
}

/** The engine's object files, compiled once for each lockfile, compiler flag and machine. */
async function engineObjects(arch: Arch): Promise<string[]> {
  if (!existsSync(ENGINE)) throw new StepError(`${ENGINE} is missing: run npm ci`);
  const folder = join(ROOT, "build", `quickjs-${arch}`);
  await mkdir(folder, { recursive: true });
  const { cc } = await toolchain(arch);
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
