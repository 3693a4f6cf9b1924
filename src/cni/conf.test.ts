// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "../net/address.ts";
import { parseDaemonConf, parseGcConf, parseIpamConf, parsePluginConf, parseStatusConf, versionIn } from "./conf.ts";
import { CniError } from "./errors.ts";
import { SUPPORTED_VERSIONS, versionDocument } from "./version.ts";

const GOOD = { cniVersion: "1.1.0", name: "pods", type: "flatnet" };

function refused(text: string, parse: (text: string) => unknown = parsePluginConf) {
  try {
    parse(text);
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
    journalDir: "/var/lib/flatnet/journal",
    requestedAddresses: [],
    aliases: [],
    routes: [],
    pool: "",
    sticky: undefined,
    dns: {},
    prevResult: undefined,
    mtu: 0,
    mac: undefined,
    portMappings: [],
    bandwidth: undefined,
    sysctls: new Map(),
  });
});

test("addresses are of a pool, and are kept for an owner, where the network says so", () => {
  const args = { cni: { owner: "disk-7" } };
  const wish = { pool: "db", sticky: { ttlSeconds: 600 } };
  expect(parsePluginConf(JSON.stringify({ ...GOOD, ...wish }))).toMatchObject({
    pool: "db",
    sticky: { ttlSeconds: 600, owner: "" },
  });
  expect(parsePluginConf(JSON.stringify({ ...GOOD, ...wish, args })).sticky).toEqual({
    ttlSeconds: 600,
    owner: "disk-7",
  });
  // Somebody else's, in a network that keeps nothing.
  expect(parsePluginConf(JSON.stringify({ ...GOOD, args })).sticky).toBeUndefined();
  const ipam = { type: "flatnet-ipam", ...wish };
  expect(parseIpamConf(JSON.stringify({ ...GOOD, type: "bridge", ipam, args }))).toMatchObject({
    pool: "db",
    sticky: { ttlSeconds: 600, owner: "disk-7" },
  });
  expect(parseStatusConf(JSON.stringify({ ...GOOD, ...wish }), "flatnet").pool).toBe("db");
  expect(parseStatusConf(JSON.stringify({ ...GOOD, ipam }), "flatnet-ipam").pool).toBe("db");
});

test.for([
  [{ pool: 7 }, "pool is 7, not a string"],
  [{ sticky: true }, "sticky is true, not an object"],
  [{ sticky: {} }, "sticky.ttlSeconds is 0, not a whole number from 1 to 31536000"],
  [{ sticky: { ttlSeconds: 31_536_001 } }, "sticky.ttlSeconds is 31536001"],
  [{ sticky: { ttlSeconds: 1 }, args: { cni: { owner: 7 } } }, "args.cni.owner is 7, not a string"],
] as const)("%j is refused", ([wish, details]) => {
  const error = refused(JSON.stringify({ ...GOOD, ...wish }));
  expect(error.code).toBe(7);
  expect(error.details).toContain(details);
  // A DEL must not trip over what it does not need.
  expect(parseDaemonConf(JSON.stringify({ ...GOOD, ...wish }), "flatnet").name).toBe("pods");
});

test("null is what isn't said, for keys of our own as for capabilities: runtimes write it", () => {
  const keys = ["cniVersion", "socket", "timeoutMs", "connectWaitMs", "mtu", "journalDir", "routes", "sysctls", "dns"];
  const nulls = Object.fromEntries([...keys, "args", "prevResult", "runtimeConfig"].map((key) => [key, null]));
  const { cniVersion: _, ...rest } = GOOD;
  expect(parsePluginConf(JSON.stringify({ ...GOOD, ...nulls }))).toEqual(parsePluginConf(JSON.stringify(rest)));
  const capabilities = ["portMappings", "bandwidth", "ips", "mac", "dns", "aliases", "ipRanges", "cgroupPath"];
  const runtimeConfig = Object.fromEntries(capabilities.map((key) => [key, null]));
  expect(parsePluginConf(JSON.stringify({ ...GOOD, runtimeConfig, args: { cni: null } }))).toEqual(
    parsePluginConf(JSON.stringify(GOOD)),
  );
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
  ["cniVersion", ["1.1.0"], 'cniVersion is ["1.1.0"], not a string'],
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
  ["timeoutMs", [1], "timeoutMs is [1], not"],
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
  ["runtimeConfig", 7, "runtimeConfig is 7, not an object"],
  ["runtimeConfig", [], "runtimeConfig is [], not an object"],
  ["args", "x", 'args is "x", not an object'],
  ["args", { cni: [] }, "args.cni is [], not an object"],
  ["args", { cni: { ips: "10.0.0.1" } }, 'args.cni.ips is "10.0.0.1", not a list'],
  ["args", { cni: { ips: [7] } }, "args.cni.ips.0 is 7, not a string"],
  ["args", { cni: { ips: ["10.0.0.1", "x"] } }, 'args.cni.ips.1 is "x", not an IP address'],
  ["prevResult", 7, "prevResult is 7, not an object"],
  ["prevResult", [], "prevResult is [], not an object"],
  ["prevResult", { cniVersion: 7 }, "prevResult.cniVersion is 7, not a string"],
  ["prevResult", { ips: {} }, "prevResult.ips is {}, not a list"],
  ["routes", {}, "routes is {}, not a list"],
  ["routes", [7], "routes.0 is 7, not an object"],
  ["routes", [null], "routes.0.dst is missing, not an address with prefix length"],
  ["routes", [{}], "routes.0.dst is missing, not an address with prefix length"],
  ["routes", [{ dst: 7 }], "routes.0.dst is 7, not an address with prefix length"],
  ["routes", [{ dst: "10.0.0.0" }], 'routes.0.dst is "10.0.0.0", not an address with prefix length'],
  ["routes", [{ dst: "x/8" }], 'routes.0.dst is "x", not an IP address'],
  ...["", "33", "-1", "8.0", " 8", "+8", "0x8", "08", "1e1", "8/8"].map((length): [string, unknown, string] => [
    "routes",
    [{ dst: `10.0.0.0/${length}` }],
    `routes.0.dst is "10.0.0.0/${length}", not an address with a prefix length from 0 to 32`,
  ]),
  ["routes", [{ dst: "fd00::/129" }], "not an address with a prefix length from 0 to 128"],
  ["routes", [{ dst: "10.0.0.1/24" }], 'routes.0.dst is "10.0.0.1/24", not a network'],
  ["routes", [{ dst: "0.0.0.1/0" }], 'routes.0.dst is "0.0.0.1/0", not a network'],
  ["routes", [{ dst: "10.0.0.0/8" }, { dst: "fd00::1/127" }], 'routes.1.dst is "fd00::1/127", not a network'],
  ["routes", [{ dst: "10.0.0.0/8", gw: 7 }], "routes.0.gw is 7, not an IP address"],
  ["routes", [{ dst: "10.0.0.0/8", gw: "x" }], 'routes.0.gw is "x", not an IP address'],
  ["routes", [{ dst: "10.0.0.0/8", gw: "fe80::1" }], "not an address of the family of 10.0.0.0/8"],
  ...(["mtu", "advmss", "priority", "table", "scope"] as const).flatMap((key) =>
    ["1", 1.5, -1, {}, 2 ** 32].map((value): [string, unknown, string] => [
      "routes",
      [{ dst: "10.0.0.0/8", [key]: value }],
      `routes.0.${key} is ${JSON.stringify(value)}, not a whole number from 0 to`,
    ]),
  ),
  ["routes", [{ dst: "10.0.0.0/8", scope: 253 }], "routes.0.scope is 253, not a whole number from 0 to 252"],
  ["routes", new Array(1025).fill({ dst: "10.0.0.0/8" }), 'routes is "1025 items", not at most 1024'],
  ["sysctls", [], "sysctls is [], not an object"],
  ["sysctls", "x", 'sysctls is "x", not an object'],
  ["sysctls", { "net.ipv4.ip_forward": 1 }, "sysctls.net.ipv4.ip_forward is 1, not a short string"],
  ["sysctls", { "net.ipv4.ip_forward": "" }, 'sysctls.net.ipv4.ip_forward is "", not a short string'],
  ["sysctls", { "net.ipv4.ip_forward": " \n" }, "not a short string"],
  ["sysctls", { "net.ipv4.ip_forward": "1".repeat(257) }, "not a short string"],
  ["sysctls", { "net.ipv4.ip_forward": null }, "sysctls.net.ipv4.ip_forward is null, not a short string"],
  ["dns", 7, "dns is 7, not an object"],
  ["dns", { nameservers: "192.0.2.1" }, 'dns.nameservers is "192.0.2.1", not a list'],
  ["dns", { domain: 7 }, "dns.domain is 7, not a string"],
  ["dns", { search: [7] }, "dns.search.0 is 7, not a string"],
  ["dns", { options: {} }, "dns.options is {}, not a list"],
])("%s of %j is refused by name and value: code 7", ([field, value, details]) => {
  const error = refused(JSON.stringify({ ...GOOD, [field]: value }));
  expect(error).toMatchObject({ code: 7, message: "invalid network configuration" });
  expect(error.details).toContain(details);
  expect(error.details.length).toBeLessThan(400);
});

test.for(SUPPORTED_VERSIONS)("version %s is spoken", (cniVersion) => {
  expect(parsePluginConf(JSON.stringify({ ...GOOD, cniVersion })).cniVersion).toBe(cniVersion);
});

test.for<[capability: string, value: unknown, details: string]>([
  ["ips", "10.0.0.1", 'ips is "10.0.0.1", not a list'],
  ["ips", {}, "ips is {}, not a list"],
  ["ips", [7], "ips.0 is 7, not a string"],
  ["ips", ["10.0.0.1", ""], 'ips.1 is "", not an IP address'],
  ["ips", ["10.0.0.1/33"], 'ips.0 is "10.0.0.1/33", not an address with a prefix length'],
  ["ips", ["10.0.0.1-10.0.0.9"], 'ips.0 is "10.0.0.1-10.0.0.9", not an IP address'],
  ["mac", 7, "mac is 7, not the MAC address of an interface"],
  ["mac", ["02:00:00:00:00:01"], "not the MAC address of an interface"],
  ...[
    "02:42:ac:11:00",
    "02:42:ac:11:00:02:03",
    "02-42-ac-11-00-02",
    "0242ac110002",
    "2:42:ac:11:0:2",
    "02:42:ac:11:00:0g",
    "02:42:ac:11:00:1 ",
    "02:42:ac:11:00: 1",
    "02:42:ac:11:00:+1",
    "02:42:ac:11:00:0x",
    "02:42:ac:11:00:100",
    "02:42:ac:11:00:",
    "00:00:00:00:00:00",
    "ff:ff:ff:ff:ff:ff",
    "01:00:5e:00:00:01",
  ].map((mac): [string, unknown, string] => ["mac", mac, `mac is "${mac}", not the MAC address of an interface`]),
  ["dns", "x", 'dns is "x", not an object'],
  ["dns", { servers: "192.0.2.1" }, 'dns.servers is "192.0.2.1", not a list'],
  ["dns", { searches: [null] }, "dns.searches.0 is null, not a string"],
  ["dns", { options: 7 }, "dns.options is 7, not a list"],
  ["portMappings", {}, "portMappings is {}, not a list"],
  ["portMappings", [7], "portMappings.0 is 7, not an object"],
  ["portMappings", [{ hostPort: "80" }], 'portMappings.0.hostPort is "80", not a whole number from 0 to 65535'],
  ["portMappings", [{ hostPort: 65_536 }], "portMappings.0.hostPort is 65536, not"],
  ["portMappings", [{ hostPort: 80 }], "portMappings.0.containerPort is missing, not a whole number from 1 to 65535"],
  ["portMappings", [{ hostPort: 80, containerPort: 0 }], "portMappings.0.containerPort is 0, not"],
  ["portMappings", [{ hostPort: 80, containerPort: "80" }], 'portMappings.0.containerPort is "80", not'],
  ["portMappings", [{ hostPort: 80, containerPort: 80, protocol: 6 }], "portMappings.0.protocol is 6, not a string"],
  [
    "portMappings",
    [{ hostPort: 0 }, { hostPort: 80, containerPort: 80, protocol: "icmp" }],
    'portMappings.1.protocol is "icmp", not tcp, udp or sctp',
  ],
  ["portMappings", [{ hostPort: 80, containerPort: 80, hostIP: 7 }], "portMappings.0.hostIP is 7, not a string"],
  [
    "portMappings",
    [{ hostPort: 80, containerPort: 80, hostIP: "localhost" }],
    'portMappings.0.hostIP is "localhost", not an IP address',
  ],
  ["aliases", "db", 'aliases is "db", not a list'],
  ["aliases", ["db", 7], "aliases.1 is 7, not a DNS name"],
  ["aliases", [null], "aliases.0 is null, not a DNS name"],
  ["aliases", ["d b"], 'aliases.0 is "d b", not a DNS name: labels of up to 63 letters'],
  ["aliases", { pods: "db" }, 'aliases.pods is "db", not a list'],
  ["aliases", { pods: ["db", ""] }, 'aliases.pods.1 is "", not a DNS name'],
  ["aliases", Array(65).fill("db"), 'aliases is "65 items", not at most 64'],
  ["bandwidth", 7, "bandwidth is 7, not an object"],
  ["bandwidth", { ingressRate: "1M" }, 'bandwidth.ingressRate is "1M", not a whole number'],
])("the capability %s of %j is refused by name and value: code 7", ([capability, value, details]) => {
  const error = refused(JSON.stringify({ ...GOOD, runtimeConfig: { [capability]: value } }));
  expect(error).toMatchObject({ code: 7, message: "invalid network configuration" });
  expect(error.details).toContain(`runtimeConfig.${capability}`);
  expect(error.details).toContain(details);
});

test("addresses are asked for with or without length, and the runtime's capability comes first", () => {
  const asked = (more: object) => parsePluginConf(JSON.stringify({ ...GOOD, ...more })).requestedAddresses;
  const args = { cni: { ips: ["10.0.0.9"] } };
  expect(asked({ args })).toEqual(["10.0.0.9"]);
  expect(asked({ args, runtimeConfig: { ips: [] } })).toEqual(["10.0.0.9"]);
  expect(asked({ args, runtimeConfig: { ips: ["10.0.0.7/24", "FD00:0::7"] } })).toEqual(["10.0.0.7", "fd00::7"]);
});

test("a MAC is six bytes, in either case, and an empty one is none", () => {
  const mac = (text: string) => parsePluginConf(JSON.stringify({ ...GOOD, runtimeConfig: { mac: text } })).mac;
  expect([...(mac("02:42:AC:1f:00:0A") ?? [])]).toEqual([0x02, 0x42, 0xac, 0x1f, 0x00, 0x0a]);
  expect(mac("")).toBeUndefined();
});

test("ports are mapped that have a host port; a protocol is tcp unless said, in whatever case", () => {
  const portMappings = [
    { hostPort: 8080, containerPort: 80 },
    { hostPort: 0, containerPort: 81, protocol: "odd" },
    { containerPort: 82 },
    { hostPort: 53, containerPort: 5353, protocol: "UDP", hostIP: "192.0.2.1", other: 1 },
    { hostPort: 54, containerPort: 54, protocol: "SCTP", hostIP: "2001:DB8:0::1" },
    { hostPort: 55, containerPort: 55, hostIP: "::ffff:192.0.2.1" },
    { hostPort: 56, containerPort: 56, hostIP: "::" },
    { hostPort: 57, containerPort: 57, hostIP: null, protocol: null },
  ];
  expect(parsePluginConf(JSON.stringify({ ...GOOD, runtimeConfig: { portMappings } })).portMappings).toEqual([
    { hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: "" },
    { hostPort: 53, containerPort: 5353, protocol: "udp", hostIp: "192.0.2.1" },
    { hostPort: 54, containerPort: 54, protocol: "sctp", hostIp: "2001:db8::1" },
    // The daemon has it as IPv4, and CHECK compares.
    { hostPort: 55, containerPort: 55, protocol: "tcp", hostIp: "192.0.2.1" },
    { hostPort: 56, containerPort: 56, protocol: "tcp", hostIp: "::" },
    { hostPort: 57, containerPort: 57, protocol: "tcp", hostIp: "" },
  ]);
});

test("capabilities are taken as containerd writes them, with the field names of its Go structs", () => {
  const runtimeConfig = {
    portMappings: [{ HostPort: 8080, ContainerPort: 80, Protocol: "udp", HostIP: "192.0.2.1" }],
    bandwidth: { IngressRate: 1_000_000, IngressBurst: 500_000, EgressRate: 0, EgressBurst: 0 },
    dns: { Servers: ["192.0.2.53"], Searches: ["cluster.local"], Options: null },
  };
  expect(parsePluginConf(JSON.stringify({ ...GOOD, dns: {}, runtimeConfig }))).toMatchObject({
    portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "udp", hostIp: "192.0.2.1" }],
    bandwidth: { ingress: { rate: 1_000_000, burst: 500_000 }, egress: undefined },
    dns: { nameservers: ["192.0.2.53"], search: ["cluster.local"] },
  });
});

test("a capability's field in its own case goes before one in another", () => {
  const portMappings = [{ HostPort: 1, hostPort: 8080, HOSTPORT: 2, containerport: 80 }];
  expect(parsePluginConf(JSON.stringify({ ...GOOD, runtimeConfig: { portMappings } })).portMappings).toEqual([
    { hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: "" },
  ]);
});

test("aliases are read as the runtime gives them, for flatnet and flatnet-ipam", () => {
  const text = JSON.stringify({ ...GOOD, ipam: {}, runtimeConfig: { aliases: ["web_1", "DB.Prod", "7f3c0a"] } });
  expect(parsePluginConf(text).aliases).toEqual(["web_1", "DB.Prod", "7f3c0a"]);
  expect(parseIpamConf(text).aliases).toEqual(["web_1", "DB.Prod", "7f3c0a"]);
});

test("of aliases by network, as Podman and CRI-O write them, the own network's are taken", () => {
  const read = (aliases: object, name = "pods") =>
    parsePluginConf(JSON.stringify({ ...GOOD, name, runtimeConfig: { aliases } })).aliases;
  expect(read({ pods: ["db"], other: ["web"] })).toEqual(["db"]);
  expect(read({ other: ["web"] })).toEqual([]);
  expect(read({ pods: null })).toEqual([]);
  expect(read({}, "constructor")).toEqual([]);
});

test("routes are read with all that the spec has for them", () => {
  const routes = [
    { dst: "192.0.2.0/24", gw: "169.254.1.1", mtu: 1300, advmss: 1200, priority: 7, table: 4_294_967_295, scope: 252 },
    { dst: "::/0", gw: "", mtu: null },
    { dst: "10.1.2.3/32" },
    { dst: "10.1.2.128/25", gw: null },
  ];
  const read = parsePluginConf(JSON.stringify({ ...GOOD, routes })).routes.map(({ destination, gateway, ...rest }) => ({
    destination: formatAddress(destination),
    gateway: gateway && formatAddress(gateway),
    ...rest,
  }));
  const nothing = { mtu: undefined, advmss: undefined, priority: undefined, table: undefined, scope: undefined };
  expect(read).toEqual([
    {
      destination: "192.0.2.0",
      length: 24,
      gateway: "169.254.1.1",
      mtu: 1300,
      advmss: 1200,
      priority: 7,
      table: 4_294_967_295,
      scope: 252,
    },
    { destination: "::", length: 0, gateway: undefined, ...nothing },
    { destination: "10.1.2.3", length: 32, gateway: undefined, ...nothing },
    { destination: "10.1.2.128", length: 25, gateway: undefined, ...nothing },
  ]);
});

test("a route's destination is taken exactly when nothing is set behind its length", () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6());
  fc.assert(
    fc.property(address, fc.nat(128), fc.boolean(), (text, some, clear) => {
      const bytes = parseAddress(text);
      const length = some % (bytes.length * 8 + 1);
      const bit = (i: number) => ((bytes[i >> 3] as number) >> (7 - (i & 7))) & 1;
      if (clear)
        for (let i = length; i < bytes.length * 8; i++)
          bytes[i >> 3] = (bytes[i >> 3] as number) & ~(1 << (7 - (i & 7)));
      let behind = 0;
      for (let i = length; i < bytes.length * 8; i++) behind += bit(i);
      const conf = JSON.stringify({ ...GOOD, routes: [{ dst: `${formatAddress(bytes)}/${length}` }] });
      if (behind === 0) expect(parsePluginConf(conf).routes[0]).toMatchObject({ destination: bytes, length });
      else expect(refused(conf).details).toContain("routes.0.dst");
    }),
  );
});

test.for([
  "net.ipv4.ip_unprivileged_port_start",
  "net.ipv4.conf.eth0.rp_filter",
  "net.ipv6.conf.all.forwarding",
  "net.core.somaxconn",
  "net.unix.max_dgram_qlen",
  "net.netfilter.nf_conntrack_tcp_timeout_established",
  "net.ipv4.conf.eth0-1.rp_filter",
])("the sysctl %s is a pod's own", (name) => {
  expect(parsePluginConf(JSON.stringify({ ...GOOD, sysctls: { [name]: "1" } })).sysctls).toEqual(
    new Map([[name, "1"]]),
  );
});

test.for([
  "kernel.hostname",
  "vm.swappiness",
  "fs.file-max",
  "net.ipv4",
  "net.ipv4.",
  "net.ipv4..x",
  "net.ipv4.x.",
  "net.ipv4x.y",
  "net.bridge.bridge-nf-call-iptables",
  "net.ipv4/../../kernel",
  "net.ipv4/../../kernel.panic",
  "net.ipv4.../../kernel",
  "net.ipv4.x/../../../kernel/panic",
  "net/ipv4/ip_forward",
  "net.ipv4.\\x",
  "net.ipv4.x\u0000y",
  "net.ipv4.x y",
  "net.ipv4.-x",
  "",
  "__proto__",
])("the sysctl %j is refused by name: code 7", (name) => {
  const error = refused(`{"name":"pods","sysctls":{${JSON.stringify(name)}:"1"}}`);
  expect(error.code).toBe(7);
  expect(error.details).toContain(`sysctls is ${JSON.stringify(name)}, not a sysctl of a pod's own`);
});

test("any name of a sysctl that is taken stays below /proc/sys/net", () => {
  const name = fc.string({ unit: fc.constantFrom(..."./\\ax0_-\0 "), maxLength: 12 }).map((text) => `net.ipv4.${text}`);
  fc.assert(
    fc.property(name, (it) => {
      try {
        parsePluginConf(JSON.stringify({ ...GOOD, sysctls: { [it]: "1" } }));
      } catch (error) {
        expect(error).toMatchObject({ code: 7 });
        return;
      }
      expect(it.slice("net.".length).replaceAll(".", "/")).toMatch(/^ipv4(\/[a-zA-Z0-9][a-zA-Z0-9_-]*)+$/);
    }),
  );
});

test("the runtime's dns goes over the configuration's, list by list", () => {
  const dns = { nameservers: ["192.0.2.1"], domain: "example", search: ["a.example"], options: ["ndots:2"] };
  const read = (more: object) => parsePluginConf(JSON.stringify({ ...GOOD, ...more })).dns;
  expect(read({ dns })).toEqual(dns);
  expect(read({ dns, runtimeConfig: { dns: { servers: [], searches: ["b.example"] } } })).toEqual({
    ...dns,
    search: ["b.example"],
  });
  expect(read({ runtimeConfig: { dns: { servers: ["192.0.2.53"], searches: ["b"], options: ["x"] } } })).toEqual({
    nameservers: ["192.0.2.53"],
    search: ["b"],
    options: ["x"],
  });
  expect(read({ dns: { domain: "", search: [] } })).toEqual({});
});

test("a result of an earlier call is read in its own version, or else the configuration's", () => {
  const ips = [{ address: "10.0.0.7/24" }];
  const ip4 = { ip: "10.0.0.7/24" };
  const read = (cniVersion: string, prevResult: object) =>
    parsePluginConf(JSON.stringify({ ...GOOD, cniVersion, prevResult })).prevResult?.ips;
  expect(read("1.1.0", { ips, ip4: { ip: "10.9.9.9/8" } })).toEqual(ips);
  expect(read("0.2.0", { ip4 })).toEqual(ips);
  expect(read("1.1.0", { cniVersion: "0.2.0", ip4 })).toEqual(ips);
  expect(read("0.2.0", { cniVersion: "0.3.1", ips })).toEqual(ips);
});

test("DEL and STATUS read only where the daemon is, and what is wrong beside it is no matter", () => {
  const bad = {
    prevResult: "x",
    runtimeConfig: 7,
    args: [],
    routes: 7,
    sysctls: "x",
    dns: [],
    mtu: "x",
    "cni.dev/valid-attachments": 7,
  };
  const daemon = { socket: "/s", timeoutMs: 7, connectWaitMs: 3, journalDir: "/j" };
  const expected = { cniVersion: "1.1.0", name: "pods", ...daemon };
  expect(parseDaemonConf(JSON.stringify({ ...GOOD, ...daemon, ...bad, ipam: 7 }), "flatnet")).toEqual(expected);
  expect(
    parseDaemonConf(JSON.stringify({ ...GOOD, ...bad, socket: 7, ipam: { ...daemon, routes: 7 } }), "flatnet-ipam"),
  ).toEqual(expected);
  for (const key of ["socket", "timeoutMs", "connectWaitMs", "journalDir"]) {
    const own = { ...daemon, [key]: {} };
    expect(() => parseDaemonConf(JSON.stringify({ ...GOOD, ...own }), "flatnet")).toThrow(
      expect.objectContaining({ code: 7, details: expect.stringContaining(`${key} is {}`) }),
    );
    expect(() => parseDaemonConf(JSON.stringify({ ...GOOD, ipam: own }), "flatnet-ipam")).toThrow(
      expect.objectContaining({ code: 7, details: expect.stringContaining(`${key} is {}`) }),
    );
  }
});

test("flatnet-ipam has its own keys in the ipam section, and the network's beside it", () => {
  const conf = {
    ...GOOD,
    type: "bridge",
    mtu: "the bridge's own",
    socket: 7,
    routes: "the bridge's own",
    dns: { nameservers: ["192.0.2.1"] },
    args: { cni: { ips: ["10.0.0.9"] } },
    runtimeConfig: { ips: ["10.0.0.7/24"], portMappings: "portmap's own", mac: 7 },
    ipam: { type: "flatnet-ipam", socket: "/s", routes: [{ dst: "0.0.0.0/0" }] },
  };
  expect(parseIpamConf(JSON.stringify(conf))).toMatchObject({
    name: "pods",
    socket: "/s",
    requestedAddresses: ["10.0.0.7"],
    routes: [{ length: 0 }],
    dns: { nameservers: ["192.0.2.1"] },
  });
  expect(refused(JSON.stringify({ ...conf, ipam: 7 }), parseIpamConf)).toMatchObject({
    code: 7,
    details: "ipam is 7, not an object",
  });
});

test.for(["cni.dev/valid-attachments", "cni.dev/attachments"])("GC's list is read under %s", (key) => {
  const list = [
    { containerID: "c0ffee", ifname: "eth0", more: 1 },
    { containerID: "c0ffee", ifname: "net1" },
  ];
  const keep = (value: unknown) => parseGcConf(JSON.stringify({ ...GOOD, [key]: value }), "flatnet").validAttachments;
  expect(keep(list)).toEqual(new Set(["c0ffee/eth0", "c0ffee/net1"]));
  expect(keep([])).toEqual(new Set());
});

test("GC's newer list counts where both are, unless it is null", () => {
  const older = { "cni.dev/attachments": [{ containerID: "a", ifname: "eth0" }] };
  const keep = (newer: unknown) =>
    parseGcConf(JSON.stringify({ ...GOOD, ...older, "cni.dev/valid-attachments": newer }), "flatnet").validAttachments;
  expect(keep([])).toEqual(new Set());
  expect(keep(null)).toEqual(new Set(["a/eth0"]));
});

test.for<[conf: object, details: string]>([
  [{}, "cni.dev/valid-attachments is missing, not the list of attachments to keep; an empty one frees all"],
  [{ "cni.dev/valid-attachments": null }, "cni.dev/valid-attachments is missing"],
  [{ "cni.dev/attachments": null }, "cni.dev/valid-attachments is missing"],
  [{ "cni.dev/valid-attachments": {} }, "cni.dev/valid-attachments is {}, not a list"],
  [{ "cni.dev/attachments": "a/eth0" }, 'cni.dev/attachments is "a/eth0", not a list'],
  [{ "cni.dev/valid-attachments": ["a/eth0"] }, 'cni.dev/valid-attachments.0 is "a/eth0", not an object'],
  [{ "cni.dev/valid-attachments": [null] }, "cni.dev/valid-attachments.0 is null, not an object with containerID"],
  [
    { "cni.dev/attachments": [{ containerID: "a" }] },
    'cni.dev/attachments.0 is {"containerID":"a"}, not an object with',
  ],
  [{ "cni.dev/valid-attachments": [{ ifname: "eth0" }] }, "not an object with containerID and ifname"],
  [{ "cni.dev/valid-attachments": [{ containerID: 7, ifname: "x" }] }, "cni.dev/valid-attachments.0.containerID is 7"],
  [{ "cni.dev/valid-attachments": [{ containerID: "a", ifname: [] }] }, "cni.dev/valid-attachments.0.ifname is []"],
])("GC's list in %j is refused: code 7, never everything freed", ([conf, details]) => {
  const error = refused(JSON.stringify({ ...GOOD, ...conf }), (text) => parseGcConf(text, "flatnet"));
  expect(error.code).toBe(7);
  expect(error.details).toContain(details);
});

test("a configuration without a version is one of 0.2.0", () => {
  expect(parsePluginConf('{"name":"pods"}').cniVersion).toBe("0.2.0");
});

test.for(["", "0.0.1", "0.3", "1.0", "1.2.0", "v1.0.0", "1.1.0 "])("version %j is not spoken: code 1", (cniVersion) => {
  expect(refused(JSON.stringify({ ...GOOD, cniVersion }))).toEqual({
    code: 1,
    message: "incompatible CNI version",
    details: `cniVersion ${JSON.stringify(cniVersion)} is not one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`,
  });
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
    "runtimeConfig",
    "args",
    "routes",
    "sysctls",
    "dns",
    "ipam",
    "cni.dev/valid-attachments",
  );
  const object = fc
    .dictionary(field, fc.jsonValue({ maxDepth: 3 }))
    .map((fields) => JSON.stringify({ ...GOOD, ...fields }));
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), object), (text) => {
      const gc = (it: string) => parseGcConf(it, "flatnet-ipam");
      for (const parse of [parsePluginConf, parseIpamConf, gc]) {
        try {
          parse(text);
        } catch (error) {
          expect(error).toBeInstanceOf(CniError);
          expect([1, 6, 7]).toContain((error as CniError).code);
        }
      }
    }),
    { numRuns: 500 },
  );
});

test("the answer to VERSION is the caller's version and all that are spoken", () => {
  expect(versionDocument("0.4.0")).toBe(
    '{"cniVersion":"0.4.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}',
  );
});
