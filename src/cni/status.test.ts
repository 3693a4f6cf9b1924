// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { assertAvailable } from "./status.ts";

const subnet = (cidr: string, used: number, cooling: number, free: number) => {
  return { cidr, capacity: used + cooling + free, used, cooling, free };
};
const V4 = subnet("10.244.1.0/24", 10, 4, 240);
const V6 = subnet("fd00:10:244:1::/64", 10, 4, 65_522);
const FULL4 = subnet("10.244.2.0/30", 2, 0, 0);
const FULL6 = subnet("fd00:10:244:2::/126", 3, 0, 0);

test.for([
  [[V4]],
  [[V6]],
  [[V4, V6]],
  // One subnet of a family is enough.
  [[FULL4, V4, V6, FULL6]],
  // What rests is given when nothing else is left.
  [[subnet("10.244.1.0/30", 1, 1, 0)]],
  // A daemon that tells no subnets tells nothing against it.
  [[]],
])("a node with %j can take pods", ([subnets]) => {
  expect(() => assertAvailable({ routesSynced: true, subnets: subnets ?? [] })).not.toThrow();
});

test.for([
  [[FULL4], "10.244.2.0/30 has 2 of 2 in use"],
  [[FULL4, V6], "10.244.2.0/30 has 2 of 2 in use"],
  [[V4, FULL6], "fd00:10:244:2::/126 has 3 of 3 in use"],
  [[FULL4, subnet("10.244.3.0/31", 2, 0, 0), V6], "10.244.2.0/30 has 2 of 2 in use, 10.244.3.0/31 has 2 of 2 in use"],
] as const)("a node with %j can't, whatever its routes: code 50", ([subnets, details]) => {
  for (const routesSynced of [true, false]) {
    expect(() => assertAvailable({ routesSynced, subnets: [...subnets] })).toThrow(
      expect.objectContaining({ code: 50, message: "no address is left", details }),
    );
  }
});

test("a node whose routes were never in order has limited connectivity: code 51", () => {
  expect(() => assertAvailable({ routesSynced: false, subnets: [V4, V6] })).toThrow(
    expect.objectContaining({ code: 51, details: expect.stringContaining("routes to the other nodes") }),
  );
});
