// SPDX-License-Identifier: Apache-2.0
//
// The report to keep: a table of rules by versions, then what failed, without the names of the machine it was made on.

import { DIRECTORY_MARK } from "../conf.ts";
import { GROUPS } from "../rule.ts";
import { countOutcomes, type Outcome, type Report } from "../suite.ts";
import { mark } from "./text.ts";
import { transcript } from "./transcript.ts";

/**
 * @param how the command line that made it.
 * @param root directory whose paths are shown without it.
 */
export function markdown(report: Report, how: string, root: string): string {
  const { plugin, conf, supportedVersions, runs } = report;
  const first = runs[0]?.outcomes ?? [];
  const lines = [
    `# CNI conformance of \`${plugin}\``,
    "",
    `Configuration: \`${conf}\`. The plugin lists ${supportedVersions.join(", ") || "no versions"}. Made by`,
    "",
    `    ${how}`,
    "",
    "| CNI | passed | MUST failed | SHOULD failed | not supported |",
    "|---|---|---|---|---|",
    ...runs.map(({ spec, outcomes }) => {
      const { passed, failed, warned, notSupported } = countOutcomes(outcomes);
      return `| ${spec} | ${passed} | ${failed} | ${warned} | ${notSupported} |`;
    }),
    "",
    "✓ passed, ✗ failed (a MUST), ! failed (a SHOULD), – not supported or not of this version",
    "",
    ...GROUPS.filter((group) => first.some((outcome) => outcome.group === group)).flatMap((group) => [
      `## ${group}`,
      "",
      `| rule | level | what | ${runs.map(({ spec }) => spec).join(" | ")} |`,
      `|---|---|---|${runs.map(() => "---").join("|")}|`,
      ...first.filter((outcome) => outcome.group === group).map((outcome) => row(outcome, report)),
      "",
    ]),
    ...failureSections(report),
  ];
  return `${lines
    .map((line) => withoutMachine(line, root))
    .join("\n")
    .trimEnd()}\n`;
}

function withoutMachine(line: string, root: string): string {
  return line.replace(/[^\s:="]*\/cni-conformance-\w{6}/g, DIRECTORY_MARK).replaceAll(`${root}/`, "");
}

function row({ id, title }: Outcome, { runs }: Report): string {
  const all = runs.map(({ outcomes }) => outcomes.find((outcome) => outcome.id === id));
  const levels = [...new Set(all.map((outcome) => outcome?.level ?? ""))];
  return `| ${id} | ${levels.join(", ")} | ${cell(title)} | ${all.map((outcome) => sign(outcome)).join(" | ")} |`;
}

function sign(outcome: Outcome | undefined): string {
  if (outcome === undefined) return "";
  return outcome.verdict.kind === "fail" && outcome.level === "SHOULD" ? "!" : mark(outcome);
}

/** Each failed rule once, as it failed in the newest version it failed in. */
function failureSections({ runs }: Report): string[] {
  const failures = new Map<string, { outcome: Outcome; specs: string[] }>();
  for (const { spec, outcomes } of runs) {
    for (const outcome of outcomes) {
      if (outcome.verdict.kind !== "fail") continue;
      failures.set(outcome.id, { outcome, specs: [...(failures.get(outcome.id)?.specs ?? []), spec] });
    }
  }
  if (failures.size === 0) return ["## Failures", "", "None."];
  return [
    "## Failures",
    "",
    ...[...failures.values()].flatMap(({ outcome, specs }) => [
      `### ${outcome.id} (${outcome.level})`,
      "",
      `${outcome.title}: ${outcome.section}. Failed for ${specs.join(", ")}; in the last of them:`,
      "",
      ...(outcome.verdict.kind === "fail" ? outcome.verdict.problems : []).map((problem) => `- ${cell(problem)}`),
      "",
      ...transcript(outcome.calls).map((line) => `    ${line}`),
      "",
    ]),
  ];
}

function cell(text: string): string {
  return text
    .replaceAll("|", "\\|")
    .replace(/\s*\n\s*/g, " ")
    .replaceAll("<", "&lt;");
}
