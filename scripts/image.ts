// SPDX-License-Identifier: Apache-2.0
//
// npm run image [-- --arch x64|arm64] [--tag NAME] [--base IMAGE] [--snapshot 20261101T000000Z] [--context-only]
//
// Builds the programs, puts them with the bill of materials into build/image/ARCH, and has the Dockerfile built there, by
// docker or by buildah, whichever works; buildah's image is written to build/image/ARCH.tar. The same sources, compiler,
// base and snapshot make the same image: its times are those of the last commit.

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildAll } from "./build.ts";
import { IMAGE_FILES } from "./image/context.ts";
import { engineComponent, libcComponent, licenseTexts } from "./image/linked.ts";
import { developmentFolders, licenseFile, type Sbom, withLinked, withoutChance } from "./image/sbom.ts";
import { hostArch, runtimes } from "./pack/runtimes.ts";
import { type Arch, explain, mustRun, ROOT, run, StepError, say } from "./repo.ts";

/** The names of the machines in images. */
const PLATFORM: Record<Arch, string> = { x64: "linux/amd64", arm64: "linux/arm64" };

/** What the manifests run. */
export const DEFAULT_TAG = "localhost/flatnet:0.1.0";

interface ImageOptions {
  readonly arch: Arch;
  readonly tag: string;
  readonly buildArgs: Readonly<Record<string, string>>;
}

/** Seconds since 1970 of the last commit. */
async function sourceTime(): Promise<number> {
  return Number((await mustRun("git", ["log", "-1", "--format=%ct"])).trim());
}

/** Makes the directory that the Dockerfile is built in. @returns its path */
async function makeContext(arch: Arch, epoch: number): Promise<string> {
  await buildAll(arch, false, say);
  const context = join(ROOT, "build", "image", arch);
  await rm(context, { recursive: true, force: true });
  await mkdir(context, { recursive: true });
  const dist = join(ROOT, "dist", arch === hostArch() ? "" : arch);
  for (const [name, from] of Object.entries(IMAGE_FILES)) {
    if (from === "dist") await copyFile(join(dist, name), join(context, name));
    if (from === "source") await copyFile(join(ROOT, name), join(context, name));
  }
  const npm = await mustRun("npm", ["sbom", "--package-lock-only", "--sbom-format", "spdx"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const development = developmentFolders(await readFile(join(ROOT, "package-lock.json"), "utf8"));
  const [engine, libc] = [await engineComponent(), await libcComponent(arch)];
  const sbom = withLinked(JSON.parse(npm) as Sbom, development, engine, [libc]);
  await writeFile(join(context, "sbom.spdx.json"), withoutChance(sbom, epoch));
  const { modules } = await runtimes(arch);
  await writeFile(join(context, "licenses.txt"), licenseFile(await licenseTexts(sbom.packages, modules, engine, libc)));
  return context;
}

async function works(file: string, ...args: string[]): Promise<boolean> {
  return await run(file, args).then(
    ({ code }) => code === 0,
    () => false,
  );
}

async function buildImage(context: string, epoch: number, { arch, tag, buildArgs }: ImageOptions): Promise<void> {
  const given = Object.entries({ ...buildArgs, SOURCE_DATE_EPOCH: String(epoch) });
  const common = [...given.flatMap(([name, value]) => ["--build-arg", `${name}=${value}`]), "--tag", tag];
  const options = { cwd: context, stdio: "inherit" } as const;
  if (await works("docker", "version")) {
    const output = "type=docker,rewrite-timestamp=true";
    await mustRun(
      "docker",
      ["buildx", "build", "--platform", PLATFORM[arch], "--output", output, ...common, "."],
      options,
    );
    say(`${tag} is in docker`);
    return;
  }
  if (await works("buildah", "--version")) {
    const build = ["build", "--platform", PLATFORM[arch], "--timestamp", String(epoch), "--isolation", "chroot"];
    await mustRun("buildah", [...build, ...common, "."], options);
    const archive = join(ROOT, "build", "image", `${arch}.tar`);
    await rm(archive, { force: true });
    await mustRun("buildah", ["push", tag, `docker-archive:${archive}:${tag}`], { stdio: "inherit" });
    say(archive);
    return;
  }
  throw new StepError(`neither docker nor buildah works here; ${context} has all that the image is made of`);
}

if (import.meta.main) {
  try {
    const text = { type: "string" } as const;
    const { values } = parseArgs({
      options: {
        arch: text,
        tag: text,
        base: text,
        snapshot: text,
        "context-only": { type: "boolean", default: false },
      },
    });
    const { arch = hostArch(), tag = DEFAULT_TAG, base, snapshot } = values;
    if (arch !== "x64" && arch !== "arm64") throw new StepError(`--arch ${arch}: must be x64 or arm64`);
    if (snapshot !== undefined && !/^\d{8}T\d{6}Z$/.test(snapshot)) {
      throw new StepError(`--snapshot ${snapshot}: must be a time like 20261101T000000Z`);
    }
    const epoch = await sourceTime();
    const context = await makeContext(arch, epoch);
    say(context);
    const buildArgs = {
      ...(base !== undefined && { BASE: base }),
      ...(snapshot !== undefined && { DEBIAN_SNAPSHOT: snapshot }),
    };
    if (!values["context-only"]) await buildImage(context, epoch, { arch, tag, buildArgs });
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode = 1;
  }
}
