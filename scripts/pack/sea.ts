// SPDX-License-Identifier: Apache-2.0
//
// One call of pkg, in a process of its own because pkg takes HOME and the current directory for itself. pkg's command
// line cannot give a single script its assets and code cache; the function behind it can.

import { closeSync, copyFileSync, linkSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import sea from "@yao-pkg/pkg/lib-es5/sea.js";
import type { Arch } from "../repo.ts";

/** What to make, as absolute paths. */
export interface SeaJob {
  readonly script: string;
  readonly out: string;
  readonly node: string;
  readonly nodeVersion: string;
  readonly arch: Arch;
  readonly assets: Readonly<Record<string, string>>;
  readonly codeCache: boolean;
}

/** Makes pkg find the executable where it would keep a downloaded one, so that it never downloads. */
function seedCache({ node, nodeVersion, arch }: SeaJob): void {
  const cache = join(homedir(), ".pkg-cache", "sea");
  const name = `node-v${nodeVersion}-linux-${arch}`;
  const bin = join(cache, name, "bin");
  mkdirSync(bin, { recursive: true });
  for (const path of [`${cache}/${name}.tar.gz`, `${cache}/${name}.tar.gz.ok`, `${bin}/node.ok`])
    closeSync(openSync(path, "w"));
  rmSync(`${bin}/node`, { force: true });
  try {
    linkSync(node, `${bin}/node`);
  } catch {
    // Another file system, or one without hard links: a copy does the same.
    copyFileSync(node, `${bin}/node`);
  }
}

const job: SeaJob = JSON.parse(readFileSync(process.argv[2] as string, "utf8"));
seedCache(job);
const seaConfig = {
  assets: job.assets,
  useCodeCache: job.codeCache,
  // NODE_OPTIONS of whoever starts the daemon must not change what it runs.
  execArgvExtension: "none",
};
await sea.default(job.script, {
  targets: [{ nodeRange: `node${job.nodeVersion}`, platform: "linux", arch: job.arch, output: job.out }],
  seaConfig,
} as unknown as Parameters<typeof sea.default>[1]);
