// SPDX-License-Identifier: Apache-2.0

import { documentOf } from "../context.ts";
import { about, printsNothing, succeeds } from "../expect.ts";
import type { Call } from "../plugin.ts";
import { expectThat, type Rule, verdictOf } from "../rule.ts";

const SECTION = "section 2, VERSION; section 5, VERSION Success";

/** What is wrong with an answer to VERSION, of whatever version. */
function answers(call: Call): string[] {
  const problems = succeeds(call);
  if (problems.length > 0) return problems;
  const document = documentOf(call);
  if (document === undefined) return ["stdout is not one JSON object"];
  const { cniVersion, supportedVersions } = document;
  const versions = Array.isArray(supportedVersions) ? supportedVersions : [];
  return [
    ...expectThat(isSemantic(cniVersion), `cniVersion is ${JSON.stringify(cniVersion)}, not a version`),
    ...expectThat(
      versions.length > 0 && versions.every(isSemantic),
      `supportedVersions is ${JSON.stringify(supportedVersions)}, not a list of versions`,
    ),
    ...expectThat(new Set(versions).size === versions.length, "supportedVersions has a version twice"),
  ];
}

function isSemantic(value: unknown): boolean {
  return typeof value === "string" && /^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/.test(value);
}

const versionStdin = (cniVersion: string) => JSON.stringify({ cniVersion });

export const versionRules: readonly Rule[] = [
  {
    id: "version.answer",
    group: "VERSION",
    level: "MUST",
    section: SECTION,
    since: "0.2.0",
    title: "VERSION answers with one JSON document that has cniVersion and supportedVersions",
    async run(context) {
      const call = await context.call("VERSION", { stdin: versionStdin(context.spec) });
      const listed = (documentOf(call)?.["supportedVersions"] ?? []) as unknown[];
      const problems = answers(call);
      if (problems.length > 0) return verdictOf(problems);
      return verdictOf(expectThat(listed.includes(context.spec), `supportedVersions has no ${context.spec}`));
    },
  },
  {
    id: "version.environment",
    group: "VERSION",
    level: "MUST",
    section: "section 2, VERSION: only CNI_COMMAND is required",
    since: "0.2.0",
    title: "VERSION needs no variable but CNI_COMMAND",
    async run(context) {
      const env = { CNI_PATH: undefined, PATH: undefined };
      return verdictOf(answers(await context.call("VERSION", { env, stdin: versionStdin(context.spec) })));
    },
  },
  {
    id: "version.echo",
    group: "VERSION",
    // The text says "must"; skel, and with it nearly every plugin, prints its own newest version, and libcni takes that.
    level: "SHOULD",
    section: "section 5, VERSION Success: the value of cniVersion specified on input",
    since: "1.0.0",
    title: "VERSION's answer carries the cniVersion of the request",
    async run(context) {
      const call = await context.call("VERSION", { stdin: versionStdin(context.spec) });
      const got = documentOf(call)?.["cniVersion"];
      return verdictOf(expectThat(got === context.spec, `cniVersion is ${JSON.stringify(got)}, not ${context.spec}`));
    },
  },
  {
    id: "version.stdin",
    group: "VERSION",
    level: "SHOULD",
    section: "convention: skel does not read stdin for VERSION",
    since: "0.2.0",
    title: "VERSION answers whatever is on stdin: nothing, no JSON, a version nobody knows",
    async run(context) {
      const problems: string[] = [];
      for (const stdin of ["", "{", "[]", versionStdin("9.9.9"), JSON.stringify({ cniVersion: 1 })]) {
        problems.push(
          ...about(`with ${JSON.stringify(stdin)} on stdin`, answers(await context.call("VERSION", { stdin }))),
        );
      }
      return verdictOf(problems);
    },
  },
  {
    id: "version.nothing-done",
    group: "VERSION",
    level: "MUST",
    section: "section 2, VERSION: probe plugin version support",
    since: "0.2.0",
    title: "VERSION with the environment and stdin of an ADD changes nothing",
    async run(context) {
      const pod = await context.newPod();
      const before = await context.look(pod);
      const call = await context.call("VERSION", { pod });
      return verdictOf(answers(call), await context.changesSince(before));
    },
  },
  {
    id: "version.no-command",
    group: "VERSION",
    level: "SHOULD",
    section: "convention: skel prints about the plugin on stderr, or error 4 on stdout",
    title: "A start without CNI_COMMAND ends at once and says on stdout nothing but an error document",
    async run(context) {
      const call = await context.call("", { env: { CNI_COMMAND: undefined }, stdin: "" });
      if (call.status === 0) return verdictOf(printsNothing(call));
      const code = documentOf(call)?.["code"];
      return verdictOf(
        expectThat(code === 4, `exit status is ${call.status} and code is ${JSON.stringify(code)}, not 4`),
      );
    },
  },
];
