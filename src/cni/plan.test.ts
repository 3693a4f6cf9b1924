// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { formatMac } from "../net/mac.ts";
import { attributes } from "../netlink/message.ts";
import { hostRequests, linkRequests, planPodNetwork, podRequests } from "./plan.ts";

const ATTACHMENT = { network: "pods", containerId: "c0ffee", ifname: "eth0" };
const POD = { namespace: "default", name: "web-0" };
const sha256 = (text: string): Uint8Array => createHash("sha256").update(text).digest();

function plan(...addresses: string[]) {
  return planPodNetwork(ATTACHMENT, POD, addresses.map(parseAddress), 1450, sha256);
}

test("the ends' names and MACs follow from the attachment and its first address", () => {
  const { host, pod, mtu, alias } = plan("10.244.1.7", "fd00:10:244:1::7");
  expect({ ...host, mac: formatMac(host.mac) }).toEqual({ name: "flcyhtu3dozzl", mac: "06:fe:0a:f4:01:07" });
  expect({ ...pod, mac: formatMac(pod.mac) }).toEqual({ name: "eth0", mac: "02:fe:0a:f4:01:07" });
  expect({ mtu, alias }).toEqual({ mtu: 1450, alias: "flatnet:default/web-0" });
  expect(planPodNetwork(ATTACHMENT, undefined, [parseAddress("fd00::7")], 0, sha256).alias).toBe("flatnet:c0ffee");
});

const V4_POD = [
  "add address 10.244.1.7/32 to eth0",
  "add neighbour 169.254.1.1 on eth0",
  "add route 169.254.1.1/32",
  "add route default via 169.254.1.1",
];
const V6_POD = [
  "add address fd00:10:244:1::7/128 to eth0",
  "add neighbour fe80::1 on eth0",
  "LINK-LOCAL",
  "add route default via fe80::1",
];
const V4_HOST = ["add neighbour 10.244.1.7 on flcyhtu3dozzl", "set route 10.244.1.7/32"];
const V6_HOST = ["add neighbour fd00:10:244:1::7 on flcyhtu3dozzl", "set route fd00:10:244:1::7/128"];

test.for<[family: string, addresses: string[], linkLocal: string, pod: string[], host: string[]]>([
  ["IPv4", ["10.244.1.7"], "", V4_POD, V4_HOST],
  ["IPv6", ["fd00:10:244:1::7"], "fe80::fe:ff:fe00:7", V6_POD, V6_HOST],
  [
    "dual-stack",
    ["10.244.1.7", "fd00:10:244:1::7"],
    "fe80::fe:aff:fef4:107",
    [...V4_POD, ...V6_POD],
    [...V4_HOST, ...V6_HOST],
  ],
])("an %s pod is made of these requests", ([, addresses, linkLocal, pod, host]) => {
  const it = plan(...addresses);
  const what = (requests: { what: string }[]) => requests.map((request) => request.what);
  expect(what(linkRequests(it, 9))).toEqual(["make veth flcyhtu3dozzl with peer eth0", "look up link flcyhtu3dozzl"]);
  expect(what(podRequests(it, 5))).toEqual([
    "set addrgenmode none on eth0",
    "set eth0 up",
    ...pod.map((line) => (line === "LINK-LOCAL" ? `add address ${linkLocal}/64 to eth0` : line)),
  ]);
  expect(what(hostRequests(it, 6))).toEqual(["set addrgenmode none on flcyhtu3dozzl", "set flcyhtu3dozzl up", ...host]);
});

test("the host end goes up in the last batch, and only there with its alias", () => {
  const it = plan("10.244.1.7");
  const IFLA_IFALIAS = 20;
  const alias = (requests: { body: Uint8Array }[]) =>
    requests.map(({ body }) => attributes(body.subarray(16)).has(IFLA_IFALIAS));
  expect(alias(linkRequests(it, 9))).toEqual([false, false]);
  expect(alias(hostRequests(it, 6).slice(0, 2))).toEqual([false, true]);
});
