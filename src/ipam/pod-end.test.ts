// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { PodEnd as PodEndMessage } from "../gen/flatnet/ipam/v1/ipam.ts";
import { parsePodEnd, readPodEnd } from "./pod-end.ts";

const NETNS_ID = "4:4026532301";

test("the pod's end is what the plugin says, its routes in canonical text", () => {
  const routes = [{ destination: "fd00:0::/32", priority: 0, mtu: 1400 }, { destination: "0.0.0.0/0" }];
  // By way of the wire: a number that is absent there is absent here, and zero is zero.
  const message = PodEndMessage.decode(PodEndMessage.encode({ netnsId: NETNS_ID, routes }).finish());
  const podEnd = parsePodEnd(message);
  expect(podEnd).toEqual({
    netnsId: NETNS_ID,
    routes: [{ destination: "fd00::/32", priority: 0, mtu: 1400 }, { destination: "0.0.0.0/0" }],
  });
  expect(readPodEnd(JSON.parse(JSON.stringify(podEnd)))).toEqual(podEnd);
});

test("an older plugin says nothing of it", () => {
  expect(parsePodEnd(undefined)).toBeUndefined();
});

test.for([
  [{ netnsId: "", routes: [] }, 'pod_end.netns_id is ""; it must be two numbers, "4:4026532301"'],
  [
    { netnsId: "/run/netns/a", routes: [] },
    'pod_end.netns_id is "/run/netns/a"; it must be two numbers, "4:4026532301"',
  ],
  [
    { netnsId: NETNS_ID, routes: [{ destination: "10.0.0.1/8" }] },
    'pod_end.routes[0].destination is "10.0.0.1/8"; it must be a network such as 10.0.0.0/8',
  ],
  [
    { netnsId: NETNS_ID, routes: [{ destination: "10.0.0.0/8", scope: 256 }] },
    "pod_end.routes[0].scope is 256; it must be 0 to 255",
  ],
  [
    { netnsId: NETNS_ID, routes: Array.from({ length: 1025 }, () => ({ destination: "10.0.0.0/8" })) },
    "pod_end.routes has 1025 entries, over 1024",
  ],
] as const)("%j is refused", ([message, reason]) => {
  expect(() => parsePodEnd({ netnsId: message.netnsId, routes: [...message.routes] })).toThrow(reason);
});
