// SPDX-License-Identifier: Apache-2.0
//
// Makes a script of the tests into an executable, just as the plugin is made: the same engine, host and globals.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundleModule } from "../../scripts/pack/plugin.ts";
import { linkModule } from "../../scripts/pack/quickjs.ts";
import { hostArch } from "../../scripts/pack/runtimes.ts";

/** @param entry a module that imports src/sys/quickjs.ts, by its path from the root */
export async function compileScript(
  entry: string,
): Promise<{ readonly path: string; readonly remove: () => Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), "flatnet-script-"));
  const remove = () => rm(directory, { recursive: true, force: true });
  try {
    const [module, path] = [join(directory, "module.js"), join(directory, "script")];
    await bundleModule(entry, "release", module);
    await linkModule(module, hostArch(), [], directory, path);
    return { path, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
