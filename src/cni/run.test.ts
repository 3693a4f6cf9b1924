// SPDX-License-Identifier: Apache-2.0
//
// The front door without a daemon and without namespaces: what can be answered, and refused, before either is needed.
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { createNodeSys } from "../../test/helpers/node-sys.ts";
import { SysError } from "../sys/sys.ts";
import type { Environment } from "./args.ts";
import { CniError } from "./errors.ts";
import { runPlugin } from "./run.ts";

const CONF = { cniVersion: "0.4.0", name: "pods", type: "flatnet", socket: "/nowhere/flatnetd.sock" };
const ENV: Environment = { CNI_CONTAINERID: "c0ffee", CNI_IFNAME: "eth0", CNI_NETNS: "/nowhere/netns" };
const OWN = "/proc/self/ns/net";

/** Runs the plugin; whatever it does, one document at most comes out and no descriptor stays open. */
function run(env: Environment, stdin: string | (() => string) = JSON.stringify(CONF)) {
  const { sys, open } = createNodeSys();
  const world = {
    sys,
    env,
    sha256: (text: string): Uint8Array => createHash("sha256").update(text).digest(),
    wallClock: () => 1_800_000_000_000,
    pid: 4711,
  };
  const { stdout, stderr, status } = runPlugin(world, typeof stdin === "string" ? () => stdin : stdin);
  expect([...open]).toEqual([]);
  // JSON.parse refuses a second document.
  return { document: stdout === "" ? undefined : JSON.parse(stdout), stderr, status };
}

test.for([undefined, ""])(
  "run by a person (CNI_COMMAND is %j) it says what it is, on stderr, and stdin is not waited for",
  (command) => {
    const { document, stderr, status } = run({ CNI_COMMAND: command }, () => {
      throw new Error("stdin was read");
    });
    expect({ document, status }).toEqual({ document: undefined, status: 0 });
    expect(stderr).toContain("flatnet");
    expect(stderr).toContain("0.3.1, 0.4.0, 1.0.0, 1.1.0");
  },
);

test.for<[stdin: string, version: string]>([
  ['{"cniVersion":"0.3.1"}', "0.3.1"],
  ['{"cniVersion":"1.1.0","name":"anything"}', "1.1.0"],
  ['{"cniVersion":"2.0.0"}', "2.0.0"],
  ["{}", "1.1.0"],
  ["", "1.1.0"],
])("VERSION with %s on stdin is answered in %s", ([stdin, cniVersion]) => {
  expect(run({ CNI_COMMAND: "VERSION" }, stdin)).toEqual({
    document: { cniVersion, supportedVersions: ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] },
    stderr: "",
    status: 0,
  });
});

test.for(["add", "ADD ", "LAUNCH", "toString", "x".repeat(10_000)])("the verb %j is refused: code 4", (command) => {
  const { document, status } = run({ ...ENV, CNI_COMMAND: command });
  expect(document).toMatchObject({ cniVersion: "0.4.0", code: 4, msg: "invalid environment" });
  expect(document.details).toContain(`CNI_COMMAND="${command.slice(0, 100)}`);
  expect(document.details.length).toBeLessThan(200);
  expect(status).toBe(1);
});

test.for<[what: string, env: Environment, conf: string, version: string, code: number, details: string]>([
  ["no stdin", {}, "", "1.1.0", 6, "got nothing"],
  ["malformed stdin", {}, "{", "1.1.0", 6, 'got "{"'],
  ["a version that isn't spoken", {}, '{"cniVersion":"2.0.0","name":"pods"}', "2.0.0", 1, '"2.0.0" is not one of'],
  ["a wrong type", {}, '{"cniVersion":"0.3.1","name":"pods","mtu":"1"}', "0.3.1", 7, 'mtu is "1"'],
  ["a missing container", { CNI_CONTAINERID: "" }, JSON.stringify(CONF), "0.4.0", 4, "CNI_CONTAINERID is missing"],
  ["our own namespace", { CNI_NETNS: OWN }, JSON.stringify(CONF), "0.4.0", 8, `CNI_NETNS=${OWN} is the plugin's own`],
])("ADD and DEL refuse %s, in the caller's version", ([, env, conf, cniVersion, code, details]) => {
  for (const verb of ["ADD", "DEL"]) {
    const { document, stderr, status } = run({ ...ENV, ...env, CNI_COMMAND: verb }, conf);
    expect(document).toMatchObject({ cniVersion, code, details: expect.stringContaining(details) });
    expect({ stderr, status }).toEqual({ stderr: "", status: 1 });
  }
});

test("ADD refuses a namespace that isn't there: code 4", () => {
  expect(run({ ...ENV, CNI_COMMAND: "ADD" })).toEqual({
    document: {
      cniVersion: "0.4.0",
      code: 4,
      msg: "invalid environment",
      details: "CNI_NETNS=/nowhere/netns can't be opened: ENOENT",
    },
    stderr: "",
    status: 1,
  });
});

test("ADD refuses the result of an earlier plugin, which DEL always gets: code 2", () => {
  const conf = JSON.stringify({ ...CONF, prevResult: {} });
  expect(run({ ...ENV, CNI_COMMAND: "ADD" }, conf).document).toEqual({
    cniVersion: "0.4.0",
    code: 2,
    msg: "unsupported field",
    details: "prevResult is set, but flatnet has to be the first plugin of a list",
  });
  expect(run({ ...ENV, CNI_COMMAND: "DEL" }, conf).document).not.toMatchObject({ code: 2 });
});

test("DEL goes on without a namespace that isn't there, as far as the kernel", () => {
  // This test's system calls have no netlink socket.
  expect(run({ ...ENV, CNI_COMMAND: "DEL" }).document).toMatchObject({ code: 5, details: "socket: ENOSYS" });
});

test("a stdin that can't be read is an I/O failure, and one that is too large a decoding failure", () => {
  const env = { ...ENV, CNI_COMMAND: "ADD" };
  const unreadable = () => {
    throw new SysError("read", 5, "EIO");
  };
  expect(run(env, unreadable)).toMatchObject({
    document: { cniVersion: "1.1.0", code: 5, details: "read: EIO" },
    status: 1,
  });
  const large = () => {
    throw new CniError(6, "the network configuration on stdin is too large");
  };
  expect(run(env, large)).toMatchObject({ document: { cniVersion: "1.1.0", code: 6 }, status: 1 });
});

test("a bug is code 999 in the document, and its stack is on stderr", () => {
  const { document, stderr, status } = run({ ...ENV, CNI_COMMAND: "ADD" }, () => {
    throw new TypeError("x is not a function");
  });
  expect(document).toMatchObject({ code: 999, msg: "internal error", details: "TypeError: x is not a function" });
  expect(stderr).toContain("run.test.ts");
  expect(status).toBe(1);
});
