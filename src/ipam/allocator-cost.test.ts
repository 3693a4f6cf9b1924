// SPDX-License-Identifier: Apache-2.0
//
// What an allocation and a release cost, in steps: how often each block of the code was run, as V8 counts it for coverage.
// No clock is looked at, so the numbers are the same on every machine.
import { Session } from "node:inspector";
import { expect, test } from "vitest";
import type { AllocationRequest } from "./plans.ts";
import type { AllocationRecord } from "./records.ts";

const session = new Session();
session.connect();
session.post("Profiler.enable");
session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
// Not before: what was compiled without counters never gets any.
const { Allocator } = await import("./allocator.ts");
const { formatAddress } = await import("../net/address.ts");
const { addressAt, parsePrefix } = await import("../net/prefix.ts");
const { parseSnapshot } = await import("./snapshot.ts");
const { BOOT_ID, prefixes, request } = await import("./testing/fixtures.ts");

const REST = 120_000;
const START = 1_800_000_000_000;

/** How many blocks of the allocator's files were run since the last time. */
function takeSteps(): number {
  let steps = 0;
  session.post("Profiler.takePreciseCoverage", (error, coverage) => {
    if (error) throw error;
    for (const { url, functions } of coverage.result) {
      if (!/\/src\/(ipam|net)\/[a-z-]+\.ts$/.test(url)) continue;
      for (const { ranges } of functions) for (const { count } of ranges) steps += count;
    }
  });
  return steps;
}

function stepsOf(work: () => void): number {
  takeSteps();
  work();
  return takeSteps();
}

test("steps are counted: twice the work is twice as many", () => {
  const parse = (times: number) =>
    stepsOf(() => {
      for (let i = 0; i < times; i++) parsePrefix("10.0.0.0/24");
    });
  expect(parse(1)).toBeGreaterThan(10);
  expect(parse(20_000)).toBe(20_000 * parse(1));
});

class Node {
  readonly allocator: InstanceType<typeof Allocator>;
  now = START;
  constructor(...subnets: string[]) {
    this.allocator = new Allocator(prefixes(...subnets), REST);
  }
  allocate(name: string, more: Partial<AllocationRequest> = {}): AllocationRecord {
    const plan = this.allocator.planAllocate({ ...request(name), ...more }, BOOT_ID, this.now);
    if (plan.kind !== "new") throw new Error(plan.kind);
    for (const change of plan.changes) this.allocator.apply(change);
    return plan.record;
  }
  release(name: string): void {
    const plan = this.allocator.planRelease(request(name).attachment, this.now);
    if (plan.kind !== "released") throw new Error(plan.kind);
    this.allocator.apply(plan.change);
  }
  /** A release, an allocation, both again after a rest, and the counts: what a node does all day. */
  day(): void {
    this.release("first");
    this.allocate("second");
    this.now += REST;
    this.release("second");
    this.allocate("first");
    this.allocator.counts(this.now);
  }
}

const SUBNETS = ["10.0.0.0/24", "10.0.0.0/16", "10.0.0.0/8", "fd00::/64", "fd00::/48"];
/** As many as a /16 has room for. */
const MANY = 60_000;

/** A node that has given out `held` addresses before the first one. */
function busy(subnet: string, held: number): Node {
  const node = new Node(subnet);
  for (let i = 0; i < held; i++) node.allocate(`held-${i}`);
  node.allocate("first");
  return node;
}

test("an allocation and a release take as many steps in a subnet of any size, however full it is", () => {
  for (const family of [SUBNETS.slice(0, 3), SUBNETS.slice(3)]) {
    const steps = family.flatMap((subnet) =>
      [0, 100, MANY]
        .filter((held) => held < 250 || subnet !== "10.0.0.0/24")
        .map((held) => {
          const node = busy(subnet, held);
          node.day();
          return stepsOf(() => node.day());
        }),
    );
    // What an address's text takes to read and write differs by its length, and nothing else does.
    expect(Math.max(...steps) - Math.min(...steps)).toBeLessThan(200);
    expect(Math.max(...steps)).toBeLessThan(3_000);
  }
}, 120_000);

test("what is held around the next address, by request, costs no step, and neither does a gateway beside it", () => {
  const steps = [10, MANY].map((held) => {
    const node = new Node("10.0.0.0/16");
    const prefix = parsePrefix("10.0.0.0/16");
    // All but the first few, so that the pool has never been asked for a next one.
    for (let i = 0; i < held; i++) {
      const address = formatAddress(addressAt(prefix, BigInt(i + 3)));
      node.allocate(`held-${i}`, { requestedAddresses: [address] });
    }
    return stepsOf(() => {
      node.allocate("one", { withGateway: true });
      node.allocate("two");
    });
  });
  expect(Math.abs((steps[0] as number) - (steps[1] as number))).toBeLessThan(100);
}, 120_000);

test("a restore takes as many steps for a record, however many there are and wherever in the subnet they are", () => {
  const perRecord = [
    ["fd00::/64", 100],
    ["fd00::/64", 10_000],
    ["fd00::/48", 10_000],
  ].map(([subnet, count]) => {
    const prefix = parsePrefix(`${subnet}`);
    const released = new Map(
      Array.from({ length: count as number }, (_, i) => {
        // Far apart, so that each is a run of its own.
        const address = formatAddress(addressAt(prefix, BigInt(i + 1) * 0x1_0000_0001n));
        return [address, { releasedAtMs: START + i, holder: "pods/a/eth0" }];
      }),
    );
    const snapshot = { ...parseSnapshot([]), released };
    const steps = stepsOf(() => Allocator.restore([prefix], REST, snapshot, START + 1e6));
    return steps / (count as number);
  });
  expect(Math.max(...perRecord)).toBeLessThan(1.5 * Math.min(...perRecord));
}, 120_000);
