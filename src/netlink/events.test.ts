// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { addAddress, RTM_DELADDR } from "./address.ts";
import { lossesIn } from "./events.ts";
import { RTM_NEWLINK, setLinkUp } from "./link.ts";
import { encodeBatch, NetlinkError, type Request } from "./message.ts";
import { addNeighbour, RTM_DELNEIGH } from "./neighbour.ts";
import { addRoute, type Route, RTM_DELROUTE } from "./route.ts";
import { addSourceRule, RTM_DELRULE } from "./rule.ts";

const V4 = parseAddress("10.244.1.7");
const MAC = new Uint8Array(6);
const ROUTE: Route = { family: 4, destination: V4, length: 32, kind: "unicast", oif: 7, protocol: 70 };
const RULE = { source: V4, table: 1000, priority: 1, protocol: 70 };
const UP = setLinkUp(7, "eth0");
/** As the kernel tells of a link: flags in the third word. */
const DOWN = { ...UP, body: UP.body.slice().fill(0, 8, 12) };

function datagram(request: Request, type = request.type): Uint8Array {
  return encodeBatch([{ ...request, type }], 0, 0);
}

test.for<[string, Uint8Array, number[]]>([
  ["an address that is gone", datagram(addAddress(7, "eth0", V4), RTM_DELADDR), [7]],
  ["a neighbour that is gone", datagram(addNeighbour(7, "eth0", V4, MAC), RTM_DELNEIGH), [7]],
  ["a route that is gone", datagram(addRoute(ROUTE), RTM_DELROUTE), [7]],
  ["a rule that is gone", datagram(addSourceRule(RULE), RTM_DELRULE), [0]],
  ["a link that is down", datagram(DOWN, RTM_NEWLINK), [7]],
  ["a link that is up", datagram(UP, RTM_NEWLINK), []],
  ["an address that is new", datagram(addAddress(7, "eth0", V4)), []],
  ["a neighbour that is new", datagram(addNeighbour(7, "eth0", V4, MAC)), []],
  ["a route that is new", datagram(addRoute(ROUTE)), []],
  ["a rule that is new", datagram(addSourceRule(RULE)), []],
])("%s", ([, bytes, losses]) => {
  expect(lossesIn(bytes)).toEqual(losses);
});

test("a route that leads to no link is nobody's loss", () => {
  const { oif: _, ...unreachable } = ROUTE;
  expect(lossesIn(datagram(addRoute({ ...unreachable, kind: "unreachable" }), RTM_DELROUTE))).toEqual([]);
});

test("bytes that make no sense are refused, and never anything else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        lossesIn(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(NetlinkError);
      }
    }),
  );
});
