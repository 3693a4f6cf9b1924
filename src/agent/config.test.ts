// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { formatPrefix, parsePrefix } from "../net/prefix.ts";
import { parseRange } from "../net/range.ts";
import { type Config, ConfigError, parseConfig, USAGE } from "./config.ts";

const GOOD = ["--node-name", "node1", "--pod-cidr", "10.244.1.0/24"];
const FILE = "/etc/flatnetd.yaml";

/** Reads like a file system that has one file. */
function disk(text: string | undefined) {
  return (path: string): string => {
    if (path !== FILE || text === undefined) throw new Error(`ENOENT: no such file or directory, open '${path}'`);
    return text;
  };
}

function parse(args: readonly string[], file?: string): Config {
  const config = parseConfig(file === undefined ? args : ["--config", FILE, ...args], disk(file));
  if (config === "help") throw new Error("it was help");
  return config;
}

function refusal(args: readonly string[], file?: string): { code: string; message: string } {
  try {
    parse(args, file);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { code, message } = error as ConfigError;
    // One line of a log, or of a terminal.
    expect(message).not.toContain("\n");
    return { code, message };
  }
  throw new Error("it was accepted");
}

const STATIC = {
  mode: "static",
  table: 254,
  bgp: { asn: 64_512, bfd: false, reflectors: [], peers: [], bird: "/usr/sbin/bird" },
};

const NO_RULES = { draining: [], excluded: [], pools: [] };

test("a name and a subnet are enough", () => {
  const { podCIDRs, ...config } = parse(GOOD);
  expect(config).toEqual({
    nodeName: "node1",
    stateDir: "/var/lib/flatnet",
    socket: "/run/flatnet/flatnetd.sock",
    peers: undefined,
    kubernetes: undefined,
    logLevel: "info",
    mtu: 0,
    antiSpoof: true,
    repair: true,
    coolDownSeconds: 120,
    retireAfterSeconds: 60,
    historyDays: 7,
    probeSeconds: 0,
    rules: NO_RULES,
    egress: { masquerade: false, exceptCIDRs: [] },
    metricsAddress: undefined,
    healthAddress: undefined,
    sysctlDir: "/proc/sys/net",
    node: { startupTaint: undefined },
    cni: { binDir: undefined, confDir: undefined, confName: "10-flatnet.conflist", chained: [] },
    policy: { enabled: false, onUnknown: "deny", allowFromNode: true, clusterPolicies: false },
    routes: STATIC,
  });
  expect(podCIDRs.map(formatPrefix)).toEqual(["10.244.1.0/24"]);
});

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

test("every key of a file is read", () => {
  const { podCIDRs, ...config } = parse(
    [],
    `nodeName: node2
podCIDRs: [10.244.2.0/24, 10.244.3.0/24, "fd00:10:244:2::/64"]
drainingCIDRs: [10.244.3.0/24]
excluded: [10.244.2.0/28, "fd00:10:244:2::a-fd00:10:244:2::f"]
pools:
  db: { ranges: [10.244.2.192/26, "fd00:10:244:2::1:0/112"], namespaces: [databases] }
stateDir: /s
socket: /s.sock
peers: /p.yaml
logLevel: warn
mtu: 9000
antiSpoof: false
repair: false
coolDownSeconds: 5
retireAfterSeconds: 7
historyDays: 30
probeSeconds: 10
egress: { masquerade: true, exceptCIDRs: [192.0.2.0/24, "2001:db8::/32"] }
metricsAddress: 127.0.0.1:9470
healthAddress: 127.0.0.1:26219
sysctlDir: /h
node: { startupTaint: flatnet.dev/agent-not-ready }
cni: { binDir: /b, confDir: /c, confName: 1.conflist, chained: [{ type: x }] }
policy: { enabled: false, onUnknown: allow, allowFromNode: false, clusterPolicies: true }
routes:
  mode: bgp
  table: 100
  bgp:
    asn: 64600
    routerId: 192.0.2.1
    bfd: true
    passwordFile: /p
    reflectors: [node1]
    peers: [{ address: "fd00:18::1", asn: 64601, passwordFile: /q, bfd: false }]
    bird: /bird
`,
  );
  expect(config).toEqual({
    nodeName: "node2",
    stateDir: "/s",
    socket: "/s.sock",
    peers: "/p.yaml",
    logLevel: "warn",
    mtu: 9000,
    antiSpoof: false,
    repair: false,
    coolDownSeconds: 5,
    retireAfterSeconds: 7,
    historyDays: 30,
    probeSeconds: 10,
    egress: { masquerade: true, exceptCIDRs: ["192.0.2.0/24", "2001:db8::/32"].map(parsePrefix) },
    metricsAddress: { host: "127.0.0.1", port: 9470 },
    healthAddress: { host: "127.0.0.1", port: 26_219 },
    sysctlDir: "/h",
    node: { startupTaint: "flatnet.dev/agent-not-ready" },
    cni: { binDir: "/b", confDir: "/c", confName: "1.conflist", chained: [{ type: "x" }] },
    policy: { enabled: false, onUnknown: "allow", allowFromNode: false, clusterPolicies: true },
    routes: {
      mode: "bgp",
      table: 100,
      bgp: {
        asn: 64_600,
        routerId: "192.0.2.1",
        bfd: true,
        passwordFile: "/p",
        reflectors: ["node1"],
        peers: [{ address: parseAddress("fd00:18::1"), asn: 64_601, passwordFile: "/q", bfd: false }],
        bird: "/bird",
      },
    },
    rules: {
      draining: [parsePrefix("10.244.3.0/24")],
      excluded: ["10.244.2.0/28", "fd00:10:244:2::a-fd00:10:244:2::f"].map(parseRange),
      pools: [
        {
          name: "db",
          ranges: ["10.244.2.192/26", "fd00:10:244:2::1:0/112"].map(parseRange),
          namespaces: ["databases"],
        },
      ],
    },
  });
  expect(podCIDRs.map(formatPrefix)).toEqual(["10.244.2.0/24", "10.244.3.0/24", "fd00:10:244:2::/64"]);
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

test("an empty file is no configuration, which flags may be instead", () => {
  expect(parse(GOOD, "").nodeName).toBe("node1");
  expect(parse(GOOD, "# nothing\n").nodeName).toBe("node1");
});

test.for([["--help"], ["-h"], ["--help", "--mtu", "many"], [...GOOD, "--help"]])(
  "%j asks for help and for nothing else",
  (args) => {
    expect(parseConfig(args, disk(undefined))).toBe("help");
  },
);

test("the help names every flag", () => {
  for (const flag of [
    "config",
    "node-name",
    "pod-cidr",
    "state-dir",
    "socket",
    "peers",
    "log-level",
    "mtu",
    "anti-spoof",
    "repair",
    "cool-down-seconds",
    "help",
  ]) {
    expect(USAGE).toMatch(new RegExp(`^  --${flag}\\b`, "m"));
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

test.for<[what: string, file: string, code: string, message: string]>([
  ["an unknown key", "nodename: x", "CONFIG_INVALID", "nodename is no key of the configuration"],
  ["a wrong type", "mtu: many", "CONFIG_INVALID", 'mtu is "many": Invalid type: Expected number'],
  ["a table that is none", "routes: { table: 0 }", "CONFIG_INVALID", "routes.table is 0: "],
  [
    "the kernel's own table",
    "routes: { table: 255 }",
    "CONFIG_INVALID",
    "routes.table is 255: is the kernel's own table",
  ],
  ["a fraction", "mtu: 1500.5", "CONFIG_INVALID", "mtu is 1500.5: "],
  ["a negative number", "coolDownSeconds: -1", "CONFIG_INVALID", "coolDownSeconds is -1: "],
  ["no value", "stateDir:", "CONFIG_INVALID", "stateDir is null: Invalid type: Expected string"],
  [
    "text that looks true",
    'antiSpoof: "true"',
    "CONFIG_INVALID",
    'antiSpoof is "true": Invalid type: Expected boolean',
  ],
  ["text that is no YAML", "a: [", "CONFIG_SYNTAX", `--config ${FILE} is not YAML: `],
  ["a key twice", "mtu: 1\nmtu: 2", "CONFIG_SYNTAX", `--config ${FILE} is not YAML: `],
  ["a list", "- mtu", "CONFIG_SYNTAX", `--config ${FILE} is not a map of keys`],
  ["a text", "mtu", "CONFIG_SYNTAX", `--config ${FILE} is not a map of keys`],
])("a file with %s is refused", ([, file, code, message]) => {
  const error = refusal(GOOD, file);
  expect(error.code).toBe(code);
  expect(error.message).toContain(message);
});

test("a file's subnets are refused by its own key", () => {
  const file = (podCIDRs: string) => `nodeName: node1\npodCIDRs: ${podCIDRs}`;
  expect(refusal([], file("[]")).message).toBe("podCIDRs is []: has no subnet");
  expect(refusal([], file("10.244.1.0/24")).message).toContain(
    'podCIDRs is "10.244.1.0/24": Invalid type: Expected Array',
  );
  expect(refusal([], file("[7]")).message).toContain("podCIDRs.0 is 7: Invalid type: Expected string");
  expect(refusal([], file("[x]")).message).toContain('podCIDRs: "x" is not a subnet');
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

test.for<[pools: string, message: string]>([
  ["{ db: {} }", "pools.db.ranges is missing"],
  ["{ db: { ranges: [] } }", "pools.db.ranges is []: has no range"],
  ["{ db: { ranges: [x] } }", 'pools.db.ranges: "x" is not a subnet, an address or a range'],
  ["{ DB: { ranges: [10.244.1.0/28] } }", "is not a pool's name"],
  ["{ db: { ranges: [10.244.9.0/28] } }", "pool db: 10.244.9.0/28 is not inside one of 10.244.1.0/24"],
  ["{ db: { ranges: [10.244.1.0/28], size: 3 } }", "size is no key of the configuration"],
])("pools that are %s are refused", ([pools, message]) => {
  expect(refusal(GOOD, `pools: ${pools}`).message).toContain(message);
});

test("a file that can't be read is told with the reason", () => {
  expect(() => parseConfig(["--config", FILE], disk(undefined))).toThrow(
    expect.objectContaining({
      code: "CONFIG_UNREADABLE",
      message: expect.stringContaining(`--config ${FILE} can't be read: ENOENT`),
    }),
  );
});

test("what is missing is named by the flag that would give it", () => {
  expect(refusal([])).toEqual({ code: "CONFIG_INVALID", message: "--node-name is missing; --pod-cidr is missing" });
});

test("all that is wrong is said at once", () => {
  const { message } = refusal(["--node-name", "A", "--mtu", "x"], "noodles: 1\nlogLevel: loud");
  for (const name of ["--node-name", "--mtu", "noodles", "logLevel", "--pod-cidr"]) expect(message).toContain(name);
});

test("an MTU that IPv6 can't have is refused where the node has IPv6", () => {
  expect(parse([...GOOD, "--mtu", "1279"]).mtu).toBe(1279);
  expect(refusal([...GOOD, "--pod-cidr", "fd00::/64", "--mtu", "1279"]).message).toBe(
    "--mtu is 1279: IPv6 needs at least 1280",
  );
  expect(parse([...GOOD, "--pod-cidr", "fd00::/64", "--mtu", "1280"]).mtu).toBe(1280);
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

test.for<[args: string[], file: string | undefined, message: string]>([
  [["--egress-masquerade", "yes"], undefined, '--egress-masquerade is "yes": '],
  [[], "egress: { masquerade: yes please }", 'egress.masquerade is "yes please": '],
  [["--egress-except", "10.0.0.1/8"], undefined, "--egress-except: 10.0.0.1/8 has host bits set"],
  [[], "egress: { exceptCIDRs: [everywhere] }", 'egress.exceptCIDRs: "everywhere" is not a subnet'],
  [[], "egress: { snat: true }", "egress.snat is no key of the configuration"],
])("%j with the file %j is refused by the name of what is wrong", ([args, file, message]) => {
  expect(refusal([...GOOD, ...args], file).message).toContain(message);
});

test.each([
  ["routes: { mode: ospf }", 'routes.mode is "ospf": is neither static nor bgp'],
  ["routes: { mode: bgp, bgp: { asn: 65535 } }", "routes.bgp.asn is 65535: is not the number of an AS"],
  [
    'routes: { bgp: { peers: [{ address: "fe80::1", asn: 1 }] } }',
    'routes.bgp.peers.0.address is "fe80::1": is not the address of a neighbour',
  ],
  ["routes: { bgp: { peers: [{ address: 192.0.2.1 }] } }", "routes.bgp.peers.0.asn is missing"],
  ["routes: { bgp: { password: secret } }", "routes.bgp.password is no key of the configuration"],
])("the file %j is refused by the field that is wrong", (text, message) => {
  expect(refusal(GOOD, text).message).toBe(message);
});

test("masquerading is refused where nobody says what is inside the cluster", () => {
  const bgp = "routes: { mode: bgp }";
  const egress = ["--egress-masquerade", "true"];
  expect(refusal([...GOOD, ...egress], bgp).message).toContain(
    "--egress-masquerade needs to know what is inside the cluster: name the nodes (--peers) or their subnets (--egress-except)",
  );
  expect(parse([...GOOD, ...egress, "--peers", "/p.yaml"], bgp).egress.masquerade).toBe(true);
  expect(parse([...GOOD, ...egress, "--egress-except", "10.244.0.0/16"], bgp).egress.masquerade).toBe(true);
});

const IN_KUBERNETES = ["--node-name", "node1", "--kubernetes", "true"];

test("in Kubernetes a name is enough", () => {
  const { podCIDRs, kubernetes } = parse(IN_KUBERNETES);
  expect(podCIDRs).toEqual([]);
  expect(kubernetes).toEqual({ kubeconfig: undefined, apiServer: undefined, serviceAccountDir: undefined });
});

test("how Kubernetes is reached is a file's keys, or flags", () => {
  const keys = "enabled: true, kubeconfig: /k, apiServer: 'https://[fd00::1]:6443', serviceAccountDir: /s";
  const expected = { kubeconfig: "/k", apiServer: "https://[fd00::1]:6443", serviceAccountDir: "/s" };
  expect(parse([], `nodeName: node1\nkubernetes: { ${keys} }`).kubernetes).toEqual(expected);
  const flags = ["--kubeconfig", "/k", "--api-server", "https://[fd00::1]:6443"];
  expect(parse([...IN_KUBERNETES, ...flags], "kubernetes: { serviceAccountDir: /s }").kubernetes).toEqual(expected);
});

test("in Kubernetes, subnets that are given stand", () => {
  const config = parse([...IN_KUBERNETES, "--pod-cidr", "10.244.1.0/24"]);
  expect(config.podCIDRs.map(formatPrefix)).toEqual(["10.244.1.0/24"]);
  expect(refusal([...IN_KUBERNETES, "--pod-cidr", "x"]).message).toContain('--pod-cidr: "x" is not a subnet');
});

test("a Kubernetes that is switched off gives no subnets", () => {
  expect(parse([...GOOD, "--kubernetes", "false", "--kubeconfig", "/k"]).kubernetes).toBeUndefined();
  expect(refusal(["--node-name", "node1", "--kubernetes", "false"]).message).toBe("--pod-cidr is missing");
});

test("rules about the subnets of other nodes stand in Kubernetes, where all nodes have one configuration", () => {
  const { rules } = parse([...IN_KUBERNETES, "--exclude", "10.244.9.0/28"]);
  expect(rules.excluded).toEqual([parseRange("10.244.9.0/28")]);
});

test("in Kubernetes it is known what is inside the cluster", () => {
  const args = [...IN_KUBERNETES, "--egress-masquerade", "true"];
  expect(parse(args, "routes: { mode: bgp }").egress.masquerade).toBe(true);
});

test.for<[args: string[], file: string | undefined, message: string]>([
  [["--peers", "/p.yaml"], undefined, "--peers is /p.yaml: with --kubernetes the nodes are Kubernetes'"],
  [["--api-server", "node1"], undefined, '--api-server is "node1": is not a URL like https://HOST:PORT'],
  [["--api-server", "https://me:secret@node1"], undefined, "is not a URL like https://HOST:PORT"],
  [["--kubeconfig", "k"], undefined, '--kubeconfig is "k": is not an absolute path'],
  [["--mtu", "1279"], undefined, "--mtu is 1279: IPv6 needs at least 1280"],
  [[], "kubernetes: { token: x }", "kubernetes.token is no key of the configuration"],
])("in Kubernetes %j with the file %j is refused", ([args, file, message]) => {
  expect(refusal([...IN_KUBERNETES, ...args], file).message).toContain(message);
});

test.for(["yes", ""])("--kubernetes %j is neither on nor off", (text) => {
  expect(refusal([...GOOD, "--kubernetes", text]).message).toContain(`--kubernetes is ${JSON.stringify(text)}: `);
});

test("where the plugin and the conflist go is said by flags or by the file, with the plugins behind flatnet", () => {
  const flags = ["--cni-bin-dir", "/b", "--cni-conf-dir", "/c"];
  expect(parse([...GOOD, ...flags]).cni).toEqual({
    binDir: "/b",
    confDir: "/c",
    confName: "10-flatnet.conflist",
    chained: [],
  });
  const file = 'cni: { binDir: /f, confName: 05-flatnet.conflist, chained: [{ type: tuning, sysctl: { a: "1" } }] }';
  expect(parse([...GOOD, ...flags], file).cni).toEqual({
    binDir: "/b",
    confDir: "/c",
    confName: "05-flatnet.conflist",
    chained: [{ type: "tuning", sysctl: { a: "1" } }],
  });
});

test.for<[file: string, problem: string]>([
  ["cni: { binDir: opt/cni }", 'cni.binDir is "opt/cni": is not an absolute path'],
  ["cni: { confName: ../x.conflist }", 'cni.confName is "../x.conflist": is not a file name that ends in .conflist'],
  [
    "cni: { confName: 10-flatnet.json }",
    'cni.confName is "10-flatnet.json": is not a file name that ends in .conflist',
  ],
  ["cni: { chained: [{ name: x }] }", "cni.chained.0.type is missing"],
  ["cni: { chained: [{ type: a/b }] }", 'cni.chained.0.type is "a/b": is not a plugin\'s name'],
  ["cni: { dir: /x }", "cni.dir is no key of the configuration"],
  ["node: { startupTaint: a b }", 'node.startupTaint is "a b": is no key of a taint'],
  ["node: { taint: a }", "node.taint is no key of the configuration"],
])("%s is refused", ([file, problem]) => {
  expect(refusal(GOOD, file).message).toContain(problem);
});

test("health has an address of its own", () => {
  expect(parse([...GOOD, "--health-address", "127.0.0.1:26219"]).healthAddress).toEqual({
    host: "127.0.0.1",
    port: 26_219,
  });
  expect(refusal([...GOOD, "--health-address", "localhost:1"]).message).toBe(
    '--health-address is "localhost:1": is not HOST:PORT',
  );
});

test("policies are enforced with Kubernetes unless somebody says not, and never without", () => {
  const inKubernetes = ["--node-name", "node1", "--kubernetes", "true"];
  expect(parse(inKubernetes).policy).toEqual({
    enabled: true,
    onUnknown: "deny",
    allowFromNode: true,
    clusterPolicies: false,
  });
  expect(parse([...inKubernetes, "--policy", "false"]).policy.enabled).toBe(false);
  expect(parse([...inKubernetes, "--policy-on-unknown", "allow"]).policy.onUnknown).toBe("allow");
  expect(() => parse([...GOOD, "--policy", "true"])).toThrow(/^--policy needs --kubernetes/);
  expect(() => parse([...GOOD, "--policy-on-unknown", "maybe"])).toThrow("is neither deny nor allow");
});
