// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { greatestMB, weighedInto } from "./scales.ts";

const step = { argv: ["/usr/lib/cni/ptp"], env: { CNI_COMMAND: "ADD" }, conf: { type: "ptp" } };

test("each step is run by GNU time, and is otherwise as before", () => {
  const { steps, prevResult } = weighedInto("/tmp/w", { steps: [step, step], prevResult: { ips: [] } });
  expect(prevResult).toEqual({ ips: [] });
  expect(steps).toHaveLength(2);
  for (const { argv, ...rest } of steps) {
    expect([argv[0], argv.at(-1)]).toEqual(["/usr/bin/time", "/usr/lib/cni/ptp"]);
    expect(argv).toContain("--output=/tmp/w");
    expect(rest).toEqual({ env: step.env, conf: step.conf });
  }
});

test("the peak of an operation is that of its greatest step", () => {
  expect(greatestMB("5000\n10000\n7000\n")).toBe(10.24);
});

test("no figure is an error, not a zero", () => {
  for (const lines of ["", "\n", "Command exited with non-zero status 1\n", "0\n"]) {
    expect(() => greatestMB(lines)).toThrow("told no peak memory");
  }
});
