// SPDX-License-Identifier: Apache-2.0

import type { Counts, Outcome, Report } from "../suite.ts";
import { countOutcomes } from "../suite.ts";
import { transcript } from "./transcript.ts";

const ID_WIDTH = 34;

/** A rule in a line, and what is wrong in the lines after it. */
export function outcomeLines({ id, level, title, section, verdict, calls }: Outcome): string[] {
  const line = `${mark({ verdict })} ${level.padEnd(6)} ${id.padEnd(ID_WIDTH)} ${title}`;
  if (verdict.kind === "pass") return [line];
  if (verdict.kind === "not supported") return [`${line} (${verdict.reason})`];
  return [
    line,
    ...verdict.problems.map((problem) => `      ! ${problem}`),
    `        ${section}`,
    ...transcript(calls).map((text) => `        ${text}`),
  ];
}

export function mark({ verdict }: Pick<Outcome, "verdict">): string {
  return { pass: "✓", fail: "✗", "not supported": "–" }[verdict.kind];
}

/** How many of what, in words. */
export function countsText({ passed, failed, warned, notSupported }: Counts): string {
  return `${passed} passed, ${failed} MUST failed, ${warned} SHOULD failed, ${notSupported} not supported`;
}

/** The end of the report: one line for each version, and the verdict. */
export function summaryLines({ plugin, runs }: Report): string[] {
  const failures = runs.flatMap(({ outcomes }) =>
    outcomes.filter((one) => one.verdict.kind === "fail" && one.level === "MUST"),
  );
  const failed = new Set(failures.map(({ id }) => id)).size;
  const tried = runs.some(({ outcomes }) => outcomes.some(({ verdict }) => verdict.kind !== "not supported"));
  return [
    ...runs.map(({ spec, outcomes }) => `CNI ${spec}: ${countsText(countOutcomes(outcomes))}`),
    failed > 0
      ? `${plugin} does not conform: ${failed} ${failed === 1 ? "requirement" : "requirements"} failed`
      : tried
        ? `${plugin} conforms: no requirement failed`
        : `${plugin} was not tried: nothing was supported`,
  ];
}
