// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { PoolCounts } from "../gen/flatnet/ipam/v1/ipam.ts";
import { assertAvailable } from "./status.ts";

const subnet = (cidr: string, used: number, cooling: number, free: number, ...pools: PoolCounts[]) => {
  const counts = { capacity: used + cooling + free, used, cooling, free };
  return { cidr, ...counts, reserved: 2, sticky: 0, draining: false, pools: pools.map((pool) => ({ ...pool })) };
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

test("a network whose addresses are of a pool looks at that pool alone, and others at the default one", () => {
  const pool = (name: string, used: number, free: number) => {
    return { name, capacity: used + free, used, cooling: 0, free, sticky: 0 };
  };
  const answer = (...subnets: ReturnType<typeof subnet>[]) => ({ routesSynced: true, subnets });
  const dbFull = subnet("10.244.1.0/24", 16, 0, 238, pool("default", 2, 238), pool("db", 14, 0));
  const restFull = subnet("10.244.1.0/24", 238, 0, 16, pool("default", 238, 0), pool("db", 0, 16));
  for (const network of ["", "default"]) {
    expect(() => assertAvailable(answer(dbFull), network)).not.toThrow();
    expect(() => assertAvailable(answer(restFull), network)).toThrow(
      expect.objectContaining({ code: 50, details: "10.244.1.0/24 has 238 of 238 in use" }),
    );
  }
  expect(() => assertAvailable(answer(restFull), "db")).not.toThrow();
  expect(() => assertAvailable(answer(dbFull), "db")).toThrow(
    expect.objectContaining({ code: 50, details: "10.244.1.0/24 has 14 of 14 of pool db in use" }),
  );
  expect(() => assertAvailable(answer(dbFull), "web")).toThrow(expect.objectContaining({ code: 50 }));
});

test("a node whose routes were never in order has limited connectivity: code 51", () => {
  expect(() => assertAvailable({ routesSynced: false, subnets: [V4, V6] })).toThrow(
    expect.objectContaining({ code: 51, details: expect.stringContaining("routes to the other nodes") }),
  );
});
