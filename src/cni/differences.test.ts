// SPDX-License-Identifier: Apache-2.0
//
// CHECK's comparison on data: what the kernel would say after ADD, and that with one thing changed.
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { LINK_GROUP } from "../net/names.ts";
import { replaceRootTbf } from "../netlink/tc.ts";
import { toTokenBucket } from "../podnet/bandwidth.ts";
import { compare, differences } from "../podnet/differences.ts";
import type { Observation } from "../podnet/observe.ts";
import { withOwnTable } from "../podnet/own-table.ts";
import { GATEWAY, type PodNetworkPlan, planPodNetwork } from "../podnet/plan.ts";
import { parsePluginConf } from "./conf.ts";

const sha256 = (text: string): Uint8Array => createHash("sha256").update(text).digest();
const HOST = 6;
const POD = 5;
const V4 = "10.244.1.7";
const V6 = "fd00:10:244:1::7";
const OTHER_MAC = new Uint8Array([2, 0, 0, 0, 0, 1]);
const CONF = {
  name: "pods",
  routes: [
    { dst: "192.0.2.0/24", mtu: 1300 },
    { dst: "198.51.100.0/24", table: 1000 },
  ],
  sysctls: { "net.ipv4.ip_local_port_range": "20000 30000" },
};

function planOf(conf: object, addresses: string[], mtu = 1450): PodNetworkPlan {
  const attachment = { network: "pods", containerId: "c0ffee", ifname: "eth0" };
  const wishes = parsePluginConf(JSON.stringify(conf));
  return planPodNetwork(attachment, undefined, addresses.map(parseAddress), mtu, wishes, sha256);
}

/** Writable all the way down. */
type Draft<T> = T extends Uint8Array ? T : T extends object ? { -readonly [K in keyof T]: Draft<T[K]> } : T;
type Seen = Draft<Required<{ [K in keyof Observation]: NonNullable<Observation[K]> }>>;

/** The kernel right after ADD. */
function observed(plan: PodNetworkPlan): Seen {
  const link = { up: true, mtu: 1450, alias: undefined, master: undefined, peerNsid: undefined };
  const v4 = (address: Uint8Array) => (address.length === 4 ? 4 : 6);
  const host = { ...link, index: HOST, name: plan.host.name, group: LINK_GROUP, mac: plan.host.mac, peerIndex: POD };
  const pod = { ...link, index: POD, name: "eth0", group: 0, mac: plan.pod.mac, peerIndex: HOST };
  const entry = (index: number, address: Uint8Array, mac: Uint8Array) => ({ index, address, mac, permanent: true });
  return {
    host: {
      link: host,
      neighbours: plan.addresses.map((address) => entry(HOST, address, plan.pod.mac)),
      qdiscs: [],
    },
    pod: {
      link: pod,
      neighbours: plan.addresses.map((address) => entry(POD, GATEWAY[v4(address)], plan.host.mac)),
      qdiscs: [],
      rules: plan.rules.map((rule) => ({ ...rule })),
      addresses: plan.addresses.map((address) => ({
        index: POD,
        address,
        length: address.length * 8,
        usable: true,
        protocol: undefined,
      })),
      routes: plan.routes.map((route) => ({
        ...route,
        kind: "unicast",
        oif: POD,
        protocol: 70,
        table: route.table ?? 254,
      })),
    },
    hostRoutes: plan.addresses.map((destination) => ({
      family: v4(destination),
      destination,
      length: destination.length * 8,
      kind: "unicast",
      oif: HOST,
      protocol: 70,
    })),
    sysctls: plan.sysctls.map(([, value]) => value.replaceAll(" ", "\t")),
  };
}

function found(
  change: (seen: Seen, plan: PodNetworkPlan) => unknown,
  conf: object = CONF,
  addresses = [V4, V6],
): string[] {
  const plan = planOf(conf, addresses);
  const seen = observed(plan);
  change(seen, plan);
  return differences(plan, seen as Observation);
}

const first = <T>(list: T[]): T => list[0] as T;

test.for([[[V4]], [[V6]], [[V4, V6]]])("a pod with %j that is as ADD made it has no differences", ([addresses]) => {
  const routes = addresses?.includes(V4) ? CONF.routes : [];
  expect(found(() => {}, { ...CONF, routes }, addresses)).toEqual([]);
});

const NAME = planOf(CONF, [V4]).host.name;

test.for<[what: string, change: (seen: Seen) => unknown, told: string[]]>([
  ["no host end", (seen) => Object.assign(seen, { host: undefined }), [`there is no ${NAME} on the node`]],
  ["no pod end", (seen) => Object.assign(seen, { pod: undefined }), ["there is no eth0 in the pod"]],
  [
    "neither end",
    (seen) => Object.assign(seen, { host: undefined, pod: undefined }),
    [`there is no ${NAME} on the node`, "there is no eth0 in the pod"],
  ],
  ["a host end of another pair", (seen) => (seen.host.link.peerIndex = 9), [`${NAME} is not the other end of eth0`]],
  [
    "a host end that is no veth",
    (seen) => (seen.host.link.peerIndex = undefined),
    [`${NAME} is not the other end of eth0`],
  ],
  ["a host end that is down", (seen) => (seen.host.link.up = false), [`${NAME} is down`]],
  ["a pod end that is down", (seen) => (seen.pod.link.up = false), ["eth0 is down"]],
  ["another group", (seen) => (seen.host.link.group = 0), [`${NAME} is in group 0, not 26220: no rule applies to it`]],
  ["no IPv4 address", (seen) => seen.pod.addresses.shift(), [`eth0 has no address ${V4}`]],
  ["no IPv6 address", (seen) => seen.pod.addresses.pop(), [`eth0 has no address ${V6}`]],
  [
    "an address that can't be used",
    (seen) => ((seen.pod.addresses[1] as { usable: boolean }).usable = false),
    [`address ${V6} of eth0 is tentative or a duplicate`],
  ],
  [
    "no neighbour in the pod",
    (seen) => seen.pod.neighbours.shift(),
    ["eth0 has no permanent neighbour entry for 169.254.1.1"],
  ],
  [
    "a neighbour in the pod that may be forgotten",
    (seen) => (first(seen.pod.neighbours).permanent = false),
    ["eth0 has no permanent neighbour entry for 169.254.1.1"],
  ],
  [
    "a neighbour in the pod of another MAC",
    (seen) => (first(seen.pod.neighbours).mac = OTHER_MAC),
    ["eth0 has 02:00:00:00:00:01 for neighbour 169.254.1.1, but the other end is 06:fe:0a:f4:01:07"],
  ],
  [
    "a neighbour in the pod of no MAC",
    (seen) => (first(seen.pod.neighbours).mac = undefined),
    ["eth0 has  for neighbour 169.254.1.1, but the other end is 06:fe:0a:f4:01:07"],
  ],
  [
    "no neighbour on the node",
    (seen) => seen.host.neighbours.pop(),
    [`${NAME} has no permanent neighbour entry for ${V6}`],
  ],
  [
    "another MAC of the pod than the node's neighbour entries have",
    (seen) => (seen.pod.link.mac = OTHER_MAC),
    [V4, V6].map((ip) => `${NAME} has 02:fe:0a:f4:01:07 for neighbour ${ip}, but the other end is 02:00:00:00:00:01`),
  ],
  [
    "another MAC of the node than the pod's neighbour entries have",
    (seen) => (seen.host.link.mac = OTHER_MAC),
    ["169.254.1.1", "fe80::1"].map(
      (ip) => `eth0 has 06:fe:0a:f4:01:07 for neighbour ${ip}, but the other end is 02:00:00:00:00:01`,
    ),
  ],
  ...[
    "169.254.1.1/32",
    "default via 169.254.1.1",
    "192.0.2.0/24 via 169.254.1.1",
    "198.51.100.0/24 via 169.254.1.1",
    "default via fe80::1",
  ].map((route, i): [string, (seen: Seen) => unknown, string[]] => [
    `no route ${route} in the pod`,
    (seen) => seen.pod.routes.splice(i, 1),
    [`the pod has no route ${route}`],
  ]),
  [
    "a route by another next hop",
    (seen) => ((seen.pod.routes[1] as { gateway: Uint8Array }).gateway = parseAddress("10.0.0.1")),
    ["the pod has no route default via 169.254.1.1"],
  ],
  [
    "a route without a next hop",
    (seen) => delete seen.pod.routes[1]?.gateway,
    ["the pod has no route default via 169.254.1.1"],
  ],
  [
    "a route that is unreachable",
    (seen) => ((seen.pod.routes[1] as { kind: string }).kind = "unreachable"),
    ["the pod has no route default via 169.254.1.1"],
  ],
  [
    "a route in the main table that was asked for in another",
    (seen) => ((seen.pod.routes[3] as { table: number }).table = 254),
    ["the pod has no route 198.51.100.0/24 via 169.254.1.1"],
  ],
  [
    "a default route moved to a table with routes of its own",
    (seen) => ((seen.pod.routes[1] as { table: number }).table = 1000),
    ["the pod has no route default via 169.254.1.1"],
  ],
  [
    "no route on the node",
    (seen) => (seen.hostRoutes[0] = undefined),
    [`the node's route to ${V4} does not lead to ${NAME}: there is none`],
  ],
  [
    "a route on the node to another link",
    (seen) => ((seen.hostRoutes[1] as { oif: number }).oif = 9),
    [`the node's route to ${V6} does not lead to ${NAME}: it is ${V6}/128`],
  ],
  [
    "a route on the node that is somebody else's wider one",
    (seen) => (seen.hostRoutes[0] = { ...(first(seen.hostRoutes) as NonNullable<unknown>), length: 0 } as never),
    [`the node's route to ${V4} does not lead to ${NAME}: it is default`],
  ],
  [
    "a sysctl of another value",
    (seen) => (seen.sysctls[2] = "1\t2"),
    ["sysctl net.ipv4.ip_local_port_range is 1\t2, not 20000 30000"],
  ],
  [
    "a sysctl that isn't there",
    (seen) => (seen.sysctls[0] = undefined as never),
    ["sysctl net.ipv6.conf.eth0.disable_ipv6 is not there, not 0"],
  ],
])("%s is told, and nothing else", ([, change, told]) => {
  expect(found(change)).toEqual(told);
});

test("all differences are told at once", () => {
  const all = found((seen) => {
    seen.host.link.up = false;
    seen.host.link.group = 0;
    seen.pod.addresses.length = 0;
    seen.pod.routes.length = 0;
    seen.pod.neighbours.length = 0;
    seen.host.neighbours.length = 0;
    seen.hostRoutes = [undefined, undefined] as never;
    seen.sysctls = ["1", "1", "1"];
  });
  expect(all).toHaveLength(2 + 2 + 5 + 2 + 2 + 2 + 3);
  expect(new Set(all).size).toBe(all.length);
});

test.for<[what: string, change: (seen: Seen) => unknown]>([
  ["another MTU", (seen) => Object.assign(seen.pod.link, { mtu: 1400 })],
  ["an alias", (seen) => (seen.host.link.alias = "somebody's")],
  ["another group in the pod", (seen) => (seen.pod.link.group = 7)],
  ["a longer prefix of an address", (seen) => (first(seen.pod.addresses).length = 24)],
  [
    "further addresses",
    (seen) =>
      seen.pod.addresses.push({
        index: POD,
        address: parseAddress("192.0.2.9"),
        length: 24,
        usable: false,
        protocol: undefined,
      }),
  ],
  [
    "further neighbours",
    (seen) => seen.host.neighbours.unshift({ ...first(seen.host.neighbours), mac: OTHER_MAC, permanent: false }),
  ],
  ["further routes", (seen) => seen.pod.routes.push({ ...first(seen.pod.routes), length: 31 })],
  ["another protocol of a route", (seen) => (first(seen.pod.routes).protocol = 3)],
  ["another metric and MTU of a route", (seen) => Object.assign(first(seen.pod.routes), { priority: 7, mtu: 1000 })],
  ["a route moved to a table of another plugin's", (seen) => Object.assign(seen.pod.routes[1] ?? {}, { table: 100 })],
  ["another protocol of the node's route", (seen) => Object.assign(first(seen.hostRoutes) ?? {}, { protocol: 3 })],
  ["white space in a sysctl", (seen) => (seen.sysctls[2] = " 20000\t \t30000\n")],
])("%s is for others to have, and no difference", ([, change]) => {
  expect(found(change)).toEqual([]);
});

const LIMITED = { name: "pods", runtimeConfig: { bandwidth: { ingressRate: 8_000_000, egressRate: 16_000_000 } } };

/** The kernel's account of a limit is the request for it but for its type of message. */
function shape(seen: Seen, plan: PodNetworkPlan, mtu: number): void {
  const { ingress, egress } = plan.bandwidth ?? {};
  if (ingress === undefined || egress === undefined) throw new TypeError("no limits");
  const message = ({ type, body }: { type: number; body: Uint8Array }) => ({ type, body, flags: 0, seq: 1 });
  seen.host.qdiscs = [message(replaceRootTbf(HOST, "h", toTokenBucket(ingress, mtu)))];
  seen.pod.qdiscs = [message(replaceRootTbf(POD, "p", toTokenBucket(egress, mtu)))];
}

test("a limit that is there is no difference, and one that is gone is told with its end", () => {
  expect(found((seen, plan) => shape(seen, plan, 1450), LIMITED)).toEqual([]);
  const gone = (seen: Seen, plan: PodNetworkPlan) => {
    shape(seen, plan, 1450);
    seen.host.qdiscs = [];
  };
  expect(found(gone, LIMITED)).toEqual([`ingress limit on ${NAME}: the root qdisc is none, not tbf`]);
  expect(found(() => {}, LIMITED)).toHaveLength(2);
});

test("a limit whose burst follows from the MTU is known by the link's, where the result didn't tell it", () => {
  const conf = { name: "pods", runtimeConfig: { bandwidth: { ingressRate: 8000, ingressBurst: 8, egressRate: 8000 } } };
  const plan = planOf(conf, [V4], 0);
  const seen = observed(plan);
  shape(seen, plan, 1450);
  expect(differences(plan, seen as Observation)).toEqual([]);
});

describe("a further interface", () => {
  const plan = withOwnTable(planOf(CONF, [V4, V6]), new Set([4, 6]));
  const table = plan.rules[0]?.table;
  const foundIn = (change: (seen: Seen) => unknown) => {
    const seen = observed(plan);
    change(seen);
    return differences(planOf(CONF, [V4, V6]), seen as Observation);
  };

  test("that is as ADD made it has no differences, and wishes in the main table besides are none", () => {
    expect(foundIn(() => {})).toEqual([]);
    const main = (seen: Seen) =>
      seen.pod.routes.push({ ...(seen.pod.routes[1] as (typeof seen.pod.routes)[0]), table: 254 });
    expect(foundIn(main)).toEqual([]);
  });

  test("needs its rules", () => {
    expect(foundIn((seen) => seen.pod.rules.pop())).toEqual([`the pod has no rule from ${V6} lookup ${table}`]);
    expect(foundIn((seen) => (first(seen.pod.rules).table = 254))).toEqual([
      `the pod has no rule from ${V4} lookup ${table}`,
    ]);
  });

  test("needs the routes of its table, as long as a rule leads there", () => {
    const v4 = ({ family }: { family: number }) => family === 4;
    const without = (seen: Seen) =>
      (seen.pod.routes = seen.pod.routes.filter((route) => !(v4(route) && route.table === table)));
    expect(foundIn(without)).toEqual([
      "the pod has no route default via 169.254.1.1",
      "the pod has no route 192.0.2.0/24 via 169.254.1.1",
    ]);
  });
});

describe("what is repaired", () => {
  const plan = planOf({ name: "pods" }, [V4, V6]);
  const repairs = (seen: Seen) =>
    compare(plan, seen as Observation).flatMap(({ end, repair }) => repair.map(({ what }) => `${end}: ${what}`));

  test("is nothing where nothing differs", () => {
    expect(compare(plan, observed(plan))).toEqual([]);
  });

  test("is all that the pod's end has lost, the link first and routes after addresses", () => {
    const seen = observed(plan);
    Object.assign(seen.pod, { addresses: [], neighbours: [], routes: [] });
    seen.pod.link.up = false;
    expect(repairs(seen)).toEqual([
      "pod: set eth0 up",
      `pod: add address ${V4}/32 to eth0`,
      "pod: add neighbour 169.254.1.1 on eth0",
      `pod: add address ${V6}/128 to eth0`,
      expect.stringContaining("pod: add address fe80::"),
      "pod: add neighbour fe80::1 on eth0",
      "pod: add route 169.254.1.1/32",
      "pod: add route default via 169.254.1.1",
      "pod: add route default via fe80::1",
    ]);
  });

  test("is all that the host's end has lost, the link first", () => {
    const seen = observed(plan);
    Object.assign(seen, { hostRoutes: [undefined, undefined] });
    Object.assign(seen.host, { neighbours: [] });
    Object.assign(seen.host.link, { up: false, group: 0 });
    const { name } = plan.host;
    expect(repairs(seen)).toEqual([
      `host: set group ${LINK_GROUP} on ${name}`,
      `host: set ${name} up`,
      `host: set route ${V4}/32`,
      `host: add neighbour ${V4} on ${name}`,
      `host: set route ${V6}/128`,
      `host: add neighbour ${V6} on ${name}`,
    ]);
  });

  test("is no address that has moved to another link of the pod", () => {
    const seen = observed(plan);
    for (const address of seen.pod.addresses) address.index = POD + 1;
    expect(differences(plan, seen as Observation)).toHaveLength(2);
    expect(repairs(seen)).toEqual([]);
  });

  test("is nothing of a pod's end that is the port of a bridge", () => {
    const seen = observed(plan);
    Object.assign(seen.pod, { addresses: [], routes: [] });
    seen.pod.link.master = 9;
    expect(repairs(seen)).toEqual([]);
  });

  test("is nothing where the pod has another link by that name", () => {
    const seen = observed(plan);
    Object.assign(seen.pod, { addresses: [], routes: [], neighbours: [] });
    Object.assign(seen.host, { neighbours: [] });
    seen.host.link.peerIndex = POD + 1;
    expect(repairs(seen)).toEqual([]);
  });
});
