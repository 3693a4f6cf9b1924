// SPDX-License-Identifier: Apache-2.0
//
// npm run lab [-- options]
//
// The main job: builds what is not up to date, then runs `flatnetctl lab` with the same options in this terminal.

import { spawn } from "node:child_process";
import { constants } from "node:os";
import { join } from "node:path";
import { buildAll } from "./build.ts";
import { BGP_LAB_NEEDS, ensureDebian, LAB_NEEDS } from "./debian.ts";
import { hostArch } from "./pack/runtimes.ts";
import { explain, ROOT } from "./repo.ts";

/** Runs the lab to its end and returns the exit code that a shell would show for it. */
function runLab(args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(ROOT, "dist", "flatnetctl"), ["lab", ...args], { stdio: "inherit" });
    const forward = (signal: NodeJS.Signals): void => {
      // The terminal sends Ctrl-C to the lab as well; a second one could look like impatience.
      if (signal !== "SIGINT" || process.stdin.isTTY !== true) child.kill(signal);
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, forward);
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  });
}

try {
  await ensureDebian(/(^| )--topology[= ]bgp( |$)/.test(process.argv.join(" ")) ? BGP_LAB_NEEDS : LAB_NEEDS);
  // The lab's own output may be JSON for another program.
  await buildAll(hostArch(), false, (line) => process.stderr.write(`${line}\n`));
  process.exit(await runLab(process.argv.slice(2)));
} catch (error) {
  process.stderr.write(`${explain(error)}\n`);
  process.exitCode = 1;
}
