// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { formatMac } from "../net/mac.ts";
import { attributes } from "../netlink/message.ts";
import {
  bandwidthOf,
  hostRequests,
  linkRequests,
  planPodNetwork,
  podRequests,
  routeRequests,
  type Wishes,
} from "../podnet/plan.ts";
import { parsePluginConf } from "./conf.ts";
import { appendResult, planResult } from "./plan-result.ts";

const ATTACHMENT = { network: "pods", containerId: "c0ffee", ifname: "eth0" };
const POD = { namespace: "default", name: "web-0" };
const sha256 = (text: string): Uint8Array => createHash("sha256").update(text).digest();

/** What a configuration with these keys asks for. */
function wishes(more: object = {}): Wishes {
  return parsePluginConf(JSON.stringify({ cniVersion: "1.1.0", name: "pods", ...more }));
}

function planWith(more: object, ...addresses: string[]) {
  return planPodNetwork(ATTACHMENT, POD, addresses.map(parseAddress), 1450, wishes(more), sha256);
}

function plan(...addresses: string[]) {
  return planWith({}, ...addresses);
}

test("the ends' names and MACs follow from the attachment and its first address", () => {
  const { host, pod, mtu, alias } = plan("10.244.1.7", "fd00:10:244:1::7");
  expect({ ...host, mac: formatMac(host.mac) }).toEqual({ name: "flcyhtu3dozzl", mac: "06:fe:0a:f4:01:07" });
  expect({ ...pod, mac: formatMac(pod.mac) }).toEqual({ name: "eth0", mac: "02:fe:0a:f4:01:07" });
  expect({ mtu, alias }).toEqual({ mtu: 1450, alias: "flatnet:default/web-0" });
  expect(planPodNetwork(ATTACHMENT, undefined, [parseAddress("fd00::7")], 0, wishes(), sha256).alias).toBe(
    "flatnet:c0ffee",
  );
});

const V4_POD = ["add address 10.244.1.7/32 to eth0", "add neighbour 169.254.1.1 on eth0"];
const V4_ROUTES = ["add route 169.254.1.1/32", "add route default via 169.254.1.1"];
const V6_POD = ["add address fd00:10:244:1::7/128 to eth0", "add neighbour fe80::1 on eth0", "LINK-LOCAL"];
const V6_ROUTES = ["add route default via fe80::1"];
const V4_HOST = ["add neighbour 10.244.1.7 on flcyhtu3dozzl", "set route 10.244.1.7/32"];
const V6_HOST = ["add neighbour fd00:10:244:1::7 on flcyhtu3dozzl", "set route fd00:10:244:1::7/128"];

test.for<[family: string, addresses: string[], linkLocal: string, pod: string[], host: string[]]>([
  ["IPv4", ["10.244.1.7"], "", [...V4_POD, ...V4_ROUTES], V4_HOST],
  ["IPv6", ["fd00:10:244:1::7"], "fe80::fe:ff:fe00:7", [...V6_POD, ...V6_ROUTES], V6_HOST],
  [
    "dual-stack",
    ["10.244.1.7", "fd00:10:244:1::7"],
    "fe80::fe:aff:fef4:107",
    [...V4_POD, ...V6_POD, ...V4_ROUTES, ...V6_ROUTES],
    [...V4_HOST, ...V6_HOST],
  ],
])("an %s pod is made of these requests", ([, addresses, linkLocal, pod, host]) => {
  const it = plan(...addresses);
  const what = (requests: { what: string }[]) => requests.map((request) => request.what);
  expect(what(linkRequests(it, 9))).toEqual(["make veth flcyhtu3dozzl with peer eth0", "look up link flcyhtu3dozzl"]);
  expect(what([...podRequests(it, 5), ...routeRequests(it, 5)])).toEqual([
    "set addrgenmode none on eth0",
    "set eth0 up",
    ...pod.map((line) => (line === "LINK-LOCAL" ? `add address ${linkLocal}/64 to eth0` : line)),
  ]);
  expect(what(hostRequests(it, 6))).toEqual(["set addrgenmode none on flcyhtu3dozzl", "set flcyhtu3dozzl up", ...host]);
});

test("the host end of a pod with hostPorts takes part in the node's 127.0.0.0/8, before it is up", () => {
  const runtimeConfig = { portMappings: [{ hostPort: 80, containerPort: 8080, protocol: "tcp" }] };
  const host = hostRequests(planWith({ runtimeConfig }, "10.244.1.7"), 6).map(({ what }) => what);
  expect(host.slice(0, 3)).toEqual([
    "set addrgenmode none on flcyhtu3dozzl",
    "set route_localnet on flcyhtu3dozzl",
    "set flcyhtu3dozzl up",
  ]);
});

test("the host end goes up in the last batch, and only there with its alias", () => {
  const it = plan("10.244.1.7");
  const IFLA_IFALIAS = 20;
  const alias = (requests: { body: Uint8Array }[]) =>
    requests.map(({ body }) => attributes(body.subarray(16)).has(IFLA_IFALIAS));
  expect(alias(linkRequests(it, 9))).toEqual([false, false]);
  expect(alias(hostRequests(it, 6).slice(0, 2))).toEqual([false, true]);
});

const DUAL = ["10.244.1.7", "fd00:10:244:1::7"];
const whats = (requests: { what: string }[]) => requests.map(({ what }) => what);
const routesOf = (conf: object, ...addresses: string[]) => whats(routeRequests(planWith(conf, ...addresses), 5));

test("routes of the configuration come behind the default route of their family, by flatnet's next hop", () => {
  const routes = [
    { dst: "fd99::/16" },
    { dst: "192.0.2.0/24", gw: "169.254.1.1" },
    { dst: "198.51.100.0/24", table: 1000 },
  ];
  expect(routesOf({ routes }, ...DUAL)).toEqual([
    "add route 169.254.1.1/32",
    "add route default via 169.254.1.1",
    "add route 192.0.2.0/24 via 169.254.1.1",
    "add route 198.51.100.0/24 via 169.254.1.1",
    "add route default via fe80::1",
    "add route fd99::/16 via fe80::1",
  ]);
});

test("a default route of the configuration comes instead of flatnet's, in its family and the main table only", () => {
  const v4 = planWith({ routes: [{ dst: "0.0.0.0/0", mtu: 1300, priority: 7 }] }, ...DUAL).routes;
  expect(v4.filter(({ length }) => length === 0)).toMatchObject([{ family: 4, mtu: 1300, priority: 7 }, { family: 6 }]);
  const main = planWith({ routes: [{ dst: "::/0", table: 254, mtu: 1300 }] }, ...DUAL).routes;
  expect(main.filter(({ length }) => length === 0)).toMatchObject([{ family: 4 }, { family: 6, mtu: 1300 }]);
  const other = planWith({ routes: [{ dst: "0.0.0.0/0", table: 1000 }] }, "10.244.1.7").routes;
  expect(other.filter(({ length }) => length === 0).map(({ table }) => table)).toEqual([undefined, 1000]);
});

test("what a route asks for goes to the kernel and into the result", () => {
  const all = { dst: "192.0.2.0/24", gw: "169.254.1.1", mtu: 1300, advmss: 1200, priority: 7, table: 1000, scope: 200 };
  const it = planWith({ routes: [all] }, "10.244.1.7");
  const { dst: _, gw: __, ...rest } = all;
  expect(it.routes.at(-1)).toEqual({
    family: 4,
    destination: parseAddress("192.0.2.0"),
    length: 24,
    gateway: parseAddress("169.254.1.1"),
    // The next hop may be another interface's in the main table.
    onlink: true,
    ...rest,
  });
  expect(planResult(it, "/run/netns/pod", {}, "1.1.0").routes).toEqual([{ dst: "0.0.0.0/0", gw: "169.254.1.1" }, all]);
});

test.for<[route: object, addresses: string[], details: string]>([
  [
    { dst: "192.0.2.0/24", gw: "10.244.1.1" },
    DUAL,
    "routes.1 to 192.0.2.0/24: gw is 10.244.1.1, but a pod's only next hop is 169.254.1.1",
  ],
  [{ dst: "::/0", gw: "fd00::1" }, DUAL, "routes.1 to ::/0: gw is fd00::1, but a pod's only next hop is fe80::1"],
  [{ dst: "::/0" }, ["10.244.1.7"], "routes.1 to ::/0: the pod has no IPv6 address"],
])("the route %j of a pod with %j is refused: code 7", ([route, addresses, details]) => {
  const routes = [{ dst: "198.51.100.0/24" }, route];
  expect(() => planWith({ routes }, ...addresses)).toThrow(
    expect.objectContaining({ code: "PODNET_ROUTE", message: details }),
  );
});

test("a MAC that is asked for is the pod's, in its link-local address and in the host's neighbour entry", () => {
  const it = planWith({ runtimeConfig: { mac: "02:11:22:33:44:55" } }, ...DUAL);
  expect(formatMac(it.pod.mac)).toBe("02:11:22:33:44:55");
  expect(formatMac(it.host.mac)).toBe("06:fe:0a:f4:01:07");
  expect(whats(podRequests(it, 5))).toContain("add address fe80::11:22ff:fe33:4455/64 to eth0");
  const NDA_LLADDR = 2;
  const neighbours = hostRequests(it, 6).filter(({ what }) => what.startsWith("add neighbour"));
  expect(neighbours).toHaveLength(2);
  for (const { body } of neighbours) {
    expect(attributes(body.subarray(12)).get(NDA_LLADDR)).toEqual(it.pod.mac);
  }
  expect(planResult(it, "/n", {}, "1.1.0").interfaces[1]?.mac).toBe("02:11:22:33:44:55");
});

test("IPv6 is switched on where the pod has it, and sysctls of the configuration follow as paths", () => {
  const conf = { sysctls: { "net.ipv4.conf.eth0.arp_ignore": "1", "net.core.somaxconn": "512" } };
  const own = [
    ["ipv4/conf/eth0/arp_ignore", "1"],
    ["core/somaxconn", "512"],
  ];
  expect(planWith(conf, "10.244.1.7").sysctls).toEqual(own);
  expect(planWith(conf, "fd00::7").sysctls).toEqual([
    ["ipv6/conf/eth0/disable_ipv6", "0"],
    ["ipv6/conf/eth0/accept_dad", "0"],
    ...own,
  ]);
});

test("each direction of a limit is a request at its own end", () => {
  const limit = (bandwidth: object) => {
    const { host, pod } = bandwidthOf(planWith({ runtimeConfig: { bandwidth } }, "10.244.1.7"), {
      index: 6,
      peerIndex: 5,
    });
    return { host: whats(host), pod: whats(pod) };
  };
  const [host, pod] = [["limit the rate of flcyhtu3dozzl"], ["limit the rate of eth0"]];
  expect(limit({ ingressRate: 1_000_000, egressRate: 1_000_000 })).toEqual({ host, pod });
  expect(limit({ ingressRate: 1_000_000 })).toEqual({ host, pod: [] });
  expect(limit({ egressRate: 1_000_000 })).toEqual({ host: [], pod });
  expect(limit({})).toEqual({ host: [], pod: [] });
});

test("a result goes behind the one before it, whose positions stay", () => {
  const own = planResult(plan("10.244.1.7"), "/run/netns/pod", {}, "1.1.0");
  const previous = {
    interfaces: [
      { name: "veth0", mac: "0a:00:00:00:00:01" },
      { name: "net1", mac: "0a:00:00:00:00:02", sandbox: "/run/netns/pod" },
    ],
    ips: [{ address: "192.0.2.7/24", interface: 1 }, { address: "192.0.2.8/24" }],
    routes: [{ dst: "198.51.100.0/24" }],
    dns: { nameservers: ["192.0.2.53"] },
  };
  expect(appendResult(previous, own)).toEqual({
    interfaces: [...previous.interfaces, ...own.interfaces],
    ips: [...previous.ips, { address: "10.244.1.7/32", gateway: "169.254.1.1", interface: 3 }],
    routes: [...previous.routes, { dst: "0.0.0.0/0", gw: "169.254.1.1" }],
    dns: previous.dns,
  });
  expect(appendResult(previous, { ...own, dns: { domain: "example" } }).dns).toEqual({ domain: "example" });
  expect(appendResult({ interfaces: [], ips: [], routes: [], dns: {} }, own)).toEqual(own);
});
