// SPDX-License-Identifier: Apache-2.0
//
// The documents as runtimes read them, written out whole: a key too many or too few is a bug somewhere else.
import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "../net/address.ts";
import { planPodNetwork } from "../podnet/plan.ts";
import { parsePluginConf } from "./conf.ts";
import { CniError } from "./errors.ts";
import { planResult } from "./plan-result.ts";
import { parseResult, type Result, resultDocument } from "./result.ts";
import { atLeast, type CniVersion, SUPPORTED_VERSIONS } from "./version.ts";

const ATTACHMENT = { network: "pods", containerId: "c0ffee", ifname: "eth0" };
const sha256 = (text: string): Uint8Array => createHash("sha256").update(text).digest();
const V4 = "10.244.1.7";
const V6 = "fd00:10:244:1::7";

const WISHES = parsePluginConf(
  JSON.stringify({
    name: "pods",
    routes: [{ dst: "192.0.2.0/24", mtu: 1300, advmss: 1200, priority: 7, table: 9, scope: 1 }],
  }),
);
const NO_WISHES = parsePluginConf('{"name":"pods"}');

function result(cniVersion: CniVersion, ...addresses: string[]): unknown {
  return resultWith(NO_WISHES, cniVersion, ...addresses);
}

function resultWith(wishes: typeof WISHES, cniVersion: CniVersion, ...addresses: string[]): unknown {
  const plan = planPodNetwork(ATTACHMENT, undefined, addresses.map(parseAddress), 1450, wishes, sha256);
  return JSON.parse(resultDocument(planResult(plan, "/run/netns/pod", {}, cniVersion), cniVersion));
}

const INTERFACES = [
  { name: "flcyhtu3dozzl", mac: "06:fe:0a:f4:01:07" },
  { name: "eth0", mac: "02:fe:0a:f4:01:07", sandbox: "/run/netns/pod" },
];
const IP4 = { address: "10.244.1.7/32", gateway: "169.254.1.1", interface: 1 };
const IP6 = { address: "fd00:10:244:1::7/128", gateway: "fe80::1", interface: 1 };
const ROUTE4 = { dst: "0.0.0.0/0", gw: "169.254.1.1" };
const ROUTE6 = { dst: "::/0", gw: "fe80::1" };

const LEGACY = ["0.1.0", "0.2.0"] as const;
const MODERN = SUPPORTED_VERSIONS.filter((version) => atLeast(version, "0.3.0"));

test.for(LEGACY)("a result of %s has one object a family, and no interfaces", (cniVersion) => {
  const ip4 = { ip: "10.244.1.7/32", gateway: "169.254.1.1", routes: [ROUTE4] };
  const ip6 = { ip: "fd00:10:244:1::7/128", gateway: "fe80::1", routes: [ROUTE6] };
  expect(result(cniVersion, V4, V6)).toEqual({ cniVersion, ip4, ip6, dns: {} });
  expect(result(cniVersion, V4)).toEqual({ cniVersion, ip4, dns: {} });
  expect(result(cniVersion, V6)).toEqual({ cniVersion, ip6, dns: {} });
});

test.for(["0.3.0", "0.3.1", "0.4.0"] as const)("a result of %s says the version of each address", (cniVersion) => {
  expect(result(cniVersion, V4, V6)).toEqual({
    cniVersion,
    interfaces: INTERFACES,
    ips: [
      { version: "4", ...IP4 },
      { version: "6", ...IP6 },
    ],
    routes: [ROUTE4, ROUTE6],
    dns: {},
  });
});

test("a result of 1.0.0 does not", () => {
  expect(result("1.0.0", V4, V6)).toEqual({
    cniVersion: "1.0.0",
    interfaces: INTERFACES,
    ips: [IP4, IP6],
    routes: [ROUTE4, ROUTE6],
    dns: {},
  });
});

test("a result of 1.1.0 says the MTU of both ends", () => {
  expect(result("1.1.0", V4, V6)).toEqual({
    cniVersion: "1.1.0",
    interfaces: INTERFACES.map((end) => ({ ...end, mtu: 1450 })),
    ips: [IP4, IP6],
    routes: [ROUTE4, ROUTE6],
    dns: {},
  });
});

test("a route tells its MTU, MSS, priority, table and scope from 1.1.0 on, and before it one of another table isn't told", () => {
  const short = { dst: "192.0.2.0/24", gw: "169.254.1.1" };
  const routesOf = (version: CniVersion) => (resultWith(WISHES, version, V4) as Result).routes;
  for (const version of ["0.3.0", "0.3.1", "0.4.0", "1.0.0"] as const) expect(routesOf(version)).toEqual([ROUTE4]);
  expect(routesOf("1.1.0")).toEqual([ROUTE4, { ...short, mtu: 1300, advmss: 1200, priority: 7, table: 9, scope: 1 }]);
  expect(resultWith(WISHES, "0.2.0", V4)).toMatchObject({ ip4: { routes: [ROUTE4] } });
});

test.for(MODERN)("a result of %s without interfaces, as of an IPAM plugin, has no such key", (cniVersion) => {
  const it = { interfaces: [], ips: [{ address: "10.0.0.7/24", gateway: "10.0.0.1" }], routes: [], dns: {} };
  const document = JSON.parse(resultDocument(it, cniVersion));
  expect(document).not.toHaveProperty("interfaces");
  expect(document.ips[0]).not.toHaveProperty("interface");
});

test.for(MODERN)("a result of %s has one address and one route for one family", (cniVersion) => {
  const version = (family: string) => (cniVersion.startsWith("0.") ? { version: family } : {});
  expect(result(cniVersion, V4)).toMatchObject({ ips: [{ ...version("4"), ...IP4 }], routes: [ROUTE4] });
  expect(result(cniVersion, V6)).toMatchObject({
    interfaces: [{ mac: "06:fe:00:00:00:07" }, { mac: "02:fe:00:00:00:07" }],
    ips: [{ ...version("6"), ...IP6 }],
    routes: [ROUTE6],
  });
});

const cidrs = fc.oneof(
  fc.tuple(fc.ipV4(), fc.nat(32)).map(([ip, length]) => `${formatAddress(parseAddress(ip))}/${length}`),
  fc.tuple(fc.ipV6(), fc.nat(128)).map(([ip, length]) => `${formatAddress(parseAddress(ip))}/${length}`),
);
const addresses = fc.oneof(fc.ipV4(), fc.ipV6()).map((ip) => formatAddress(parseAddress(ip)));
const texts = fc.string({ minLength: 1 });
const u32 = fc.nat(0xffffffff);
const lists = fc.array(texts, { minLength: 1, maxLength: 3 });

/** Objects of which each key may be missing. */
const some = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }, requiredKeys: (keyof T)[]) =>
  fc.record(model, { requiredKeys, noNullPrototype: true }) as fc.Arbitrary<Partial<T>>;

const results = fc.record(
  {
    interfaces: fc.array(
      some({ name: texts, mac: fc.string(), sandbox: texts, mtu: u32, socketPath: texts, pciID: texts }, [
        "name",
        "mac",
      ]),
      { maxLength: 3 },
    ),
    ips: fc.array(some({ address: cidrs, gateway: addresses, interface: fc.nat(3) }, ["address"]), { maxLength: 4 }),
    routes: fc.array(
      some({ dst: cidrs, gw: addresses, mtu: u32, advmss: u32, priority: u32, table: u32, scope: u32 }, ["dst"]),
      { maxLength: 4 },
    ),
    dns: some({ nameservers: lists, domain: texts, search: lists, options: lists }, []),
  },
  { noNullPrototype: true },
) as fc.Arbitrary<Result>;

const isV6 = (text: string) => text.includes(":");

/** What of a result a version can say. */
function sayable({ interfaces, ips, routes, dns }: Result, version: CniVersion): Result {
  if (atLeast(version, "1.1.0")) return { interfaces, ips, routes, dns };
  const short = routes.map(({ dst, gw }) => ({ dst, ...(gw !== undefined && { gw }) }));
  if (atLeast(version, "0.3.0")) {
    const ends = interfaces.map(({ name, mac, sandbox }) => ({ name, mac, ...(sandbox !== undefined && { sandbox }) }));
    return { interfaces: ends, ips, routes: short, dns };
  }
  // The first address of each family, without its interface, and the routes of the families that have one.
  const firsts = [false, true].flatMap((v6) => ips.filter(({ address }) => isV6(address) === v6).slice(0, 1));
  const own = firsts.map(({ address, gateway }) => ({ address, ...(gateway !== undefined && { gateway }) }));
  return {
    interfaces: [],
    ips: own,
    routes: firsts.flatMap(({ address }) => short.filter(({ dst }) => isV6(dst) === isV6(address))),
    dns,
  };
}

test.for(SUPPORTED_VERSIONS)(
  "a result survives being written in %s and read, as far as that version can say it",
  (version) => {
    fc.assert(
      fc.property(results, (it) => {
        const document = JSON.parse(resultDocument(it, version));
        expect(parseResult("prevResult", document, "1.1.0")).toEqual(sayable(it, version));
      }),
    );
  },
);

test("a result without a version has the configuration's", () => {
  const legacy = { ip4: { ip: "10.0.0.7/24" } };
  expect(parseResult("prevResult", legacy, "0.2.0").ips).toEqual([{ address: "10.0.0.7/24" }]);
  expect(parseResult("prevResult", legacy, "0.3.0").ips).toEqual([]);
});

test("null and missing fields are the same, and unknown ones are passed over", () => {
  const nothing = { interfaces: null, ips: null, routes: null, dns: null, later: 1 };
  const empty = { interfaces: [], ips: [], routes: [], dns: {} };
  expect(parseResult("prevResult", nothing, "1.0.0")).toEqual(empty);
  expect(parseResult("prevResult", {}, "1.0.0")).toEqual(empty);
  expect(parseResult("prevResult", { ip4: null, dns: null }, "0.2.0")).toEqual(empty);
  const ips = [{ version: "4", address: "10.0.0.7/24", gateway: null, interface: null }];
  expect(parseResult("prevResult", { ips }, "0.4.0").ips).toEqual([{ address: "10.0.0.7/24" }]);
});

test.for<[version: CniVersion, fields: object, code: number, details: string]>([
  ["1.1.0", { cniVersion: "2.0.0" }, 1, 'cniVersion "2.0.0" is not one of'],
  ["1.1.0", { cniVersion: 1 }, 7, "prevResult.cniVersion is 1, not a string"],
  ["1.0.0", { interfaces: {} }, 7, "prevResult.interfaces is {}, not a list"],
  ["1.0.0", { interfaces: ["eth0"] }, 7, 'prevResult.interfaces.0 is "eth0", not an object'],
  ["1.0.0", { interfaces: [{}, { name: 7 }] }, 7, "prevResult.interfaces.1.name is 7, not a string"],
  ["1.0.0", { interfaces: [{ mac: [] }] }, 7, "prevResult.interfaces.0.mac is [], not a string"],
  ["1.0.0", { interfaces: [{ sandbox: 7 }] }, 7, "prevResult.interfaces.0.sandbox is 7, not a string"],
  ["1.1.0", { interfaces: [{ mtu: "1500" }] }, 7, 'prevResult.interfaces.0.mtu is "1500", not a whole number'],
  ["1.1.0", { interfaces: [{ socketPath: 7 }] }, 7, "prevResult.interfaces.0.socketPath is 7, not a string"],
  ["1.1.0", { interfaces: [{ pciID: 7 }] }, 7, "prevResult.interfaces.0.pciID is 7, not a string"],
  ["1.0.0", { ips: [{}] }, 7, "prevResult.ips.0.address is missing, not an address with prefix length"],
  ["1.0.0", { ips: [{ address: "10.0.0.7" }] }, 7, 'prevResult.ips.0.address is "10.0.0.7", not an address with'],
  ["1.0.0", { ips: [{ address: "10.0.0.7/24", gateway: 7 }] }, 7, "prevResult.ips.0.gateway is 7, not a string"],
  ["1.0.0", { ips: [{ address: "10.0.0.7/24", interface: -1 }] }, 7, "prevResult.ips.0.interface is -1, not a whole"],
  ["1.0.0", { routes: [{ dst: "default" }] }, 7, 'prevResult.routes.0.dst is "default", not an address with'],
  ["1.0.0", { routes: [{ dst: "10.0.0.0/8", gw: {} }] }, 7, "prevResult.routes.0.gw is {}, not a string"],
  ["1.1.0", { routes: [{ dst: "10.0.0.0/8", table: "x" }] }, 7, 'prevResult.routes.0.table is "x", not a whole number'],
  ["1.0.0", { dns: [] }, 7, "prevResult.dns is [], not an object"],
  ["1.0.0", { dns: { nameservers: [7] } }, 7, "prevResult.dns.nameservers.0 is 7, not a string"],
  ["1.0.0", { dns: { domain: 7 } }, 7, "prevResult.dns.domain is 7, not a string"],
  ["0.2.0", { ip4: [] }, 7, "prevResult.ip4 is [], not an object"],
  ["0.2.0", { ip4: {} }, 7, "prevResult.ip4.ip is missing, not an address with prefix length"],
  ["0.2.0", { ip6: { ip: "x/8" } }, 7, 'prevResult.ip6.ip is "x", not an IP address'],
  ["0.2.0", { ip6: { ip: "fd00::7/64", routes: {} } }, 7, "prevResult.ip6.routes is {}, not a list"],
  ["0.2.0", { ip4: { ip: "10.0.0.7/24", routes: [{}] } }, 7, "prevResult.ip4.routes.0.dst is missing, not an address"],
])("a result of %s with %j is refused by field and value", ([version, fields, code, details]) => {
  const read = () => parseResult("prevResult", fields as Record<string, unknown>, version);
  expect(read).toThrow(expect.objectContaining({ code, details: expect.stringContaining(details) }));
});

test("any object is a result or a CniError of code 1 or 7", () => {
  const key = fc.constantFrom("cniVersion", "interfaces", "ips", "routes", "dns", "ip4", "ip6");
  const version = fc.constantFrom(...SUPPORTED_VERSIONS);
  fc.assert(
    fc.property(fc.dictionary(key, fc.jsonValue({ maxDepth: 3 })), version, (fields, confVersion) => {
      try {
        parseResult("prevResult", fields, confVersion);
      } catch (error) {
        expect(error).toBeInstanceOf(CniError);
        expect([1, 7]).toContain((error as CniError).code);
      }
    }),
  );
});
