// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { type LabWorld, runLab } from "./lab.ts";

/** A world without root, in which a lab that begins to do something fails the test. */
function world() {
  const written = { stdout: "", stderr: "" };
  const output = (name: keyof typeof written) => ({
    write: (text: string) => {
      written[name] += text;
    },
  });
  const value: LabWorld = {
    stdout: output("stdout"),
    stderr: output("stderr"),
    color: false,
    uid: 1000,
    plugin: "/nonexistent/flatnet",
    daemon: "/nonexistent/flatnetd",
    selfCommand: ["/nonexistent/flatnetctl"],
    signal: new AbortController().signal,
  };
  return { written, value };
}

test("wrong options are one line on stderr and exit code 2", async () => {
  const { written, value } = world();
  expect(await runLab(["--nodes", "many"], value)).toBe(2);
  expect(written).toEqual({
    stdout: "",
    stderr: 'flatnetctl lab: --nodes is a number from 1 to 50, not "many"\n',
  });
});

test("help goes to stdout and needs no root", async () => {
  const { written, value } = world();
  expect(await runLab(["--help"], value)).toBe(0);
  expect(written.stdout).toContain("flatnetctl lab prove");
  expect(written.stderr).toBe("");
});

test("without root it says so in one line", async () => {
  const { written, value } = world();
  expect(await runLab(["up"], value)).toBe(1);
  expect(written).toEqual({
    stdout: "",
    stderr: "flatnetctl lab: the lab makes network namespaces, which needs root\n",
  });
});

test("with --json a failure is a document too", async () => {
  const { written, value } = world();
  expect(await runLab(["--json"], value)).toBe(1);
  expect(JSON.parse(written.stdout)).toEqual({
    version: 1,
    error: { code: "LAB_NOT_ROOT", message: "the lab makes network namespaces, which needs root" },
  });
});
