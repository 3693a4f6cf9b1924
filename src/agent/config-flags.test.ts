// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { formatPrefix, parsePrefix } from "../net/prefix.ts";
import { parseRange } from "../net/range.ts";
import { type Config, parseConfig } from "./config.ts";
import { FLAG_OF_KEY, USAGE } from "./config-flags.ts";
import { disk, GOOD, parse, refusal } from "./testing/parse-config.ts";

test.for<[flag: string, text: string, key: keyof Config, value: unknown]>([
  ["--node-name", "a.b-c", "nodeName", "a.b-c"],
  ["--state-dir", "/s", "stateDir", "/s"],
  ["--socket", "/s.sock", "socket", "/s.sock"],
  ["--peers", "/p.yaml", "peers", "/p.yaml"],
  ["--log-level", "debug", "logLevel", "debug"],
  ["--mtu", "1450", "mtu", 1450],
  ["--anti-spoof", "false", "antiSpoof", false],
  ["--anti-spoof", "true", "antiSpoof", true],
  ["--repair", "false", "repair", false],
  ["--cool-down-seconds", "0", "coolDownSeconds", 0],
  ["--retire-after-seconds", "0", "retireAfterSeconds", 0],
  ["--history-days", "0", "historyDays", 0],
])("%s %s sets %s", ([flag, text, key, value]) => {
  expect(parse([...GOOD, flag, text])[key]).toBe(value);
  expect(parse([...GOOD, `${flag}=${text}`])[key]).toBe(value);
  // The same in a file, where the flag doesn't say anything else.
  const file = `nodeName: node1\npodCIDRs: [10.244.1.0/24]\n${key === "nodeName" ? "" : `${key}: ${text}`}`;
  expect(parse(key === "nodeName" ? [flag, text] : [], file)[key]).toBe(value);
});

test("flags win over the file, subnets as a whole", () => {
  const file = "nodeName: node2\npodCIDRs: [10.244.2.0/24, fd00::/64]\nmtu: 9000\nlogLevel: warn";
  const config = parse([...GOOD, "--mtu", "0"], file);
  expect(config).toMatchObject({ nodeName: "node1", mtu: 0, logLevel: "warn" });
  expect(config.podCIDRs.map(formatPrefix)).toEqual(["10.244.1.0/24"]);
});

test("a flag repairs a value of the file that is wrong", () => {
  expect(parse([...GOOD, "--mtu", "1500"], "mtu: many").mtu).toBe(1500);
});

test.for([["--help"], ["-h"], ["--help", "--mtu", "many"], [...GOOD, "--help"]])(
  "%j asks for help and for nothing else",
  (args) => {
    expect(parseConfig(args, disk(undefined))).toBe("help");
  },
);

test("the help names every flag", () => {
  for (const flag of ["--config", "--help", ...FLAG_OF_KEY.values()]) {
    expect(USAGE).toMatch(new RegExp(`^  ${flag}\\b`, "m"));
  }
});

test.for<[flag: string, text: string, message: string]>([
  ["--node-name", "Node1", '--node-name is "Node1": is not a node name'],
  ["--node-name", "", '--node-name is "": is not a node name'],
  ["--node-name", "a/b", '--node-name is "a/b": is not a node name'],
  ["--pod-cidr", "10.244.1.0", '--pod-cidr: "10.244.1.0" is not a subnet'],
  ["--pod-cidr", "10.244.2.1/24", "--pod-cidr: 10.244.2.1/24 has host bits set; the subnet is 10.244.2.0/24"],
  ["--pod-cidr", "10.244.1.128/25", "--pod-cidr 10.244.1.128/25 overlaps 10.244.1.0/24"],
  ["--pod-cidr", "10.244.1.0/24", "--pod-cidr 10.244.1.0/24 overlaps 10.244.1.0/24"],
  ["--state-dir", "state", '--state-dir is "state": is not an absolute path'],
  ["--socket", "x.sock", '--socket is "x.sock": is not an absolute path'],
  ["--socket", `/${"ä".repeat(54)}`, "is longer than a unix socket's path can be"],
  ["--peers", "", '--peers is "": is not an absolute path'],
  ["--log-level", "loud", '--log-level is "loud": is none of trace, debug, info, warn, error'],
  ["--mtu", "many", '--mtu is "many": Invalid type: Expected number'],
  ["--mtu", "", '--mtu is "": Invalid type: Expected number'],
  ["--mtu", "1e3", '--mtu is "1e3": Invalid type: Expected number'],
  ["--mtu", "67", "--mtu is 67: IPv4 needs at least 68"],
  ["--mtu", "65536", "--mtu is 65536: "],
  ["--anti-spoof", "yes", '--anti-spoof is "yes": Invalid type: Expected boolean'],
  ["--cool-down-seconds", "86401", "--cool-down-seconds is 86401: "],
])("%s %j is refused by flag and value", ([flag, text, message]) => {
  const error = refusal([...GOOD, flag, text]);
  expect(error.code).toBe("CONFIG_INVALID");
  expect(error.message).toContain(message);
});

test("draining subnets and excluded ranges are flags too", () => {
  const more = ["--pod-cidr", "10.244.2.0/24", "--draining-cidr", "10.244.1.0/24", "--exclude", "10.244.2.7"];
  expect(parse([...GOOD, ...more]).rules).toEqual({
    draining: [parsePrefix("10.244.1.0/24")],
    excluded: [parseRange("10.244.2.7")],
    pools: [],
  });
  expect(refusal([...GOOD, "--draining-cidr", "10.244.9.0/24"]).message).toBe(
    "the draining subnet 10.244.9.0/24 is none of 10.244.1.0/24",
  );
  expect(refusal([...GOOD, "--exclude", "10.244.1.9-10.244.1.7"]).message).toBe(
    '--exclude: "10.244.1.9-10.244.1.7" ends before it begins',
  );
});

test("what is missing is named by the flag that would give it", () => {
  expect(refusal([])).toEqual({ code: "CONFIG_INVALID", message: "--node-name is missing; --pod-cidr is missing" });
});

test.for([
  ["--kubernetes", (config: Config) => config.kubernetes !== undefined],
  ["--policy", (config: Config) => config.policy.enabled],
  ["--anti-spoof", (config: Config) => config.antiSpoof],
  ["--repair", (config: Config) => config.repair],
  ["--egress-masquerade", (config: Config) => config.egress.masquerade],
] as const)("%s given bare is on, before another flag and at the end", ([flag, isOn]) => {
  const off = "kubernetes: { enabled: true }\npolicy: { enabled: false }\nantiSpoof: false\nrepair: false";
  const file = flag === "--kubernetes" ? undefined : off;
  expect(isOn(parse(GOOD, file))).toBe(false);
  expect(isOn(parse([...GOOD, flag], file))).toBe(true);
  expect(isOn(parse([flag, ...GOOD], file))).toBe(true);
  expect(isOn(parse([flag, "false", ...GOOD], file))).toBe(false);
});

test.for<[args: string[], message: string]>([
  [["--mtu"], "--mtu has no value"],
  [["--config"], "--config has no value"],
  [["--mtu", "--log-level", "warn"], "--mtu has no value; if --log-level is to be it, write --mtu=--log-level"],
  [
    ["--node-name", "--kubernetes"],
    "--node-name has no value; if --kubernetes is to be it, write --node-name=--kubernetes",
  ],
])("%j lacks a value, which is said", ([args, message]) => {
  expect(refusal(args)).toEqual({ code: "CONFIG_FLAGS", message });
});

test.for([["--nodename", "x"], ["node1"], ["--mtu"], ["--help=yes"]])("%j is refused by the name it has", (args) => {
  const error = refusal([...GOOD, ...args]);
  expect(error.code).toBe("CONFIG_FLAGS");
  expect(error.message).toContain((args[0] as string).split("=")[0]);
});

test.for<[text: string, address: object | undefined]>([
  ["127.0.0.1:9470", { host: "127.0.0.1", port: 9470 }],
  ["[::1]:0", { host: "::1", port: 0 }],
  ["localhost:9470", undefined],
  ["127.0.0.1", undefined],
  ["127.0.0.1:65536", undefined],
  ["::1:9470", undefined],
  ["[127.0.0.1]:9470", undefined],
  ["", undefined],
])("metrics at %j are served at %j", ([text, address]) => {
  const args = [...GOOD, "--metrics-address", text];
  if (address !== undefined) expect(parse(args).metricsAddress).toEqual(address);
  else expect(refusal(args).message).toBe(`--metrics-address is ${JSON.stringify(text)}: is not HOST:PORT`);
});

test("flags set a key within another, and leave the file's other ones", () => {
  const file = "egress: { masquerade: true, exceptCIDRs: [192.0.2.0/24] }";
  expect(parse([...GOOD, "--egress-masquerade", "false"], file).egress).toEqual({
    masquerade: false,
    exceptCIDRs: [parsePrefix("192.0.2.0/24")],
  });
  const { egress } = parse([...GOOD, "--egress-except", "fd00::/8", "--egress-except", "10.0.0.0/8"], file);
  expect(egress).toEqual({ masquerade: true, exceptCIDRs: ["fd00::/8", "10.0.0.0/8"].map(parsePrefix) });
});

test.for(["yes", ""])("--kubernetes %j is neither on nor off", (text) => {
  expect(refusal([...GOOD, "--kubernetes", text]).message).toContain(`--kubernetes is ${JSON.stringify(text)}: `);
});
