// SPDX-License-Identifier: Apache-2.0
//
// What the plugin's executable is made of besides the project's own code, and the texts of the licenses of all there is in the image.

import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { ENGINE, toolchain } from "../pack/quickjs.ts";
import { type Arch, mustRun, ROOT, run } from "../repo.ts";
import type { Component, LicenseText, SbomPackage } from "./sbom.ts";

/** The engine, by what its own files say. */
export async function engineComponent(): Promise<Component> {
  const version = (await readFile(join(ENGINE, "VERSION"), "utf8")).trim();
  const license = await readFile(join(ENGINE, "LICENSE"), "utf8");
  return {
    name: "quickjs",
    version,
    license: "MIT",
    copyright: license
      .split("\n")
      .filter((line) => line.startsWith("Copyright"))
      .join("\n"),
    source: `${relative(join(ROOT, "node_modules"), ENGINE)}, a folder of the npm package`,
    purl: `pkg:generic/quickjs@${version}`,
  };
}

/** The C library that the plugin for a machine is linked with here. */
export async function libcComponent(arch: Arch): Promise<Component> {
  const { cc, libc } = await toolchain(arch);
  const common = { name: "glibc", license: "LGPL-2.1-or-later" };
  const debian = await debianPackage(libc);
  if (debian !== null) {
    const { name, version, architecture } = debian;
    return {
      ...common,
      version,
      source: `${basename(libc)} of Debian's ${name}`,
      purl: `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}&upstream=glibc`,
    };
  }
  const macros = await mustRun(cc, ["-dM", "-E", "-x", "c", "-include", "features.h", "/dev/null"]);
  const part = (macro: string): string => new RegExp(`^#define ${macro} (\\d+)$`, "m").exec(macros)?.[1] ?? "?";
  const version = `${part("__GLIBC__")}.${part("__GLIBC_MINOR__")}`;
  return { ...common, version, source: libc, purl: `pkg:generic/glibc@${version}` };
}

/** The Debian package that a file belongs to; null where there are none. */
async function debianPackage(path: string): Promise<{ name: string; version: string; architecture: string } | null> {
  const found = await run("dpkg-query", ["--search", path]).catch(() => null);
  if (found?.code !== 0) return null;
  // "libc6-dev:amd64: /usr/lib/x86_64-linux-gnu/libc.a"
  const owner = found.output.slice(0, found.output.lastIndexOf(": "));
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own
  const format = "${Package} ${Version} ${Architecture}";
  const [name = "", version = "", architecture = ""] = (
    await mustRun("dpkg-query", ["--show", `--showformat=${format}`, owner])
  ).split(" ");
  return { name, version, architecture };
}

/**
 * The licenses of npm's packages, as the packages bring them, then the engine's, and where the C library's are.
 * @param modules the node_modules that the programs are made from; what isn't there isn't shipped
 */
export async function licenseTexts(
  packages: readonly SbomPackage[],
  modules: string,
  engine: Component,
  libc: Component,
): Promise<LicenseText[]> {
  const texts: LicenseText[] = [];
  for (const { name, versionInfo, licenseDeclared, packageFileName } of packages) {
    if (!packageFileName) continue;
    const folder = join(dirname(modules), packageFileName);
    const files = await readdir(folder).catch(() => null);
    if (files === null) continue;
    const named = files.filter((file) => /^(licen[cs]e|copying|notice)/i.test(file)).sort();
    const read = await Promise.all(named.map((file) => readFile(join(folder, file), "utf8")));
    const text = read.length > 0 ? read.join("\n") : `${licenseDeclared ?? "No license"}, without a text of its own.`;
    texts.push({ of: `${name} ${versionInfo}`, text });
  }
  texts.push({
    of: `${engine.name} ${engine.version}, linked into flatnet`,
    text: await readFile(join(ENGINE, "LICENSE"), "utf8"),
  });
  texts.push({
    of: `${libc.name} ${libc.version}, linked into flatnet`,
    text: `${libc.license}: /usr/share/doc/libc6/copyright and /usr/share/common-licenses/LGPL-2.1 of this image.
The executable is linked anew, with this or another version of it, by \`npm run build\` in the source of flatnet.`,
  });
  return texts;
}
