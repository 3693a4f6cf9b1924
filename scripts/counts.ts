// SPDX-License-Identifier: Apache-2.0
//
// From what vitest reports to the one line that ends a test run.

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** What we read of the report of vitest's JSON reporter. */
export interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

/**
 * The counts of a run. One that did not end cleanly has at least one failure, whatever its tests say: an error outside of
 * any test, a worker that died, a filter that matched no file.
 */
export function countsOf(report: Report, clean: boolean): Counts {
  // A file that fails before its first test, as when an import is missing, has no failed test to count.
  const broken = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === "failed" && !assertionResults.some((assertion) => assertion.status === "failed"),
  ).length;
  return {
    passed: report.numPassedTests,
    failed: Math.max(report.numFailedTests + broken, clean ? 0 : 1),
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

/** Of a run that got to no test. */
export function failures(failed: number): Counts {
  return { passed: 0, failed, skipped: 0 };
}

/** "12 passed, 0 failed", and how many were skipped when some were. */
export function countsLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

/** Says whether vitest's arguments choose the unit project and no other. */
export function selectsOnlyUnit(args: readonly string[]): boolean {
  const projects = args.flatMap((arg, at) => {
    if (arg.startsWith("--project=")) return [arg.slice("--project=".length)];
    return arg === "--project" ? [args[at + 1] ?? ""] : [];
  });
  return projects.length > 0 && projects.every((project) => project === "unit");
}
