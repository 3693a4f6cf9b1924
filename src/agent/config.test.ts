// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { formatPrefix, parsePrefix } from "../net/prefix.ts";
import { parseRange } from "../net/range.ts";
import { parseConfig } from "./config.ts";
import { disk, FILE, GOOD, parse, refusal } from "./testing/parse-config.ts";

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

test("an empty file is no configuration, which flags may be instead", () => {
  expect(parse(GOOD, "").nodeName).toBe("node1");
  expect(parse(GOOD, "# nothing\n").nodeName).toBe("node1");
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
