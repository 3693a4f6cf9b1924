// SPDX-License-Identifier: Apache-2.0

import { describe, expect, test } from "vitest";
import { countsLine, countsOf, failures, type Report, selectsOnlyUnit } from "./counts.ts";

function report(passed: number, failed: number, files: Report["testResults"] = []): Report {
  return { numPassedTests: passed, numFailedTests: failed, numPendingTests: 1, numTodoTests: 2, testResults: files };
}

describe("the counts of a test run", () => {
  test("are those of the report, and what was left out counts as skipped", () => {
    expect(countsOf(report(7, 0), true)).toEqual({ passed: 7, failed: 0, skipped: 3 });
  });

  test("have a failure for a file that failed before its first test", () => {
    const broken = { status: "failed", assertionResults: [] };
    expect(countsOf(report(7, 0, [broken]), false).failed).toBe(1);
  });

  test("count a file with a failed test by its tests only", () => {
    const file = { status: "failed", assertionResults: [{ status: "passed" }, { status: "failed" }] };
    expect(countsOf(report(7, 1, [file]), false).failed).toBe(1);
  });

  test("never say that nothing failed when vitest did not end well", () => {
    expect(countsOf(report(7, 0), false).failed).toBe(1);
  });

  test.each([
    [{ passed: 3, failed: 0, skipped: 0 }, "3 passed, 0 failed"],
    [{ passed: 3, failed: 1, skipped: 2 }, "3 passed, 1 failed, 2 skipped"],
    [failures(2), "0 passed, 2 failed"],
  ])("%j is written as %s", (counts, line) => {
    expect(countsLine(counts)).toBe(line);
  });
});

test.each([
  [[], false],
  [["src/net"], false],
  [["--project", "unit"], true],
  [["--project=unit", "src/net"], true],
  [["--project", "unit", "--project", "kernel"], false],
  [["--project=kernel"], false],
])("arguments %j choose only the unit tests: %s", (args, expected) => {
  expect(selectsOnlyUnit(args)).toBe(expected);
});
