// SPDX-License-Identifier: Apache-2.0
//
// What may be in the plugin. It starts for every verb of every pod, so its size is its speed: a library or a part of the
// daemon that slips in by one import is a mistake, and it fails the build.

import { StepError } from "../repo.ts";

/**
 * Bytes of minified JavaScript. Raise it only with a measurement of a start beside it (`npm run bench -- --case anatomy`): what isn't
 * used costs little, since a start has it already, but all of it has room in the image of the heap, which is a megabyte.
 */
const BUDGET = 112 * 1024;

/** Everything outside node_modules and src is refused, and so is everything that matches none of these. */
const ALLOWED = [
  /^src\/(bin|cni|gen|grpc|net|netlink|nft|podnet|sys)\//,
  // Reading and writing of varints and fields; nothing that knows descriptors or reflection.
  /^node_modules\/@bufbuild\/protobuf\/dist\/(esm|cjs)\/(wire\/|proto-int64\.js$)/,
];

/** Throws StepError that names every file that does not belong into the plugin, or its size over the budget. */
export function guardPlugin(inputs: readonly string[], bytes: number): void {
  const strangers = new Set(inputs.filter((path) => !ALLOWED.some((rule) => rule.test(path))).map(packageOrFile));
  const problems = [...strangers].map((name) => `the plugin's bundle must not contain ${name}`);
  if (bytes > BUDGET)
    problems.push(`the plugin's bundle has ${bytes} bytes of JavaScript, over the budget of ${BUDGET}`);
  if (problems.length > 0) throw new StepError(`scripts/pack/guard.ts refuses the plugin:\n${problems.join("\n")}`);
}

/** A file of ours by its path; of a package only its name, since one import brings in dozens of its files. */
function packageOrFile(path: string): string {
  return /^node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? path;
}
