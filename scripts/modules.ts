// SPDX-License-Identifier: Apache-2.0
//
// npm ci skips an optional package whose "engines" do not name the Node that npm runs on, without a word. On Debian 12's
// Node 18 that takes the native part of vitest's bundler away. npm on our own Node puts it back.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { mustRun, ROOT, say } from "./repo.ts";

/** Installs what is in the lockfile and not in node_modules, if the part that is known to be left out is missing. */
export async function completeModules(): Promise<void> {
  const native = join(ROOT, "node_modules", "@rolldown", `binding-linux-${process.arch}-gnu`);
  if (existsSync(native)) return;
  say("installing what npm left out for the system's Node");
  // npm is started by "env node", which is ours in the scripts' PATH.
  await mustRun("npm", ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]);
}
