// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex } from "../../test/helpers/hex.ts";
import { expectSent, expectSentInAnyOrder } from "../../test/helpers/netlink-golden.ts";
import { formatAddress, hostLength, parseAddress } from "../net/address.ts";
import { addAddress } from "./address.ts";
import { decodeMessages, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "./message.ts";
import { addNeighbour } from "./neighbour.ts";
import {
  addRoute,
  decodeRoute,
  deleteRoute,
  describeRoute,
  dumpRoutes,
  lookUpRoute,
  type Route,
  RTM_DELROUTE,
  RTM_NEWROUTE,
  replaceRoute,
} from "./route.ts";

const RTMSG = 12;
const RTM_NEWADDR = 20;
const RTM_GETROUTE = 26;
const RTM_NEWNEIGH = 28;
const ADD = NLM_F_CREATE | NLM_F_EXCL;
const REPLACE = NLM_F_CREATE | NLM_F_REPLACE;

function route(cidr: string, rest: Partial<Route> & { via?: string } = {}): Route {
  const [address = "", length] = cidr.split("/");
  const destination = parseAddress(address);
  const { via, ...others } = rest;
  return {
    family: destination.length === 4 ? 4 : 6,
    destination,
    length: Number(length),
    kind: "unicast",
    protocol: 70,
    ...(via === undefined ? {} : { gateway: parseAddress(via) }),
    ...others,
  };
}

test.for<[command: string, route: Route, body: string]>([
  [
    "ip route add 169.254.1.1/32 dev eth0 proto 70",
    route("169.254.1.1/32", { oif: 5 }),
    "02200000 fe46fd01 00000000  08000100 a9fe0101  08000400 05000000",
  ],
  [
    "ip route add default via 169.254.1.1 dev eth0 proto 70",
    route("0.0.0.0/0", { via: "169.254.1.1", oif: 5 }),
    "02000000 fe460001 00000000  08000500 a9fe0101  08000400 05000000",
  ],
  [
    "ip route add default via 169.254.1.1 dev eth0 proto 70 onlink",
    route("0.0.0.0/0", { via: "169.254.1.1", oif: 5, onlink: true }),
    "02000000 fe460001 04000000  08000500 a9fe0101  08000400 05000000",
  ],
  [
    "ip route add unreachable 10.244.3.0/24 proto 70",
    route("10.244.3.0/24", { kind: "unreachable" }),
    "02180000 fe460007 00000000  08000100 0af40300",
  ],
  [
    "ip -6 route add unreachable fd00:10:244:3::/64 proto 70 metric 1024",
    route("fd00:10:244:3::/64", { kind: "unreachable", priority: 1024 }),
    "0a400000 fe460007 00000000  14000100 fd000010 02440003 00000000 00000000  08000600 00040000",
  ],
  [
    "ip route add 10.244.2.0/24 via 172.18.0.3 proto 70",
    route("10.244.2.0/24", { via: "172.18.0.3" }),
    "02180000 fe460001 00000000  08000100 0af40200  08000500 ac120003",
  ],
  [
    "ip -6 route add fd00:10:244:2::/64 via fd00:18::3 proto 70 metric 1024",
    route("fd00:10:244:2::/64", { via: "fd00:18::3", priority: 1024 }),
    `0a400000 fe460001 00000000  14000100 fd000010 02440002 00000000 00000000
     14000500 fd000018 00000000 00000000 00000003  08000600 00040000`,
  ],
  [
    "ip route add 10.244.9.0/24 via 172.18.0.3 proto 70 table 1000 mtu 1400",
    route("10.244.9.0/24", { via: "172.18.0.3", table: 1000, mtu: 1400 }),
    "02180000 00460001 00000000  08000100 0af40900  08000500 ac120003  08000f00 e8030000  0c000800 08000200 78050000",
  ],
  [
    "ip route add 10.244.9.0/24 via 10.0.0.9 proto 70 mtu 1400 advmss 1360",
    route("10.244.9.0/24", { via: "10.0.0.9", mtu: 1400, advmss: 1360 }),
    "02180000 fe460001 00000000  08000100 0af40900  08000500 0a000009  14000800 08000200 78050000 08000800 50050000",
  ],
  [
    "ip route add 10.244.9.0/24 via 10.0.0.9 proto 70 advmss 1360",
    route("10.244.9.0/24", { via: "10.0.0.9", advmss: 1360 }),
    "02180000 fe460001 00000000  08000100 0af40900  08000500 0a000009  0c000800 08000800 50050000",
  ],
])("the bytes of %s are sent", ([, it, body]) => {
  expectSentInAnyOrder(addRoute(it), { type: RTM_NEWROUTE, flags: ADD, body }, RTMSG);
});

test("the IPv6 default route is sent without its destination of zeros, which iproute2 writes out", () => {
  // ip -6 route add default via fe80::1 dev eth0 proto 70, less 14000100 and 16 bytes of zeros.
  expectSent(addRoute(route("::/0", { via: "fe80::1", oif: 5 })), {
    type: RTM_NEWROUTE,
    flags: ADD,
    body: "0a000000 fe460001 00000000  14000500 fe800000 00000000 00000000 00000001  08000400 05000000",
  });
});

test("a route to a pod is replaced as iproute2 does it", () => {
  // ip route replace 10.244.1.9/32 dev eth0 proto 70
  expectSent(replaceRoute(route("10.244.1.9/32", { oif: 5 })), {
    type: RTM_NEWROUTE,
    flags: REPLACE,
    body: "02200000 fe46fd01 00000000  08000100 0af40109  08000400 05000000",
  });
  // ip -6 route replace fd00:10:244:1::9/128 dev eth0 proto 70
  expectSent(replaceRoute(route("fd00:10:244:1::9/128", { oif: 5 })), {
    type: RTM_NEWROUTE,
    flags: REPLACE,
    body: "0a800000 fe460001 00000000  14000100 fd000010 02440001 00000000 00000009  08000400 05000000",
  });
});

test("a route is deleted as iproute2 does it, of any scope but of this type", () => {
  // ip route del 10.244.2.0/24 via 172.18.0.3 proto 70; rtm_type is unicast where iproute2 leaves any.
  expectSent(deleteRoute(route("10.244.2.0/24", { via: "172.18.0.3" })), {
    type: RTM_DELROUTE,
    flags: 0,
    body: "02180000 fe46ff01 00000000  08000100 0af40200  08000500 ac120003",
  });
});

test("routes are listed by family and protocol", () => {
  // ip -4 route show proto 70, which also asks for its table.
  const body = "02000000 00460000 00000000";
  expectSent(dumpRoutes(4, 70), { type: RTM_GETROUTE, flags: 0, body });
  expectSent(dumpRoutes(6, 70), { type: RTM_GETROUTE, flags: 0, body: body.replace("02", "0a") });
});

test("a route is looked up as iproute2 does it", () => {
  // ip route get 192.0.2.1, which also sets RTM_F_LOOKUP_TABLE in rtm_flags.
  expectSent(lookUpRoute(parseAddress("192.0.2.1")), {
    type: RTM_GETROUTE,
    flags: 0,
    body: "02200000 00000000 00000000  08000100 c0000201",
  });
  // ip route get 2001:db8::1
  expectSent(lookUpRoute(parseAddress("2001:db8::1")), {
    type: RTM_GETROUTE,
    flags: 0,
    body: "0a800000 00000000 00000000  14000100 20010db8 00000000 00000000 00000001",
  });
});

test("the table's entry that a look-up finds is asked for as iproute2 asks", () => {
  // ip route get fibmatch 10.0.0.9, which also sets RTM_F_LOOKUP_TABLE (0x1000) in rtm_flags.
  expectSent(lookUpRoute(parseAddress("10.0.0.9"), true), {
    type: RTM_GETROUTE,
    flags: 0,
    body: "02200000 00000000 00200000  08000100 0a000009",
  });
});

test("an IPv4 address is added as iproute2 does it", () => {
  // ip address add 10.244.1.7/32 dev eth0
  expectSent(addAddress(5, "eth0", parseAddress("10.244.1.7")), {
    type: RTM_NEWADDR,
    flags: ADD,
    body: "02200000 05000000  08000200 0af40107  08000100 0af40107",
  });
});

test("an IPv6 address is added without duplicate address detection, and a link-local one in the link's scope", () => {
  // ip address add fd00:10:244:1::7/128 dev eth0 nodad; iproute2 sets IFA_F_NODAD in ifa_flags, ours is IFA_FLAGS.
  expectSent(addAddress(5, "eth0", parseAddress("fd00:10:244:1::7")), {
    type: RTM_NEWADDR,
    flags: ADD,
    body: `0a800000 05000000  14000200 fd000010 02440001 00000000 00000007
      14000100 fd000010 02440001 00000000 00000007  08000800 02000000`,
  });
  // ip address add fe80::fe:aff:fef4:107/64 dev eth0 nodad scope link
  expectSent(addAddress(5, "eth0", parseAddress("fe80::fe:aff:fef4:107"), 64), {
    type: RTM_NEWADDR,
    flags: ADD,
    body: `0a4000fd 05000000  14000200 fe800000 00000000 00fe0aff fef40107
      14000100 fe800000 00000000 00fe0aff fef40107  08000800 02000000`,
  });
});

test("a neighbour is set as iproute2 does it", () => {
  const mac = fromHex("06fe0af40107");
  // ip neigh replace 169.254.1.1 lladdr 06:fe:0a:f4:01:07 dev eth0 nud permanent
  expectSent(addNeighbour(5, "eth0", parseAddress("169.254.1.1"), mac), {
    type: RTM_NEWNEIGH,
    flags: REPLACE,
    body: "02000000 05000000 80000000  08000100 a9fe0101  0a000200 06fe0af4 01070000",
  });
  // ip neigh replace fe80::1 lladdr 06:fe:0a:f4:01:07 dev eth0 nud permanent
  expectSent(addNeighbour(5, "eth0", parseAddress("fe80::1"), mac), {
    type: RTM_NEWNEIGH,
    flags: REPLACE,
    body: "0a000000 05000000 80000000  14000100 fe800000 00000000 00000000 00000001  0a000200 06fe0af4 01070000",
  });
});

test("requests say what they are about", () => {
  const it = route("10.244.2.0/24", { via: "172.18.0.3" });
  const own = route("fd00:10:244:1::/64", { kind: "unreachable" });
  expect(
    [addRoute(it), replaceRoute(it), deleteRoute(own), addRoute(route("::/0", { via: "fe80::1" }))].map(
      ({ what }) => what,
    ),
  ).toEqual([
    "add route 10.244.2.0/24 via 172.18.0.3",
    "set route 10.244.2.0/24 via 172.18.0.3",
    "delete route unreachable fd00:10:244:1::/64",
    "add route default via fe80::1",
  ]);
  expect(addAddress(5, "eth0", parseAddress("fe80::1"), 64).what).toBe("add address fe80::1/64 to eth0");
  expect(addNeighbour(5, "eth0", parseAddress("fe80::1"), new Uint8Array(6)).what).toBe(
    "add neighbour fe80::1 on eth0",
  );
});

// Kernel 6.18's answer to a dump of both families. RTA_CACHEINFO (0c) and RTA_PREF (14) are noise to us.
const NOISE = `24000c00 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 05001400 00000000`;
const DUMPED: readonly (readonly [text: string, body: string, route: Partial<Route> | undefined])[] = [
  [
    "10.244.9.0/24 via 172.18.0.3 dev eth0 table 1000 mtu 1400",
    "02180000 fc460001 00000000 08000f00 e8030000 08000100 0af40900 0c000800 08000200 78050000 08000500 ac120003 08000400 03000000",
    route("10.244.9.0/24", { via: "172.18.0.3", oif: 3, table: 1000, mtu: 1400, scope: 0 }),
  ],
  [
    "10.244.1.7 dev flabc scope link",
    "02200000 fe46fd01 10000000 08000f00 fe000000 08000100 0af40107 08000400 04000000",
    route("10.244.1.7/32", { oif: 4, table: 254, scope: 253 }),
  ],
  [
    "unreachable 10.244.1.0/24",
    "02180000 fe460007 00000000 08000f00 fe000000 08000100 0af40100",
    route("10.244.1.0/24", { kind: "unreachable", table: 254, scope: 0 }),
  ],
  [
    "unreachable fd00:10:244:1::/64 dev lo metric 1024",
    `0a400000 fe460007 00000000 08000f00 fe000000 14000100 fd000010 02440001 00000000 00000000 08000600 00040000 08000400 01000000 ${NOISE}`,
    route("fd00:10:244:1::/64", { kind: "unreachable", oif: 1, priority: 1024, table: 254, scope: 0 }),
  ],
  [
    "fd00:10:244:2::/64 via fd00:18::3 dev eth0 metric 1024",
    `0a400000 fe460001 00000000 08000f00 fe000000 14000100 fd000010 02440002 00000000 00000000 08000600 00040000
     14000500 fd000018 00000000 00000000 00000003 08000400 03000000 ${NOISE}`,
    route("fd00:10:244:2::/64", { via: "fd00:18::3", oif: 3, priority: 1024, table: 254, scope: 0 }),
  ],
  [
    "default via 172.18.0.1 dev eth0",
    "02000000 fe030001 00000000 08000f00 fe000000 08000500 ac120001 08000400 03000000",
    route("0.0.0.0/0", { via: "172.18.0.1", oif: 3, table: 254, scope: 0, protocol: 3 }),
  ],
  ["blackhole 10.66.0.0/16", "02100000 fe460006 00000000 08000f00 fe000000 08000100 0a420000", undefined],
  [
    "local 127.0.0.1 table local",
    "02200000 ff02fe02 00000000 08000f00 ff000000 08000100 7f000001 08000700 7f000001 08000400 01000000",
    undefined,
  ],
];

test.for(DUMPED)("the kernel's %s is read", ([, body, expected]) => {
  expect(decodeRoute({ type: RTM_NEWROUTE, flags: 2, seq: 7, body: fromHex(body) })).toEqual(expected);
});

test("the answer to a look-up is read, but for the cached path's MTU", () => {
  // ip route get 192.0.2.1 through the default route above.
  const datagram = fromHex(`70000000 18000000 07000000 00009551 02200000 fe000001 00020000
    08000f00 fe000000 08000100 c0000201 08000400 03000000 08000700 ac120002 08000500 ac120001 08001900 00000000
    24000c00 02000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000`);
  const [message] = decodeMessages(datagram);
  expect(message && decodeRoute(message)).toMatchObject({ oif: 3, gateway: parseAddress("172.18.0.1"), length: 32 });
});

const routes: fc.Arbitrary<Route> = fc.constantFrom(4 as const, 6 as const).chain((family) => {
  const address = fc.uint8Array({ minLength: family === 4 ? 4 : 16, maxLength: family === 4 ? 4 : 16 });
  const u32 = fc.integer({ min: 1, max: 0xffffffff });
  return fc.record(
    {
      family: fc.constant(family),
      destination: address,
      length: fc.integer({ min: 1, max: hostLength(family) }),
      kind: fc.constantFrom("unicast" as const, "unreachable" as const),
      protocol: fc.nat(255),
      table: u32,
      scope: fc.nat(255),
      gateway: address,
      oif: u32,
      priority: u32,
      mtu: u32,
    },
    { requiredKeys: ["family", "destination", "length", "kind", "protocol", "table", "scope"] },
  ) as fc.Arbitrary<Route>;
});

test("a route survives being written and read", () => {
  fc.assert(
    fc.property(routes, fc.constantFrom(addRoute, replaceRoute), (it, toRequest) => {
      const { type, flags, body } = toRequest(it);
      expect(decodeRoute({ type, flags, seq: 1, body })).toEqual(it);
    }),
  );
});

test("a route that is deleted is named by all but its scope", () => {
  fc.assert(
    fc.property(routes, (it) => {
      const { type, flags, body } = deleteRoute(it);
      expect(decodeRoute({ type, flags, seq: 1, body })).toEqual({ ...it, scope: 255 });
    }),
  );
});

test("anything at all is a route or nothing, and a route can be described", () => {
  const head = fc
    .tuple(fc.constantFrom(2, 10, 0), fc.nat(255), fc.constantFrom(1, 6, 7))
    .map(([family, length, type]) => {
      return [family, length, 0, 0, 254, 70, 0, type, 0, 0, 0, 0];
    });
  const attribute = fc.tuple(fc.nat(24), fc.nat(20), fc.array(fc.nat(255), { maxLength: 24 }));
  fc.assert(
    fc.property(head, fc.array(attribute, { maxLength: 6 }), fc.nat(200), (start, list, cut) => {
      const tail = list.flatMap(([length, type, value]) => [length, 0, type, 0, ...value]);
      const body = new Uint8Array([...start, ...tail]).subarray(0, cut);
      const found = decodeRoute({ type: RTM_NEWROUTE, flags: 0, seq: 1, body });
      if (found === undefined) return;
      const size = found.family === 4 ? 4 : 16;
      expect(found.destination).toHaveLength(size);
      if (found.gateway !== undefined) expect(found.gateway).toHaveLength(size);
      expect(describeRoute(found)).toContain(found.length === 0 ? "default" : formatAddress(found.destination));
    }),
    { numRuns: 2000 },
  );
});
