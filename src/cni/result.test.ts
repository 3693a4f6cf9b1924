// SPDX-License-Identifier: Apache-2.0
//
// The documents as runtimes read them, written out whole: a key too many or too few is a bug somewhere else.
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { planPodNetwork } from "./plan.ts";
import { resultDocument } from "./result.ts";
import { type CniVersion, SUPPORTED_VERSIONS } from "./version.ts";

const ATTACHMENT = { network: "pods", containerId: "c0ffee", ifname: "eth0" };
const sha256 = (text: string): Uint8Array => createHash("sha256").update(text).digest();
const V4 = "10.244.1.7";
const V6 = "fd00:10:244:1::7";

function result(cniVersion: CniVersion, ...addresses: string[]): unknown {
  const plan = planPodNetwork(ATTACHMENT, undefined, addresses.map(parseAddress), 1450, sha256);
  return JSON.parse(resultDocument(plan, "/run/netns/pod", cniVersion));
}

const INTERFACES = [
  { name: "flcyhtu3dozzl", mac: "06:fe:0a:f4:01:07" },
  { name: "eth0", mac: "02:fe:0a:f4:01:07", sandbox: "/run/netns/pod" },
];
const IP4 = { address: "10.244.1.7/32", gateway: "169.254.1.1", interface: 1 };
const IP6 = { address: "fd00:10:244:1::7/128", gateway: "fe80::1", interface: 1 };
const ROUTE4 = { dst: "0.0.0.0/0", gw: "169.254.1.1" };
const ROUTE6 = { dst: "::/0", gw: "fe80::1" };

test.for(["0.3.1", "0.4.0"] as const)("a result of %s says the version of each address", (cniVersion) => {
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

test.for(SUPPORTED_VERSIONS)("a result of %s has one address and one route for one family", (cniVersion) => {
  const version = (family: string) => (cniVersion.startsWith("0.") ? { version: family } : {});
  expect(result(cniVersion, V4)).toMatchObject({ ips: [{ ...version("4"), ...IP4 }], routes: [ROUTE4] });
  expect(result(cniVersion, V6)).toMatchObject({
    interfaces: [{ mac: "06:fe:00:00:00:07" }, { mac: "02:fe:00:00:00:07" }],
    ips: [{ ...version("6"), ...IP6 }],
    routes: [ROUTE6],
  });
});
