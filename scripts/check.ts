// SPDX-License-Identifier: Apache-2.0
//
// npm run check
//
// Everything that can be said about the code without running it. Every check runs to its end, so that one run shows all
// there is to mend.

import { generatedProblems } from "./check/generated.ts";
import { importProblems, readSources } from "./check/imports.ts";
import { explain, run, say } from "./repo.ts";

/** A check's name and what it finds wrong: text for people, empty when all is well. */
type Check = readonly [name: string, find: () => Promise<string>];

const CHECKS: readonly Check[] = [
  ["types", () => program("tsc", ["--pretty", "false"])],
  ["types of the plugin", () => program("tsc", ["--pretty", "false", "--project", "tsconfig.plugin.json"])],
  // A warning that nobody has to act on is noise: here they count.
  ["format and lint", () => program("biome", ["check", "--error-on-warnings", "--colors=off", "."])],
  ["proto lint", () => program("buf", ["lint"])],
  ["generated code", async () => (await generatedProblems()).join("\n")],
  ["import direction", async () => importProblems(readSources()).join("\n")],
];

async function program(file: string, args: readonly string[]): Promise<string> {
  const { code, signal, output } = await run(file, args);
  return code === 0 ? "" : output.trim() || `${file} ended with ${signal ?? code}`;
}

/** Runs all checks, prints a line for each and what it found, and says whether all is well. */
export async function checkAll(): Promise<boolean> {
  const results = await Promise.all(
    CHECKS.map(async ([name, find]) => [name, await find().catch((error: unknown) => explain(error))] as const),
  );
  for (const [name, found] of results) {
    say(`${found === "" ? "ok    " : "FAILED"} ${name}`);
    if (found !== "") say(`${found}\n`);
  }
  return results.every(([, found]) => found === "");
}

if (import.meta.main && !(await checkAll())) process.exitCode = 1;
