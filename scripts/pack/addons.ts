// SPDX-License-Identifier: Apache-2.0
//
// The native addons of the daemon: where npm put each one's prebuilt file, and the esbuild plugin that makes the bundle
// load it from the executable. Two packages find theirs with node-gyp-build, which looks beside its caller's files, and koffi
// looks for a package of the machine's own; in one bundled file there is nothing beside it.

import { join } from "node:path";
import type { Plugin } from "esbuild";
import { type Arch, ROOT, StepError } from "../repo.ts";

/** Package name (also the asset's name) and its prebuilt file for glibc in node_modules, by machine. */
const ADDONS: Record<string, Record<Arch, string>> = {
  "classic-level": {
    x64: "classic-level/prebuilds/linux-x64/classic-level.node",
    arm64: "classic-level/prebuilds/linux-arm64/classic-level.armv8.node",
  },
  netlink: {
    x64: "netlink/prebuilds/linux-x64/node.napi.node",
    arm64: "netlink/prebuilds/linux-arm64/node.napi.node",
  },
  koffi: {
    x64: "@koromix/koffi-linux-x64/linux_x64/koffi.node",
    arm64: "@koromix/koffi-linux-arm64/linux_arm64/koffi.node",
  },
};

/**
 * What the executable carries: asset name and absolute path of the file.
 * @param modules a node_modules that was made for the machine
 */
export function addonAssets(modules: string, arch: Arch): Record<string, string> {
  return Object.fromEntries(Object.entries(ADDONS).map(([name, files]) => [name, join(modules, files[arch])]));
}

/** Puts addon-loader.ts in the place of node-gyp-build, and of all of koffi's own JavaScript, which only looks for its addon. An addon that is not in the table fails the build. */
export const embeddedAddons: Plugin = {
  name: "embedded-addons",
  setup(build) {
    const loader = JSON.stringify(join(import.meta.dirname, "addon-loader.ts"));
    build.onResolve({ filter: /^node-gyp-build$/ }, ({ importer }) => {
      const name = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(importer)?.[1] ?? importer;
      if (!(name in ADDONS))
        throw new StepError(`${name} loads a native addon that scripts/pack/addons.ts does not know`);
      return { path: name, namespace: "addon" };
    });
    build.onResolve({ filter: /^koffi$/ }, () => ({ path: "koffi", namespace: "addon-itself" }));
    build.onLoad({ filter: /.*/, namespace: "addon-itself" }, ({ path }) => ({
      contents: `const { loadAddon } = require(${loader}); module.exports = loadAddon(${JSON.stringify(path)});`,
      resolveDir: ROOT,
    }));
    build.onLoad({ filter: /.*/, namespace: "addon" }, ({ path }) => ({
      contents: `const { loadAddon } = require(${loader}); module.exports = () => loadAddon(${JSON.stringify(path)});`,
      resolveDir: ROOT,
    }));
  },
};
