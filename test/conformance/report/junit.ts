// SPDX-License-Identifier: Apache-2.0
//
// JUnit XML as CI systems read it: a suite for each version and group, a case for each rule. It knows no warnings: a SHOULD
// that failed is a skipped case with what was wrong in its message and output.

import type { Outcome, Report, SpecRun } from "../suite.ts";
import { transcript } from "./transcript.ts";

export function junitXml(report: Report): string {
  const suites = report.runs.flatMap((run) => {
    const groups = [...new Set(run.outcomes.map(({ group }) => group))];
    return groups.map((group) => suite(run, group));
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name=${quoted(report.plugin)}>\n${suites.join("")}</testsuites>\n`;
}

/** Text between tags. Characters that XML 1.0 can't have, even escaped, become U+FFFD. */
export function escapeText(text: string): string {
  return [...text]
    .map((char) => (isXmlChar(char.codePointAt(0) ?? 0) ? char : "\ufffd"))
    .join("")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
}

/** A value of an attribute, with its quotes. A reader would make spaces of line breaks and tabs that are not escaped. */
export function quoted(text: string): string {
  const breaks = { '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;" };
  return `"${escapeText(text).replace(/["\n\r\t]/g, (char) => breaks[char as keyof typeof breaks])}"`;
}

function suite({ spec, outcomes }: SpecRun, group: Outcome["group"]): string {
  const cases = outcomes.filter((outcome) => outcome.group === group);
  const failures = cases.filter(({ verdict, level }) => verdict.kind === "fail" && level === "MUST").length;
  const passed = cases.filter(({ verdict }) => verdict.kind === "pass").length;
  const attributes = [
    `name=${quoted(`CNI ${spec}: ${group}`)}`,
    `tests="${cases.length}" failures="${failures}" errors="0" skipped="${cases.length - failures - passed}"`,
    `time="${seconds(cases.reduce((sum, one) => sum + one.seconds, 0))}"`,
  ];
  return `  <testsuite ${attributes.join(" ")}>\n${cases.map((one) => testcase(one, spec)).join("")}  </testsuite>\n`;
}

function testcase(outcome: Outcome, spec: string): string {
  const { id, title, level, verdict } = outcome;
  const name = quoted(`${id}: ${title}`);
  const start = `    <testcase classname=${quoted(`cni-${spec}.${id}`)} name=${name} time="${seconds(outcome.seconds)}"`;
  if (verdict.kind === "pass") return `${start}/>\n`;
  const child =
    verdict.kind === "not supported"
      ? `<skipped message=${quoted(verdict.reason)}/>`
      : level === "MUST"
        ? `<failure type="MUST" message=${quoted(verdict.problems.join("; "))}>${escapeText(details(outcome))}</failure>`
        : `<skipped message=${quoted(`SHOULD: ${verdict.problems.join("; ")}`)}/>` +
          `<system-out>${escapeText(details(outcome))}</system-out>`;
  return `${start}>${child}</testcase>\n`;
}

function details({ verdict, section, calls }: Outcome): string {
  const problems = verdict.kind === "fail" ? verdict.problems : [];
  return [...problems, section, ...transcript(calls)].join("\n");
}

function seconds(value: number): string {
  return value.toFixed(3);
}

/** XML 1.0, production 2. */
function isXmlChar(code: number): boolean {
  if (code < 0x20) return code === 0x09 || code === 0x0a || code === 0x0d;
  return code <= 0xd7ff || (code >= 0xe000 && code <= 0xfffd) || code >= 0x10000;
}
