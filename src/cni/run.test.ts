// SPDX-License-Identifier: Apache-2.0
//
// The front door without a daemon and without namespaces: what can be answered, and refused, before either is needed.
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { createNodeSys } from "../../test/helpers/node-sys.ts";
import { SysError } from "../sys/sys.ts";
import type { Environment } from "./args.ts";
import type { Mode } from "./conf.ts";
import { CniError } from "./errors.ts";
import { runPlugin } from "./run.ts";

const CONF = { cniVersion: "0.4.0", name: "pods", type: "flatnet", socket: "/nowhere/flatnetd.sock" };
const ENV: Environment = { CNI_CONTAINERID: "c0ffee", CNI_IFNAME: "eth0", CNI_NETNS: "/nowhere/netns" };
const OWN = "/proc/self/ns/net";

/** Runs the plugin; whatever it does, one document at most comes out and no descriptor stays open. */
function run(
  env: Environment,
  stdin: string | (() => string) = JSON.stringify(CONF),
  { mode = "flatnet", traceparent }: { mode?: Mode; traceparent?: string } = {},
) {
  const { sys, open } = createNodeSys();
  const world = {
    sys,
    env,
    sha256: (text: string): Uint8Array => createHash("sha256").update(text).digest(),
    wallClock: () => 1_800_000_000_000,
    pid: 4711,
    ...(traceparent !== undefined && { traceparent }),
  };
  const { stdout, stderr, status } = runPlugin(world, mode, typeof stdin === "string" ? () => stdin : stdin);
  expect([...open]).toEqual([]);
  // JSON.parse refuses a second document.
  return { document: stdout === "" ? undefined : JSON.parse(stdout), stderr, status };
}

const MODES: Mode[] = ["flatnet", "flatnet-ipam"];
const VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

test.for(MODES.flatMap((mode) => [undefined, ""].map((command) => [mode, command] as const)))(
  "%s run by a person (CNI_COMMAND is %j) says what it is, on stderr, and does not wait for stdin",
  ([mode, command]) => {
    const unread = () => {
      throw new Error("stdin was read");
    };
    const { document, stderr, status } = run({ CNI_COMMAND: command }, unread, { mode });
    expect({ document, status }).toEqual({ document: undefined, status: 0 });
    expect(stderr).toMatch(new RegExp(`^${mode}: CNI .*plugin`));
    expect(stderr).toContain(VERSIONS.join(", "));
  },
);

test.for<[stdin: string, version: string]>([
  ['{"cniVersion":"0.1.0"}', "0.1.0"],
  ['{"cniVersion":"0.3.1"}', "0.3.1"],
  ['{"cniVersion":"1.1.0","name":"anything"}', "1.1.0"],
  ['{"cniVersion":"2.0.0"}', "2.0.0"],
  ["{}", "1.1.0"],
  ["", "1.1.0"],
])("VERSION with %s on stdin is answered in %s", ([stdin, cniVersion]) => {
  expect(run({ CNI_COMMAND: "VERSION" }, stdin)).toEqual({
    document: { cniVersion, supportedVersions: VERSIONS },
    stderr: "",
    status: 0,
  });
});

test.for(["add", "ADD ", "ADD\nflatnet DEL: all is well", "LAUNCH", "toString", "x".repeat(10_000)])(
  "the verb %j is refused: code 4",
  (command) => {
    const { document, status, stderr } = run({ ...ENV, CNI_COMMAND: command });
    // Whatever the verb is, the log gets one short line of it.
    expect(stderr).toBe(`flatnet: invalid environment: ${document.details}\n`);
    expect(document).toMatchObject({ cniVersion: "0.4.0", code: 4, msg: "invalid environment" });
    expect(document.details).toContain(`CNI_COMMAND=${JSON.stringify(command.slice(0, 100))}`);
    expect(document.details.length).toBeLessThan(200);
    expect(status).toBe(1);
  },
);

type Refusal = [what: string, env: Environment, conf: string, version: string, code: number, details: string];
const text = (more: object) => JSON.stringify({ ...CONF, ...more });
const NOWHERE = { socket: "/nowhere/flatnetd.sock", connectWaitMs: 0 };

/** Refused by everything that needs a pod. */
const FOR_PODS: Refusal[] = [
  ["a missing container", { CNI_CONTAINERID: "" }, text({}), "0.4.0", 4, "CNI_CONTAINERID is missing"],
  ["our own namespace", { CNI_NETNS: OWN }, text({}), "0.4.0", 8, `CNI_NETNS=${OWN} is the plugin's own`],
];
/** Refused by everything that needs a configuration. */
const FOR_ALL: Refusal[] = [
  ["no stdin", {}, "", "1.1.0", 6, "got nothing"],
  ["malformed stdin", {}, "{", "1.1.0", 6, 'got "{"'],
  ["a version that isn't spoken", {}, '{"cniVersion":"2.0.0","name":"pods"}', "2.0.0", 1, '"2.0.0" is not one of'],
  ["a missing name", {}, '{"cniVersion":"1.1.0"}', "1.1.0", 7, "name is missing"],
];

/** Expects the refusal, in the caller's version, and the same in one line on stderr. */
function expectRefusal(verb: string, mode: Mode, [, env, conf, cniVersion, code, details]: Refusal): void {
  const { document, stderr, status } = run({ ...ENV, ...env, CNI_COMMAND: verb }, conf, { mode });
  expect(document).toMatchObject({ cniVersion, code, details: expect.stringContaining(details) });
  expect({ stderr, status }).toEqual({ stderr: `${mode} ${verb}: ${document.msg}: ${document.details}\n`, status: 1 });
}

test.for(FOR_ALL)("every verb refuses %s, in the caller's version", (refusal) => {
  for (const verb of ["ADD", "DEL", "CHECK", "GC", "STATUS"]) {
    for (const mode of MODES) expectRefusal(verb, mode, refusal);
  }
});

test.for(FOR_PODS)("ADD, DEL and CHECK refuse %s", (refusal) => {
  const [what, env, , version, code, details] = refusal;
  expectRefusal("ADD", "flatnet", refusal);
  expectRefusal("DEL", "flatnet", refusal);
  expectRefusal("CHECK", "flatnet", [what, env, text({ prevResult: {} }), version, code, details]);
});

test("a wrong type is refused by the verbs that look at the field, and by no other", () => {
  const conf = (version: string) => JSON.stringify({ cniVersion: version, name: "pods", mtu: "1", ...NOWHERE });
  for (const verb of ["ADD", "CHECK"]) {
    expectRefusal(verb, "flatnet", ["", {}, conf("0.4.0"), "0.4.0", 7, 'mtu is "1"']);
  }
  const status = run({ ...ENV, CNI_COMMAND: "STATUS" }, conf("1.1.0")).document;
  const del = run({ ...ENV, CNI_COMMAND: "DEL" }, conf("0.4.0")).document;
  for (const document of [status, del]) expect(document).not.toMatchObject({ code: 7 });
});

test.for<[verb: string, since: string]>([
  ["CHECK", "0.4.0"],
  ["GC", "1.1.0"],
  ["STATUS", "1.1.0"],
])("%s is refused before %s: code 1, whatever else is wrong", ([verb, since]) => {
  for (const cniVersion of VERSIONS) {
    const conf = JSON.stringify({ cniVersion, name: "pods", mtu: "1", prevResult: 7, "cni.dev/attachments": 7 });
    for (const mode of MODES) {
      const { document } = run({ ...ENV, CNI_COMMAND: verb }, conf, { mode });
      if (VERSIONS.indexOf(cniVersion) >= VERSIONS.indexOf(since)) expect(document).not.toMatchObject({ code: 1 });
      else {
        expect(document).toEqual({
          cniVersion,
          code: 1,
          msg: "incompatible CNI version",
          details: `config version ${cniVersion} does not allow ${verb}, which came with ${since}`,
        });
      }
    }
  }
});

test.for(MODES)("CHECK of %s without prevResult is refused: code 7", (mode) => {
  const { document } = run({ ...ENV, CNI_COMMAND: "CHECK" }, text({}), { mode });
  expect(document).toMatchObject({ code: 7, details: "prevResult is missing, and CHECK needs it" });
});

test("GC and STATUS need no container, no interface and no namespace", () => {
  const conf = JSON.stringify({ cniVersion: "1.1.0", name: "pods", "cni.dev/valid-attachments": [] });
  for (const verb of ["GC", "STATUS"]) {
    expect(run({ CNI_COMMAND: verb }, conf).document).not.toMatchObject({ code: 4 });
  }
});

test("the runtime's trace is in the log line of a failure, of a bug's first line too, and never on stdout", () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const failed = run({ ...ENV, CNI_COMMAND: "ADD" }, "{", { traceparent });
  expect(failed.stderr).toMatch(
    new RegExp(`^flatnet ADD traceparent=${traceparent}: the network configuration .*\\n$`),
  );
  expect(JSON.stringify(failed.document)).not.toContain(traceparent);
  const bug = run(
    { ...ENV, CNI_COMMAND: "DEL" },
    () => {
      throw new TypeError("x");
    },
    { traceparent, mode: "flatnet-ipam" },
  );
  expect(bug.stderr.split("\n")[0]).toBe(`flatnet-ipam DEL traceparent=${traceparent}: TypeError: x`);
});

test("an error without details is one line without a colon at its end", () => {
  expect(run({ ...ENV, CNI_COMMAND: "ADD" }, "[]").stderr).toBe(
    "flatnet ADD: the network configuration on stdin is not a JSON object\n",
  );
});

test("ADD refuses a namespace that isn't there: code 4", () => {
  expect(run({ ...ENV, CNI_COMMAND: "ADD" })).toEqual({
    document: {
      cniVersion: "0.4.0",
      code: 4,
      msg: "invalid environment",
      details: "CNI_NETNS=/nowhere/netns can't be opened: ENOENT",
    },
    stderr: "flatnet ADD: invalid environment: CNI_NETNS=/nowhere/netns can't be opened: ENOENT\n",
    status: 1,
  });
});

test("ADD reads the result of an earlier plugin, and DEL does not care for it", () => {
  const conf = text({ prevResult: { ips: [{ address: "x" }] } });
  expect(run({ ...ENV, CNI_COMMAND: "ADD" }, conf).document).toMatchObject({
    code: 7,
    details: 'prevResult.ips.0.address is "x", not an address with prefix length',
  });
  // This test's system calls have no netlink socket: it got as far as that.
  expect(run({ ...ENV, CNI_COMMAND: "DEL" }, conf).document).toMatchObject({ code: 5, details: "socket: ENOSYS" });
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
