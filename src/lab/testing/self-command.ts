// SPDX-License-Identifier: Apache-2.0

/** Starts a lab host with nothing built: what `LabWorld.selfCommand` is in tests beside the source. */
export const SELF_COMMAND: readonly string[] = [
  process.execPath,
  "--input-type=module",
  "-e",
  `import { runLabHost } from ${JSON.stringify(new URL("../host.ts", import.meta.url).href)};
   process.exit(await runLabHost(process.argv[2], process.stdin, process.stdout));`,
];
