// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { attachmentKey } from "../net/names.ts";
import { type AllocationRequest, Allocator } from "./allocator.ts";
import { parseSnapshot, writesOf } from "./records.ts";
import { attachment, BOOT_ID, prefixes, request } from "./testing/fixtures.ts";

const REST = 120_000;
const START = 1_800_000_000_000;

/** An allocator together with what would be on its disk. */
class Node {
  readonly disk = new Map<string, string>();
  allocator: Allocator;
  subnets: ReturnType<typeof prefixes>;
  constructor(...subnets: string[]) {
    this.subnets = prefixes(...subnets);
    this.allocator = new Allocator(this.subnets, REST);
  }
  allocate(name: string, nowMs = START, more: Partial<AllocationRequest> = {}) {
    const plan = this.allocator.planAllocate(request(name, more), BOOT_ID, nowMs);
    if (plan.kind === "new" || plan.kind === "existed") for (const change of plan.changes) this.#apply(change);
    return plan;
  }
  /** The addresses the attachment gets, or why it gets none. */
  addresses(name: string, nowMs = START, more: Partial<AllocationRequest> = {}): string {
    const plan = this.allocate(name, nowMs, more);
    return plan.kind === "new" || plan.kind === "existed" ? plan.record.addresses.join(" ") : plan.kind;
  }
  release(name: string, nowMs = START, deletedAtMs?: number) {
    const plan = this.allocator.planRelease(attachment(name), nowMs, deletedAtMs);
    if (plan.kind === "released") this.#apply(plan.change);
    return plan.kind;
  }
  restart(nowMs = START, ...subnets: string[]) {
    if (subnets.length > 0) this.subnets = prefixes(...subnets);
    const snapshot = parseSnapshot(this.disk);
    this.allocator = Allocator.restore(this.subnets, REST, snapshot, nowMs);
    return snapshot;
  }
  #apply(change: Parameters<Allocator["apply"]>[0]) {
    this.allocator.apply(change);
    for (const write of writesOf(change)) {
      if (write.type === "put") this.disk.set(write.key, write.value);
      else this.disk.delete(write.key);
    }
  }
}

test("the same attachment gets the same addresses, with its latest attributes, before and after a restart", () => {
  const node = new Node("10.0.0.0/24", "fd00::/64");
  expect(node.allocate("a")).toMatchObject({ kind: "new", record: { addresses: ["10.0.0.1", "fd00::1"] } });
  const again = { ...request("a"), netns: "/run/netns/other" };
  const plan = node.allocator.planAllocate(again, BOOT_ID, START + 5);
  expect(plan).toMatchObject({
    kind: "existed",
    record: { addresses: ["10.0.0.1", "fd00::1"], netns: again.netns, allocatedAtMs: START, confirmedAtMs: START + 5 },
  });
  node.restart();
  expect(node.allocate("a")).toMatchObject({ kind: "existed", record: { addresses: ["10.0.0.1", "fd00::1"] } });
});

test("planning changes nothing", () => {
  const node = new Node("10.0.0.0/24");
  const first = node.allocator.planAllocate(request("a"), BOOT_ID, START);
  expect(node.allocator.planAllocate(request("b"), BOOT_ID, START)).toMatchObject({
    record: { addresses: first.kind === "new" ? first.record.addresses : [] },
  });
});

test("dual stack is all or nothing", () => {
  const node = new Node("10.0.0.0/24", "fd00::1/128");
  node.allocate("a");
  expect(node.allocate("b")).toEqual({
    kind: "exhausted",
    family: 6,
    subnets: [{ cidr: "fd00::1/128", capacity: 1, used: 1, cooling: 0, free: 0 }],
  });
  expect(node.allocator.counts(START)[0]).toMatchObject({ used: 1 });
});

test("several subnets of a family are tried in their order", () => {
  const node = new Node("10.0.1.0/31", "10.0.0.0/31");
  expect(["a", "b", "c", "d", "e"].map((name) => node.addresses(name))).toEqual([
    "10.0.1.0",
    "10.0.1.1",
    "10.0.0.0",
    "10.0.0.1",
    "exhausted",
  ]);
});

test("under exhaustion the longest rested address of the family is used early, and the plan says so", () => {
  const node = new Node("10.0.0.0/31", "10.0.1.0/31");
  for (const name of ["a", "b", "c", "d"]) node.allocate(name);
  node.release("c", START + 1);
  node.release("a", START + 2);
  expect(node.allocate("e", START + 3)).toMatchObject({ restCutShort: true, record: { addresses: ["10.0.1.0"] } });
  expect(node.allocate("f", START + 3)).toMatchObject({ restCutShort: true, record: { addresses: ["10.0.0.0"] } });
  expect(node.addresses("g", START + 3)).toBe("exhausted");
});

test("a rested address is used without remark", () => {
  const node = new Node("10.0.0.0/32");
  node.allocate("a");
  node.release("a", START);
  expect(node.allocate("b", START + REST)).toMatchObject({ restCutShort: false, record: { addresses: ["10.0.0.0"] } });
});

test("the rest and its order outlive a restart", () => {
  const node = new Node("10.0.0.0/30");
  node.allocate("a");
  node.allocate("b");
  node.release("b", START + 1);
  node.release("a", START + 2);
  node.restart(START + 3);
  expect(node.allocator.counts(START + REST + 1)).toMatchObject([{ cooling: 1, free: 1 }]);
  expect(node.allocate("c", START + REST + 1)).toMatchObject({
    restCutShort: false,
    record: { addresses: ["10.0.0.2"] },
  });
  expect(node.allocate("d", START + REST + 1)).toMatchObject({
    restCutShort: true,
    record: { addresses: ["10.0.0.1"] },
  });
});

test("a release time in the future ends one rest after a restart", () => {
  const node = new Node("10.0.0.0/32");
  node.allocate("a");
  node.release("a", START + 1e12);
  node.restart(START);
  // Nobody looks in between: the rest counts from the restart.
  expect(node.allocate("b", START + REST)).toMatchObject({ restCutShort: false });
});

test("an address outside the configured subnets stays its holder's until it is released, and then is no more", () => {
  const node = new Node("10.0.0.0/30", "fd00::/64");
  expect(node.addresses("a")).toBe("10.0.0.1 fd00::1");
  node.restart(START, "10.9.0.0/30");
  expect(node.allocator.counts(START)).toMatchObject([{ used: 0, free: 2 }]);
  expect(node.addresses("a")).toBe("10.0.0.1 fd00::1");
  expect(node.addresses("b")).toBe("10.9.0.1");
  expect(node.release("a")).toBe("released");
  expect(node.addresses("a")).toBe("10.9.0.2");
  expect(node.addresses("c")).toBe("exhausted");
});

test("an address that became a reserved one of a changed subnet stays held and is not given out again", () => {
  const node = new Node("10.0.0.0/29");
  for (const name of ["a", "b", "c"]) node.allocate(name);
  node.restart(START, "10.0.0.0/30");
  expect(node.allocator.counts(START)).toMatchObject([{ capacity: 2, used: 2 }]);
  expect(node.addresses("c")).toBe("10.0.0.3");
  node.release("c");
  expect(node.addresses("d")).toBe("exhausted");
});

test("release records outside the subnets are forgotten once rested, and count again if their subnet returns before", () => {
  const node = new Node("10.0.0.0/32");
  node.allocate("a");
  node.release("a");
  const { released } = node.restart(START, "10.9.0.0/32");
  expect(node.allocator.planForget(released, START + REST - 1)).toBeUndefined();
  expect(node.allocator.planForget(released, START + REST)).toEqual({ kind: "forget", addresses: ["10.0.0.0"] });
  node.restart(START, "10.0.0.0/32");
  expect(node.allocator.planForget(released, START + REST)).toBeUndefined();
  expect(node.allocator.counts(START)).toMatchObject([{ cooling: 1 }]);
});

test("an unknown attachment has nothing to release", () => {
  const node = new Node("10.0.0.0/24");
  expect(node.release("a")).toBe("unknown");
});

describe("a DEL that is told late", () => {
  test("releases what was added before it", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START);
    expect(node.release("a", START + 100, START + 50)).toBe("released");
  });

  test("leaves alone what was added after it", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START + 60);
    expect(node.release("a", START + 100, START + 50)).toBe("readded");
    expect(node.allocate("a", START + 100)).toMatchObject({ kind: "existed" });
  });

  test("leaves alone what was added before it and asked for again after it, also after a restart", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START);
    node.allocate("a", START + 60);
    node.restart(START + 70);
    expect(node.release("a", START + 100, START + 50)).toBe("readded");
  });

  test("leaves the attachment alone when the clock was set back since and the order cannot be known", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START);
    expect(node.release("a", START + 100, START + 1e9)).toBe("readded");
  });

  test("releases what was added before it although the clock was set back after both", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START + 1e9);
    expect(node.release("a", START, START + 1e9 + 1)).toBe("released");
  });
});

test("no subnet, overlapping subnets and a rest that is no time are clear errors", () => {
  expect(() => new Allocator([], REST)).toThrow("no subnet is configured");
  expect(() => new Allocator(prefixes("10.0.0.0/8", "10.1.0.0/16"), REST)).toThrow(
    "subnet 10.1.0.0/16 overlaps subnet 10.0.0.0/8",
  );
  expect(() => new Allocator(prefixes("10.0.0.0/8"), -1)).toThrow("cooldownMs is -1");
});

test("any sequence of requests, restarts and times gives an address to one holder and keeps the order of rest", () => {
  const names = fc.constantFrom("a", "b", "c", "d", "e", "f");
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("allocate" as const), name: names }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("release" as const), name: names }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const), name: names }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("wait" as const),
        name: names,
        ms: fc.integer({ min: 0, max: 2 * REST }),
      }),
    },
  );
  const layouts = fc.constantFrom(["10.0.0.0/30"], ["10.0.0.0/30", "fd00::/126"], ["10.0.0.0/31", "10.0.1.0/31"]);
  fc.assert(
    fc.property(layouts, fc.array(step, { maxLength: 60 }), (subnets, steps) => {
      const node = new Node(...subnets);
      const held = new Map<string, readonly string[]>();
      const releasedAt = new Map<string, number>();
      // Distinct times, so that "longest ago" has one answer.
      let now = START;
      for (const one of steps) {
        now++;
        if (one.kind === "wait") now += one.ms;
        if (one.kind === "restart") node.restart(now);
        if (one.kind === "release") {
          expect(node.release(one.name, now)).toBe(held.has(one.name) ? "released" : "unknown");
          for (const address of held.get(one.name) ?? []) releasedAt.set(address, now);
          held.delete(one.name);
        }
        if (one.kind === "allocate") {
          const plan = node.allocate(one.name, now);
          const before = held.get(one.name);
          if (before !== undefined) {
            expect(plan).toMatchObject({ kind: "existed", record: { addresses: before } });
          } else if (plan.kind === "exhausted") {
            const inFamily = [...held.values()].flat().filter((text) => text.includes(":") === (plan.family === 6));
            const capacity = plan.subnets.reduce((sum, subnet) => sum + subnet.capacity, 0);
            expect(inFamily.length).toBe(capacity);
          } else if (plan.kind === "new") {
            const { addresses } = plan.record;
            const others = new Set([...held.values()].flat());
            let cut = false;
            for (const address of addresses) {
              expect(others.has(address)).toBe(false);
              const releaseTime = releasedAt.get(address);
              if (releaseTime === undefined) continue;
              if (now - releaseTime < REST) {
                cut = true;
                // Cut short only the one that rested longest of the family.
                for (const [text, time] of releasedAt) {
                  if (text.includes(":") === address.includes(":")) expect(time).toBeGreaterThanOrEqual(releaseTime);
                }
              }
            }
            expect(plan.restCutShort).toBe(cut);
            for (const address of addresses) releasedAt.delete(address);
            held.set(one.name, addresses);
          } else {
            throw new Error("it existed for the allocator only");
          }
        }
        // The disk agrees with the model after each step.
        const { allocations } = parseSnapshot(node.disk);
        expect(new Map([...allocations].map(([key, record]) => [key, record.addresses]))).toEqual(
          new Map([...held].map(([name, addresses]) => [attachmentKey(attachment(name)), addresses])),
        );
      }
    }),
    { numRuns: 300 },
  );
});
