// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePluginConf, versionIn } from "./conf.ts";
import { CniError } from "./errors.ts";
import { SUPPORTED_VERSIONS, versionDocument } from "./version.ts";

const GOOD = { cniVersion: "1.1.0", name: "pods", type: "flatnet" };

function refused(text: string): { code: number; message: string; details: string } {
  try {
    parsePluginConf(text);
  } catch (error) {
    expect(error).toBeInstanceOf(CniError);
    const { code, message, details } = error as CniError;
    return { code, message, details };
  }
  throw new Error("it was accepted");
}

test("what isn't said has its default", () => {
  expect(parsePluginConf(JSON.stringify(GOOD))).toEqual({
    cniVersion: "1.1.0",
    name: "pods",
    socket: "/run/flatnet/flatnetd.sock",
    timeoutMs: 10_000,
    connectWaitMs: 5_000,
    mtu: 0,
    journalDir: "/var/lib/flatnet/journal",
    hasPrevResult: false,
  });
});

test("what is said counts", () => {
  const said = { socket: "/s", timeoutMs: 600_000, connectWaitMs: 600_000, mtu: 9000, journalDir: "/j" };
  expect(parsePluginConf(JSON.stringify({ ...GOOD, ...said }))).toMatchObject(said);
  expect(parsePluginConf(JSON.stringify({ ...GOOD, connectWaitMs: 0, mtu: 0 }))).toMatchObject({
    connectWaitMs: 0,
    mtu: 0,
  });
});

test("the wait for a daemon is never longer than the call's deadline", () => {
  expect(parsePluginConf(JSON.stringify({ ...GOOD, timeoutMs: 100 })).connectWaitMs).toBe(100);
  expect(refused(JSON.stringify({ ...GOOD, timeoutMs: 100, connectWaitMs: 101 })).details).toBe(
    "connectWaitMs is 101, not a whole number from 0 to 100",
  );
});

test("keys of others are passed over", () => {
  const others = {
    ipam: { type: "host-local" },
    runtimeConfig: {},
    capabilities: { x: true },
    args: null,
    prevResult: null,
  };
  expect(parsePluginConf(JSON.stringify({ ...GOOD, ...others, "": 1, __proto__: 2 }))).toEqual(
    parsePluginConf(JSON.stringify(GOOD)),
  );
});

test.for<[text: string, details: string]>([
  ["", "got nothing"],
  [" \n", "got nothing"],
  ["{", 'got "{"'],
  ['{"name":}', 'got "{\\"name\\":}"'],
  [`{"a":"${"x".repeat(1000)}`, "…"],
])("stdin of %j is no JSON: code 6", ([text, details]) => {
  const error = refused(text);
  expect(error).toMatchObject({ code: 6, message: "the network configuration on stdin is not JSON" });
  expect(error.details).toContain(details);
  expect(error.details.length).toBeLessThan(200);
});

test.for(["null", "[]", "7", '"pods"', "true"])("JSON of %s is no object: code 6", (text) => {
  expect(refused(text)).toEqual({
    code: 6,
    message: "the network configuration on stdin is not a JSON object",
    details: "",
  });
});

test.for<[field: string, value: unknown, details: string]>([
  ["cniVersion", 1, "cniVersion is 1, not a string"],
  ["cniVersion", null, "cniVersion is null, not a string"],
  ["name", 7, "name is 7, not a string"],
  ["name", undefined, "name is missing, not a network name"],
  ["name", "", 'name is "", not a network name'],
  ["name", "a/b", 'name is "a/b", not a network name'],
  ["name", "-a", 'name is "-a", not a network name'],
  ["name", "a".repeat(254), "not a network name"],
  ["socket", 7, "socket is 7, not a string"],
  ["socket", ["/a"], 'socket is ["/a"], not a string'],
  ["socket", "run/x.sock", 'socket is "run/x.sock", not an absolute path'],
  ["socket", "", 'socket is "", not an absolute path'],
  ["socket", "/a\0b", "not an absolute path"],
  ["socket", `/${"ä".repeat(54)}`, "not a path of at most 107 bytes"],
  ["timeoutMs", "10", 'timeoutMs is "10", not a whole number from 1 to 600000'],
  ["timeoutMs", 0, "timeoutMs is 0, not a whole number from 1 to 600000"],
  ["timeoutMs", 1.5, "timeoutMs is 1.5, not a whole number from 1 to 600000"],
  ["timeoutMs", 600_001, "timeoutMs is 600001, not"],
  ["timeoutMs", null, "timeoutMs is null, not"],
  ["connectWaitMs", -1, "connectWaitMs is -1, not a whole number from 0 to 10000"],
  ["connectWaitMs", true, "connectWaitMs is true, not"],
  ["connectWaitMs", 10_001, "connectWaitMs is 10001, not"],
  ["mtu", "1500", 'mtu is "1500", not a whole number from 0 to 65535'],
  ["mtu", 67, "mtu is 67, not 0 or a whole number from 68 to 65535"],
  ["mtu", 65_536, "mtu is 65536, not a whole number from 0 to 65535"],
  ["mtu", {}, "mtu is {}, not"],
  ["journalDir", false, "journalDir is false, not a string"],
  ["journalDir", "journal", 'journalDir is "journal", not an absolute path'],
  ["journalDir", `/${"a".repeat(3000)}`, "not a path of at most 3000 bytes"],
])("%s of %j is refused by name and value: code 7", ([field, value, details]) => {
  const error = refused(JSON.stringify({ ...GOOD, [field]: value }));
  expect(error).toMatchObject({ code: 7, message: "invalid network configuration" });
  expect(error.details).toContain(details);
  expect(error.details.length).toBeLessThan(400);
});

test.for(SUPPORTED_VERSIONS)("version %s is spoken", (cniVersion) => {
  expect(parsePluginConf(JSON.stringify({ ...GOOD, cniVersion })).cniVersion).toBe(cniVersion);
});

test.for([undefined, "", "0.1.0", "0.2.0", "0.3.0", "1.0", "1.2.0", "v1.0.0"])(
  "version %j is not spoken: code 1",
  (cniVersion) => {
    expect(refused(JSON.stringify({ ...GOOD, cniVersion }))).toEqual({
      code: 1,
      message: "incompatible CNI version",
      details: `cniVersion ${JSON.stringify(cniVersion ?? "0.2.0")} is not one of 0.3.1, 0.4.0, 1.0.0, 1.1.0`,
    });
  },
);

test("whether there is a result of an earlier call is told, whatever is in it", () => {
  for (const prevResult of [{}, { cniVersion: "0.4.0", ips: [] }, 7, ""]) {
    expect(parsePluginConf(JSON.stringify({ ...GOOD, prevResult })).hasPrevResult).toBe(true);
  }
  expect(parsePluginConf(JSON.stringify({ ...GOOD, prevResult: null })).hasPrevResult).toBe(false);
});

test.for<[text: string, version: string]>([
  ['{"cniVersion":"0.4.0"}', "0.4.0"],
  ['{"cniVersion":"9.9.9"}', "9.9.9"],
  ['{"cniVersion":""}', "x"],
  ['{"cniVersion":7}', "x"],
  ["{}", "x"],
  ["null", "x"],
  ["7", "x"],
  ["{", "x"],
  ["", "x"],
])("the version to answer %s in is %s", ([text, version]) => {
  expect(versionIn(text, "x")).toBe(version);
});

test("any text is a configuration or a CniError of code 1, 6 or 7", () => {
  const field = fc.constantFrom(
    "cniVersion",
    "name",
    "socket",
    "timeoutMs",
    "connectWaitMs",
    "mtu",
    "journalDir",
    "prevResult",
  );
  const object = fc
    .dictionary(field, fc.jsonValue({ maxDepth: 1 }))
    .map((fields) => JSON.stringify({ ...GOOD, ...fields }));
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), object), (text) => {
      try {
        parsePluginConf(text);
      } catch (error) {
        expect(error).toBeInstanceOf(CniError);
        expect([1, 6, 7]).toContain((error as CniError).code);
      }
    }),
    { numRuns: 500 },
  );
});

test("the answer to VERSION is the caller's version and all that are spoken", () => {
  expect(versionDocument("0.4.0")).toBe('{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}');
});
