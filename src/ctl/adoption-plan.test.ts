// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parsePrefix } from "../net/prefix.ts";
import { type AdoptionInput, planAdoption } from "./adoption-plan.ts";
import { parseReport } from "./adoption-report.ts";
import { parseReservation } from "./host-local.ts";
import { parseCachedAttachment } from "./libcni-cache.ts";
import { allocation, gateway } from "./testing/fixtures.ts";

function plan(more: Partial<AdoptionInput>) {
  return planAdoption({
    network: "flatnet",
    reservations: [],
    oddities: [],
    cached: new Map(),
    subnets: [parsePrefix("10.0.0.0/24"), parsePrefix("fd00::/64")],
    allocations: [],
    nodeAddresses: [],
    ...more,
  });
}

const reservation = (address: string, containerId: string, ifname = "eth0") => ({ address, containerId, ifname });

test.for<[title: string, content: string, expected: object]>([
  ["ID and interface", "abc\r\neth1", { address: "10.0.0.5", containerId: "abc", ifname: "eth1" }],
  ["the ID alone, as old ones wrote", "abc", { address: "10.0.0.5", containerId: "abc", ifname: "eth0" }],
  ["a line break at its end", "abc\r\neth1\n", { address: "10.0.0.5", containerId: "abc", ifname: "eth1" }],
  ["nothing, of an ADD that was killed", "", { file: "10.0.0.5", why: "it names no container" }],
  ["three lines", "a\nb\nc", { file: "10.0.0.5", why: "it has more than two lines" }],
])("host-local's file with %s", ([, content, expected]) => {
  expect(parseReservation("10.0.0.5", content, "eth0")).toEqual(expected);
});

test("host-local's file is named by its address, in any spelling; what isn't is told", () => {
  expect(parseReservation("FD00:0::5", "abc", "eth0")).toMatchObject({ address: "fd00::5" });
  expect(parseReservation("README", "abc", "eth0")).toEqual({ file: "README", why: "its name is no address" });
  expect(parseReservation("10.0.0.5", undefined, "eth0")).toEqual({ file: "10.0.0.5", why: "it can't be read" });
});

test("libcni's cache tells the pod, its namespace and whether it has hostPorts; without it nothing is known", () => {
  const cached = {
    kind: "cniCacheV1",
    cniArgs: [
      ["IgnoreUnknown", "1"],
      ["K8S_POD_NAMESPACE", "default"],
      ["K8S_POD_NAME", "web"],
    ],
    capabilityArgs: { portMappings: [{ hostPort: 80 }] },
    result: { interfaces: [{ name: "veth1" }, { name: "eth0", sandbox: "/run/netns/a" }] },
  };
  const pod = { namespace: "default", name: "web", uid: "" };
  expect(parseCachedAttachment(JSON.stringify(cached), "eth0")).toEqual({
    pod,
    netns: "/run/netns/a",
    hasHostPorts: true,
  });
  expect(parseCachedAttachment(JSON.stringify({ ...cached, netns: "/proc/7/ns/net" }), "eth0")).toMatchObject({
    netns: "/proc/7/ns/net",
  });
  const unknown = { pod: undefined, netns: "", hasHostPorts: false };
  for (const text of ["", "[]", "{", "null", '{"kind":"other"}', '{"kind":"cniCacheV1","cniArgs":[1],"result":[]}']) {
    expect(parseCachedAttachment(text, "eth0")).toEqual(unknown);
  }
});

test("the addresses of both families of an attachment are taken over together, with what the cache knows", () => {
  const pod = { namespace: "default", name: "web", uid: "" };
  const known = { pod, netns: "/run/netns/a", hasHostPorts: false };
  const reservations = [
    reservation("fd00::5", "a"),
    reservation("10.0.0.5", "a"),
    reservation("10.0.0.6", "a", "net1"),
  ];
  expect(plan({ reservations, cached: new Map([["a/eth0", known]]) })).toMatchObject({
    attachments: [
      {
        attachment: { network: "flatnet", containerId: "a", ifname: "eth0" },
        addresses: ["10.0.0.5", "fd00::5"],
        ...known,
      },
      { attachment: { ifname: "net1" }, addresses: ["10.0.0.6"], pod: undefined, netns: "" },
    ],
    conflicts: [],
  });
});

test("what is outside of the node's subnets is left alone, also when the attachment has another inside", () => {
  const reservations = [reservation("10.9.0.5", "a"), reservation("fd00::5", "a")];
  const { attachments, outside } = plan({ reservations });
  expect(attachments.map(({ addresses }) => addresses)).toEqual([["fd00::5"]]);
  expect(outside).toEqual([reservations[0]]);
});

test("what the daemon has already is told apart from what it has given to somebody else", () => {
  const own = { network: "flatnet", containerId: "a", ifname: "eth0" };
  const allocations = [allocation(["10.0.0.5"], "", { attachment: own }), allocation(["10.0.0.6"], "default/new")];
  const { attachments, already, conflicts } = plan({
    reservations: [reservation("10.0.0.5", "a"), reservation("10.0.0.6", "b")],
    allocations,
  });
  expect(attachments).toEqual([]);
  expect(already).toMatchObject([{ attachment: own }]);
  expect(conflicts).toEqual([
    { containerId: "b", ifname: "eth0", addresses: ["10.0.0.6"], why: "10.0.0.6 is held by pod default/new" },
  ]);
});

test("two addresses of one family are a conflict", () => {
  const reservations = [reservation("10.0.0.5", "a"), reservation("10.0.0.6", "a")];
  expect(plan({ reservations }).conflicts).toMatchObject([{ addresses: ["10.0.0.5", "10.0.0.6"] }]);
});

test("the node's own addresses in its subnets are taken over once each, and only bridges with IPv4 need help", () => {
  const nodeAddresses = [
    { ifname: "cni0", address: "10.0.0.1", isBridge: true },
    { ifname: "cni0", address: "fd00::1", isBridge: true },
    { ifname: "veth1", address: "10.0.0.1", isBridge: false },
    { ifname: "br6", address: "fd00::2", isBridge: true },
    { ifname: "uplink", address: "172.18.0.2", isBridge: false },
  ];
  const { gateways, bridges } = plan({ nodeAddresses });
  expect(gateways.map(({ address, ifname }) => `${address} ${ifname}`)).toEqual([
    "10.0.0.1 cni0",
    "fd00::1 cni0",
    "fd00::2 br6",
  ]);
  expect(bridges).toEqual(["cni0"]);
  const known = plan({ nodeAddresses, allocations: [gateway("10.0.0.1"), gateway("fd00::1")] });
  expect(known).toMatchObject({ gateways: [{ address: "fd00::2" }], conflicts: [] });
  const stolen = plan({ nodeAddresses, allocations: [allocation(["10.0.0.1"], "default/new")] });
  expect(stolen.conflicts).toEqual([
    {
      containerId: "",
      ifname: "cni0",
      addresses: ["10.0.0.1"],
      why: "the node's own address is held by pod default/new",
    },
  ]);
});

test("a report is one of an adoption, and names no file but proxy_arp of a link", () => {
  const report = { version: 1, id: "a", adopted: [], gateways: [], sysctls: [] as object[] };
  const withSysctl = (path: string, before = "0") =>
    parseReport(JSON.stringify({ ...report, sysctls: [{ path, before, after: "1" }] }));
  expect(parseReport(JSON.stringify(report))).toEqual(report);
  expect(withSysctl("/proc/sys/net/ipv4/conf/cni0/proxy_arp")).toBeDefined();
  for (const path of ["/etc/passwd", "/proc/sys/net/ipv4/conf/../proxy_arp", "/proc/sys/net/ipv4/conf/a/b/proxy_arp"]) {
    expect(withSysctl(path)).toBeUndefined();
  }
  expect(withSysctl("/proc/sys/net/ipv4/conf/cni0/proxy_arp", "text")).toBeUndefined();
  for (const text of ["", "null", "{}", '{"version":2,"id":"a","adopted":[],"gateways":[],"sysctls":[]}']) {
    expect(parseReport(text)).toBeUndefined();
  }
});
