// SPDX-License-Identifier: Apache-2.0
//
// The code generated from proto/ is committed, so that a checkout needs no generator to run. This makes it again beside
// the checkout and compares.

import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { mustRun, ROOT } from "../repo.ts";

const GENERATED = "src/gen";

/** One line for each file of src/gen that is not what proto/ says. */
export async function generatedProblems(): Promise<string[]> {
  await mkdir(join(ROOT, "build"), { recursive: true });
  const copy = await mkdtemp(join(ROOT, "build", "generate-"));
  try {
    for (const name of ["proto", "buf.yaml", "buf.gen.yaml"])
      await cp(join(ROOT, name), join(copy, name), { recursive: true });
    for (const name of ["node_modules", "scripts"]) await symlink(join(ROOT, name), join(copy, name));
    await mustRun("buf", ["generate"], { cwd: copy });
    const [fresh, committed] = [await filesOf(copy), await filesOf(ROOT)];
    const names = [...new Set([...fresh.keys(), ...committed.keys()])].sort();
    return names
      .filter((name) => fresh.get(name) !== committed.get(name))
      .map((name) => `${join(GENERATED, name)} is not what proto/ says: npm run generate`);
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

async function filesOf(root: string): Promise<Map<string, string>> {
  const base = join(root, GENERATED);
  const entries = await readdir(base, { recursive: true, withFileTypes: true });
  const files = new Map<string, string>();
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) files.set(path.slice(base.length + 1), await readFile(path, "utf8"));
  }
  return files;
}
