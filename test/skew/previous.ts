// SPDX-License-Identifier: Apache-2.0
//
// The programs of the version before this one, built from the repository's own history: what a node runs in the middle of
// an upgrade is those very programs, and no recording of what they once said would notice what they can't bear.
//
// They are built with the packages of their own lockfile: another version may be made with other tools.

import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { mustRun, ROOT, run, StepError } from "../../scripts/repo.ts";
import type { Programs } from "../helpers/flatnet-node.ts";

/** The last release. Moves with each. */
export const PREVIOUS = "a0a3d5e742513a96078cdcfb54df66c501747ee0";

/** What to tell people then. */
export const NO_HISTORY =
  "the skew test builds the release before this one from git's history, which doesn't reach back to it here: " +
  "`git fetch --unshallow`, or test in a whole clone";

/** Whether the last release is in the history that this checkout has. A shallow clone, or a tree without git, doesn't have it. */
export async function hasPrevious(): Promise<boolean> {
  return (await run("git", ["cat-file", "-e", `${PREVIOUS}^{commit}`])).code === 0;
}

/** Builds them once a checkout. @throws StepError when the repository's history doesn't reach that far back */
export async function previousPrograms(): Promise<Programs> {
  const tree = join(ROOT, "build", `previous-${PREVIOUS}`);
  const programs = { flatnet: join(tree, "dist", "flatnet"), flatnetd: join(tree, "dist", "flatnetd") };
  if (existsSync(tree)) return programs;
  if (!(await hasPrevious())) throw new StepError(NO_HISTORY);
  const scratch = `${tree}.${process.pid}`;
  try {
    await mkdir(scratch, { recursive: true });
    const archive = join(scratch, "tree.tar");
    await mustRun("git", ["archive", `--output=${archive}`, PREVIOUS]);
    await mustRun("tar", ["-xf", archive, "-C", scratch]);
    await rm(archive);
    await mustRun("npm", ["ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"], { cwd: scratch });
    await mustRun(process.execPath, [join(scratch, "scripts", "build.ts")], { cwd: scratch });
    await rm(join(scratch, "node_modules"), { recursive: true });
    await rename(scratch, tree);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return programs;
}
