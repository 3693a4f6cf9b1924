// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { attachmentKey } from "../net/names.ts";
import { parseRange } from "../net/range.ts";
import { Allocator } from "./allocator.ts";
import type { AddressRules } from "./layout.ts";
import type { AllocationRequest } from "./plans.ts";
import { gatewayAttachment, isGateway, type PortMapping, writesOf } from "./records.ts";
import { parseSnapshot } from "./snapshot.ts";
import { attachment, BOOT_ID, prefixes, request } from "./testing/fixtures.ts";

const REST = 120_000;
const START = 1_800_000_000_000;

/** An allocator together with what would be on its disk. */
class Node {
  readonly disk = new Map<string, string>();
  allocator: Allocator;
  subnets: ReturnType<typeof prefixes>;
  #rules: AddressRules = {};
  constructor(...subnets: string[]) {
    this.subnets = prefixes(...subnets);
    this.allocator = new Allocator(this.subnets, REST);
  }
  allocate(name: string, nowMs = START, more: Partial<AllocationRequest> = {}) {
    const plan = this.allocator.planAllocate({ ...request(name), ...more }, BOOT_ID, nowMs);
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
    this.allocator = Allocator.restore(this.subnets, REST, snapshot, nowMs, this.#rules);
    return snapshot;
  }
  /** A restart with other rules. */
  rule(rules: AddressRules, nowMs = START) {
    this.#rules = rules;
    this.restart(nowMs);
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
  expect(node.allocate("b")).toMatchObject({
    kind: "exhausted",
    family: 6,
    subnets: [{ cidr: "fd00::1/128", capacity: 1, used: 1, cooling: 0, free: 0 }],
    holders: { total: 1, most: [{ name: "default", count: 1 }], others: 0, oldest: { attachment: attachment("a") } },
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

test("what rests is told with the end of its rest, also after a restart; what has rested or is held is not", () => {
  const node = new Node("10.0.0.0/29", "fd00::/64");
  for (const name of ["a", "b", "c"]) node.allocate(name);
  node.release("b", START + 1);
  node.release("a", START + 2);
  const rest = (address: string, ms: number) => ({
    address,
    releasedAtMs: START + ms,
    restsUntilMs: START + ms + REST,
  });
  const all = [rest("10.0.0.2", 1), rest("10.0.0.1", 2), rest("fd00::2", 1), rest("fd00::1", 2)];
  expect(node.allocator.resting(START + 3)).toEqual(all);
  node.restart(START + 3);
  expect(node.allocator.resting(START + 3)).toEqual(all);
  expect(node.allocator.resting(START + 1 + REST)).toEqual([all[1], all[3]]);
  expect(node.allocator.resting(START + 2 + REST)).toEqual([]);
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

describe("addresses that are asked for", () => {
  const asking = (...requestedAddresses: string[]) => ({ requestedAddresses });

  test("are given, and families that are not asked for get any", () => {
    const node = new Node("10.0.0.0/24", "fd00::/64");
    expect(node.addresses("a", START, asking("10.0.0.77"))).toBe("10.0.0.77 fd00::1");
    expect(node.addresses("b", START, asking("fd00::77", "10.0.0.1"))).toBe("10.0.0.1 fd00::77");
    expect(node.addresses("c")).toBe("10.0.0.2 fd00::2");
  });

  test("are in whichever subnet has them", () => {
    const node = new Node("10.0.0.0/24", "10.0.1.0/24");
    expect(node.allocate("a", START, asking("10.0.1.9"))).toMatchObject({
      record: { addresses: ["10.0.1.9"] },
      subnets: ["10.0.1.0/24"],
    });
  });

  test("are refused outside the subnets of their family, and where a subnet keeps them back", () => {
    const node = new Node("10.0.0.0/24", "fd00::/64");
    const none = { kind: "outOfRange", reservedIn: undefined, excludedBy: undefined };
    expect(node.allocate("a", START, asking("10.0.1.0"))).toEqual({
      ...none,
      address: "10.0.1.0",
      subnets: ["10.0.0.0/24"],
    });
    expect(node.allocate("a", START, asking("10.0.0.7", "fd01::"))).toMatchObject({ ...none, address: "fd01::" });
    for (const address of ["10.0.0.0", "10.0.0.255", "fd00::"]) {
      const reservedIn = address.includes(":") ? "fd00::/64" : "10.0.0.0/24";
      expect(node.allocate("a", START, asking(address))).toMatchObject({ kind: "outOfRange", address, reservedIn });
    }
    expect(new Node("10.0.0.0/24").allocate("a", START, asking("fd00::1"))).toMatchObject({ ...none, subnets: [] });
    expect(node.allocator.counts(START)).toMatchObject([{ used: 0 }, { used: 0 }]);
  });

  test("are refused with their holder when they are taken, also by a gateway", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START, { withGateway: true });
    expect(node.allocate("b", START, asking("10.0.0.2"))).toMatchObject({
      kind: "addressTaken",
      address: "10.0.0.2",
      holder: { attachment: attachment("a") },
    });
    expect(node.allocate("b", START, asking("10.0.0.1"))).toMatchObject({
      kind: "addressTaken",
      holder: { attachment: gatewayAttachment("pods", "10.0.0.1") },
    });
  });

  test("are given while they rest, and the plan says so", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a");
    node.release("a");
    expect(node.allocate("b", START + 1, asking("10.0.0.1"))).toMatchObject({ kind: "new", restCutShort: true });
    node.release("b", START + 2);
    expect(node.allocate("c", START + 2 + REST, asking("10.0.0.1"))).toMatchObject({
      kind: "new",
      restCutShort: false,
    });
  });

  test("are what the attachment has when it asks again, and anything else is refused with what it has", () => {
    const node = new Node("10.0.0.0/24", "fd00::/64");
    node.allocate("a", START, asking("10.0.0.7"));
    for (const again of [[], ["10.0.0.7"], ["10.0.0.7", "fd00::1"]]) {
      expect(node.allocate("a", START, asking(...again))).toMatchObject({ kind: "existed" });
    }
    expect(node.allocate("a", START, asking("10.0.0.8"))).toMatchObject({
      kind: "differs",
      requested: ["10.0.0.8"],
      record: { addresses: ["10.0.0.7", "fd00::1"] },
    });
  });

  test("may be ones of a subnet that is not ours any more, if the attachment has them", () => {
    const node = new Node("10.0.0.0/24", "fd00::/64");
    node.allocate("a");
    node.restart(START, "10.9.0.0/24", "fd00::/64");
    expect(node.allocate("a", START, asking("10.0.0.1"))).toMatchObject({
      kind: "existed",
      subnets: ["10.0.0.1/32", "fd00::/64"],
    });
  });
});

describe("ports of the node", () => {
  const port = (hostPort: number, hostIp = ""): PortMapping => {
    return { hostPort, containerPort: 80, protocol: "tcp", hostIp };
  };
  const with80 = { portMappings: [port(80)] };

  test("have one holder, also after a restart, until it is released", () => {
    const node = new Node("10.0.0.0/24");
    expect(node.allocate("a", START, with80)).toMatchObject({ kind: "new", record: with80 });
    node.restart();
    expect(node.allocate("b", START, { portMappings: [port(80, "10.9.9.9")] })).toMatchObject({
      kind: "portTaken",
      wanted: port(80, "10.9.9.9"),
      held: port(80),
      holder: { attachment: attachment("a") },
    });
    expect(node.allocator.counts(START)).toMatchObject([{ used: 1 }]);
    node.release("a");
    expect(node.allocate("b", START, with80)).toMatchObject({ kind: "new" });
  });

  test("are the latest ones when an attachment asks again", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START, with80);
    expect(node.allocate("a", START, with80)).toMatchObject({ kind: "existed", record: with80 });
    expect(node.allocate("a", START, { portMappings: [port(81)] })).toMatchObject({ kind: "existed" });
    expect(node.allocate("b", START, with80)).toMatchObject({ kind: "new" });
    node.restart();
    expect(node.allocate("c", START, { portMappings: [port(81)] })).toMatchObject({ kind: "portTaken" });
    expect(node.allocate("a", START, with80)).toMatchObject({
      kind: "portTaken",
      holder: { attachment: attachment("b") },
    });
    expect(parseSnapshot(node.disk).allocations.get("pods/a/eth0")?.portMappings).toEqual([port(81)]);
  });
});

describe("the gateway of a network", () => {
  const withGateway = { withGateway: true };
  const inNetwork = (network: string, name: string) => ({
    withGateway: true,
    attachment: { ...attachment(name), network },
  });

  test("is the first address of each subnet of an attachment, once for all, also after a restart", () => {
    const node = new Node("10.0.0.0/24", "fd00::/64");
    const gateways = ["10.0.0.1", "fd00::1"];
    expect(node.allocate("a", START, withGateway)).toMatchObject({
      gateways,
      record: { addresses: ["10.0.0.2", "fd00::2"] },
    });
    expect(node.allocate("a", START, withGateway)).toMatchObject({ kind: "existed", gateways });
    node.restart();
    expect(node.allocate("b", START, withGateway)).toMatchObject({
      gateways,
      record: { addresses: ["10.0.0.3", "fd00::3"] },
    });
    expect(node.allocate("c", START)).toMatchObject({ gateways: [] });
    expect(node.allocator.counts(START)).toMatchObject([{ used: 4 }, { used: 4 }]);
  });

  test("is another one in each network", () => {
    const node = new Node("10.0.0.0/24");
    expect(node.allocate("a", START, inNetwork("one", "a"))).toMatchObject({ gateways: ["10.0.0.1"] });
    expect(node.allocate("b", START, inNetwork("two", "b"))).toMatchObject({ gateways: ["10.0.0.3"] });
    expect(node.allocate("c", START, inNetwork("one", "c"))).toMatchObject({ gateways: ["10.0.0.1"] });
  });

  test("is another address when the first one is taken, or asked for", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a");
    expect(node.allocate("b", START, withGateway)).toMatchObject({ gateways: ["10.0.0.2"] });
    expect(node.allocate("c", START, withGateway)).toMatchObject({ gateways: ["10.0.0.2"] });
    const other = new Node("10.0.0.0/24");
    expect(other.allocate("a", START, { withGateway: true, requestedAddresses: ["10.0.0.1"] })).toMatchObject({
      record: { addresses: ["10.0.0.1"] },
      gateways: ["10.0.0.2"],
    });
  });

  test("is given to an attachment that existed without one", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a");
    expect(node.allocate("a", START, withGateway)).toMatchObject({ kind: "existed", gateways: ["10.0.0.2"] });
  });

  test("is not released, whoever asks", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START, withGateway);
    expect(node.allocator.planRelease(gatewayAttachment("pods", "10.0.0.1"), START)).toEqual({ kind: "unknown" });
  });

  test("needs room beside the attachment: a subnet with one address left is passed over, or exhausted", () => {
    const node = new Node("10.0.0.0/32", "10.0.1.0/30");
    expect(node.allocate("a", START, withGateway)).toMatchObject({
      record: { addresses: ["10.0.1.2"] },
      gateways: ["10.0.1.1"],
    });
    expect(node.allocate("b", START, withGateway)).toMatchObject({ kind: "exhausted" });
    expect(node.allocator.counts(START)).toMatchObject([{ used: 0 }, { used: 2 }]);
    expect(node.addresses("b")).toBe("10.0.0.0");
  });

  test("is given before its rest is over rather than not at all, and the plan says so", () => {
    const full = (released = "e") => {
      const node = new Node("10.0.0.0/29");
      for (const name of ["a", "b", "c", "d", "e", "f"]) node.allocate(name);
      node.release(released);
      return node;
    };
    expect(full().allocate("a", START + 1, withGateway)).toMatchObject({ gateways: ["10.0.0.5"], restCutShort: true });
    expect(full().allocate("a", START + REST, withGateway)).toMatchObject({ restCutShort: false });
    const node = full();
    node.release("b", START + REST);
    expect(node.allocate("g", START + REST, withGateway)).toMatchObject({
      gateways: ["10.0.0.5"],
      record: { addresses: ["10.0.0.2"] },
      restCutShort: true,
    });
    const requesting = full("b");
    requesting.release("e", START + REST);
    const wish = { ...withGateway, requestedAddresses: ["10.0.0.2"] };
    expect(requesting.allocate("g", START + REST, wish)).toMatchObject({ gateways: ["10.0.0.5"], restCutShort: true });
  });

  test("cannot be had in a subnet that is not ours any more", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START, withGateway);
    node.restart(START, "10.9.0.0/24");
    expect(node.allocate("a", START, withGateway)).toMatchObject({ kind: "noGateway", address: "10.0.0.2" });
    expect(node.allocate("a", START)).toMatchObject({ kind: "existed", subnets: ["10.0.0.2/32"] });
  });

  test("stays what it was when its subnet grows", () => {
    const node = new Node("10.0.0.128/25");
    node.allocate("a", START, withGateway);
    node.restart(START, "10.0.0.0/24");
    expect(node.allocate("b", START, withGateway)).toMatchObject({
      gateways: ["10.0.0.129"],
      subnets: ["10.0.0.0/24"],
    });
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
    fc.property(layouts, fc.array(step, { maxLength: 60, size: "max" }), (subnets, steps) => {
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

/**
 * The wishes a request may have, over a small world so that they meet. The model is the disk: whatever was refused left it
 * as it was, and whatever was given is there and contradicts nobody.
 */
test("any sequence of wishes gives an address and a port to one holder, keeps gateways, and changes nothing when it refuses", () => {
  const hostIp = fc.constantFrom("", "0.0.0.0", "::", "10.9.0.1", "fd09::1");
  const mapping = fc.record({
    hostPort: fc.constantFrom(80, 81),
    containerPort: fc.constant(80),
    protocol: fc.constant("tcp" as const),
    hostIp,
  });
  const v4 = fc.constantFrom("10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.5", "10.0.0.7", "10.1.0.1");
  const v6 = fc.constantFrom("fd00::", "fd00::1", "fd00::2", "fd00::3", "fd01::1");
  const wish = fc.record({
    requestedAddresses: fc
      .tuple(fc.option(v4, { nil: undefined, freq: 2 }), fc.option(v6, { nil: undefined, freq: 1 }))
      .map((both) => both.filter((address) => address !== undefined)),
    portMappings: fc.array(mapping, { maxLength: 1 }),
    withGateway: fc.boolean(),
  });
  const step = fc.record({
    kind: fc.constantFrom("allocate" as const, "allocate" as const, "release" as const, "restart" as const),
    name: fc.constantFrom("a", "b", "c", "d"),
    wish,
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
      const node = new Node("10.0.0.0/29", "fd00::/126");
      const gatewaysBefore = new Set<string>();
      for (const one of steps) {
        const before = new Map(node.disk);
        const mine = parseSnapshot(before).allocations.get(attachmentKey(attachment(one.name)));
        if (one.kind === "restart") node.restart();
        if (one.kind === "release") expect(node.release(one.name)).toBe(mine === undefined ? "unknown" : "released");
        if (one.kind === "allocate") {
          const plan = node.allocate(one.name, START, one.wish);
          if (plan.kind === "new" || plan.kind === "existed") {
            expect(plan.kind).toBe(mine === undefined ? "new" : "existed");
            expect(plan.record.addresses).toEqual(mine?.addresses ?? plan.record.addresses);
            expect(plan.record.addresses).toEqual(expect.arrayContaining(one.wish.requestedAddresses));
            expect(plan.record.portMappings).toEqual(one.wish.portMappings);
            expect(plan.subnets).toEqual(["10.0.0.0/29", "fd00::/126"]);
            expect(plan.gateways).toHaveLength(one.wish.withGateway ? 2 : 0);
            for (const gateway of plan.gateways) expect(plan.record.addresses).not.toContain(gateway);
          } else {
            expect(node.disk).toEqual(before);
          }
        }
        // Throws when an address has two holders.
        const records = [...parseSnapshot(node.disk).allocations.values()];
        const gateways = records.filter((record) => isGateway(record.attachment)).flatMap(({ addresses }) => addresses);
        expect(gateways).toEqual(expect.arrayContaining([...gatewaysBefore]));
        expect(gateways.filter((address) => address.includes(":")).length).toBeLessThanOrEqual(1);
        expect(gateways.filter((address) => !address.includes(":")).length).toBeLessThanOrEqual(1);
        for (const address of gateways) gatewaysBefore.add(address);
        const families = (ip: string) => (ip === "" ? [4, 6] : [ip.includes(":") ? 6 : 4]);
        const ports = records.flatMap(({ portMappings }) =>
          portMappings.flatMap((one) => families(one.hostIp).map((family) => ({ ...one, family }))),
        );
        for (const [i, a] of ports.entries()) {
          for (const b of ports.slice(i + 1)) {
            const same = a.family === b.family && a.hostPort === b.hostPort;
            // There is one address of each family in this world, so two of a family always meet.
            if (same) expect(a).toBe(b);
          }
        }
      }
    }),
    { numRuns: 300 },
  );
});

/** A node whose subnets have rules. */
function ruled(subnets: string[], rules: AddressRules): Node {
  const node = new Node(...subnets);
  node.rule(rules);
  return node;
}

describe("a draining subnet", () => {
  const draining = { draining: prefixes("10.0.0.0/29") };

  test("keeps who is in it, gives nothing new, and says what is in use", () => {
    const node = new Node("10.0.0.0/29", "10.0.1.0/29");
    expect(["a", "b"].map((name) => node.addresses(name))).toEqual(["10.0.0.1", "10.0.0.2"]);
    node.rule(draining);
    expect(node.addresses("c")).toBe("10.0.1.1");
    expect(node.allocate("a")).toMatchObject({ kind: "existed", record: { addresses: ["10.0.0.1"] } });
    expect(node.release("a")).toBe("released");
    expect(node.addresses("a")).toBe("10.0.1.2");
    expect(node.allocator.counts(START)).toMatchObject([
      { draining: true, capacity: 1, used: 1, cooling: 0, free: 0, reserved: 7 },
      { draining: false, capacity: 6, used: 2, free: 4, reserved: 2 },
    ]);
  });

  test("refuses what is asked for in it, and who holds it is said first", () => {
    const node = new Node("10.0.0.0/29", "10.0.1.0/29");
    node.allocate("a");
    node.rule(draining);
    expect(node.allocate("b", START, { requestedAddresses: ["10.0.0.5"] })).toEqual({
      kind: "draining",
      address: "10.0.0.5",
      subnet: "10.0.0.0/29",
    });
    expect(node.addresses("b", START, { requestedAddresses: ["10.0.0.1"] })).toBe("addressTaken");
  });

  test("gives no new gateway, and a network keeps the one it has there", () => {
    const node = new Node("10.0.0.0/29", "10.0.1.0/29");
    node.allocate("a", START, { withGateway: true });
    const other = { attachment: { ...attachment("b"), network: "other" } };
    node.allocate("b", START, other);
    node.rule(draining);
    expect(node.allocate("a", START, { withGateway: true })).toMatchObject({ kind: "existed", gateways: ["10.0.0.1"] });
    expect(node.allocate("b", START, { ...other, withGateway: true })).toMatchObject({ kind: "noGateway" });
  });

  test("alone in its family leaves that exhausted: nobody silently gets one family less", () => {
    const node = ruled(["10.0.0.0/29", "fd00::/64"], draining);
    expect(node.allocate("a")).toMatchObject({ kind: "exhausted", family: 4, holders: { total: 0 } });
  });
});

test("addresses of a subnet that is gone are counted until they are given back", () => {
  const node = new Node("10.0.0.0/29", "fd00::/64");
  for (const name of ["a", "b"]) node.allocate(name);
  node.restart(START, "10.0.1.0/29", "fd00::/64");
  expect([...node.allocator.strays]).toEqual(["10.0.0.1", "10.0.0.2"]);
  node.release("a");
  expect([...node.allocator.strays]).toEqual(["10.0.0.2"]);
});

test("excluded addresses are never given, are refused by the range that has them, and count as reserved", () => {
  const excluded = ["10.0.0.0/30", "10.0.0.5"].map(parseRange);
  const node = ruled(["10.0.0.0/29"], { excluded });
  expect(["a", "b", "c"].map((name) => node.addresses(name))).toEqual(["10.0.0.4", "10.0.0.6", "exhausted"]);
  for (const [address, excludedBy] of [
    ["10.0.0.2", "10.0.0.0/30"],
    ["10.0.0.5", "10.0.0.5"],
  ] as const) {
    expect(node.allocate("d", START, { requestedAddresses: [address] })).toMatchObject({
      kind: "outOfRange",
      excludedBy,
    });
  }
  expect(node.allocator.counts(START)).toMatchObject([{ capacity: 2, used: 2, reserved: 6 }]);
});

describe("a pool", () => {
  const db = { name: "db", ranges: ["10.0.0.8/30", "fd00::1:0/112"].map(parseRange), namespaces: ["databases"] };
  const subnets = ["10.0.0.0/28", "fd00::/64"];
  const inNamespace = (namespace: string) => ({ pod: { namespace, name: "pod", uid: "" } });

  test("gives to networks that name it and to its namespaces, and the default one to everybody else", () => {
    const node = ruled(subnets, { pools: [db] });
    expect(node.allocate("a", START, { pool: "db" })).toMatchObject({
      record: { addresses: ["10.0.0.8", "fd00::1:0"], pool: "db" },
      subnets: ["10.0.0.0/28", "fd00::/64"],
    });
    expect(node.addresses("b", START, inNamespace("databases"))).toBe("10.0.0.9 fd00::1:1");
    expect(node.addresses("c", START, inNamespace("web"))).toBe("10.0.0.1 fd00::1");
    expect(node.addresses("d", START, { ...inNamespace("databases"), pool: "default" })).toBe("10.0.0.2 fd00::2");
    expect(parseSnapshot(node.disk).allocations.get("pods/b/eth0")?.pool).toBe("db");
    expect(parseSnapshot(node.disk).allocations.get("pods/c/eth0")?.pool).toBeUndefined();
    expect(node.allocator.counts(START)[0]?.pools).toMatchObject([
      { name: "default", capacity: 10, used: 2, free: 8 },
      { name: "db", capacity: 4, used: 2, free: 2 },
    ]);
  });

  test("that is full is exhausted by itself", () => {
    const node = ruled(subnets, { pools: [db] });
    for (const name of ["a", "b", "c", "d"]) node.allocate(name, START, { pool: "db" });
    expect(node.allocate("e", START, { pool: "db" })).toMatchObject({
      kind: "exhausted",
      pool: "db",
      holders: { total: 4 },
    });
    expect(node.addresses("e")).toBe("10.0.0.1 fd00::1");
  });

  test("that nobody has is refused with those there are", () => {
    const node = ruled(subnets, { pools: [db] });
    expect(node.allocate("a", START, { pool: "web" })).toEqual({
      kind: "unknownPool",
      pool: "web",
      known: ["default", "db"],
    });
  });

  test("has to have the addresses that are asked for", () => {
    const node = ruled(subnets, { pools: [db] });
    expect(node.allocate("a", START, { requestedAddresses: ["10.0.0.9"] })).toEqual({
      kind: "otherPool",
      address: "10.0.0.9",
      pool: "db",
      wanted: "default",
    });
    expect(node.addresses("a", START, { requestedAddresses: ["10.0.0.9"], pool: "db" })).toBe("10.0.0.9 fd00::1:0");
  });

  test("may change under those who are in it: they keep their addresses", () => {
    const node = ruled(subnets, { pools: [db] });
    node.allocate("a", START, { pool: "db" });
    node.rule({});
    expect(node.addresses("a")).toBe("10.0.0.8 fd00::1:0");
    node.release("a");
    node.rule({ pools: [db] });
    expect(node.allocator.counts(START)[0]?.pools).toMatchObject([{ cooling: 0 }, { cooling: 1 }]);
  });
});

describe("addresses that are kept for an owner", () => {
  const TTL = 10 * REST;
  const sticky = (owner: string, ttlMs = TTL) => ({ sticky: { owner, ttlMs } });

  test("are the owner's again under another key, at once, in both families, also after a restart", () => {
    const node = new Node("10.0.0.0/24", "fd00::/64");
    expect(node.addresses("a", START, sticky("web-0"))).toBe("10.0.0.1 fd00::1");
    node.release("a");
    node.allocate("b");
    node.restart();
    expect(node.allocate("c", START + 1, sticky("web-0"))).toMatchObject({
      record: { addresses: ["10.0.0.1", "fd00::1"] },
      restCutShort: false,
      takenFrom: [],
      usedBefore: ["10.0.0.1", "fd00::1"],
    });
  });

  test("are nobody else's until their time is over, and then anybody's", () => {
    const node = new Node("10.0.0.0/30");
    node.allocate("a", START, sticky("web-0"));
    node.release("a");
    expect(node.addresses("b", START + TTL - 1)).toBe("10.0.0.2");
    node.release("b", START + TTL - 1);
    expect(node.allocator.counts(START + TTL - 1)).toMatchObject([{ used: 0, cooling: 2, sticky: 1, free: 0 }]);
    // What rests goes before what is kept.
    expect(node.allocate("c", START + TTL - 1)).toMatchObject({ record: { addresses: ["10.0.0.2"] }, takenFrom: [] });
    expect(node.allocator.counts(START + TTL)).toMatchObject([{ used: 1, cooling: 0, sticky: 0, free: 1 }]);
    expect(node.allocate("d", START + TTL)).toMatchObject({ record: { addresses: ["10.0.0.1"] }, restCutShort: false });
  });

  test("are given to others when nothing else is left, the one released longest ago first, and the plan says whose", () => {
    const node = new Node("10.0.0.0/30");
    node.allocate("a", START, sticky("web-0", TTL));
    node.allocate("b", START, sticky("web-1", 2 * TTL));
    node.release("b", START + 1);
    node.release("a", START + 2);
    expect(node.allocate("c", START + 3)).toMatchObject({
      record: { addresses: ["10.0.0.2"] },
      takenFrom: ["web-1"],
      restCutShort: true,
    });
    // The owner comes back too late and gets another one.
    expect(node.allocate("d", START + 3, sticky("web-1"))).toMatchObject({ takenFrom: ["web-0"] });
  });

  test("are refused to others who ask for them, with the owner's name", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START, sticky("web-0"));
    node.release("a");
    const wish = { requestedAddresses: ["10.0.0.1"] };
    expect(node.allocate("b", START + 1000, wish)).toEqual({
      kind: "addressKept",
      address: "10.0.0.1",
      owner: "web-0",
      forMs: TTL - 1000,
    });
    expect(node.addresses("c", START, { ...wish, ...sticky("web-0") })).toBe("10.0.0.1");
    node.release("c");
    expect(node.addresses("b", START + TTL, wish)).toBe("10.0.0.1");
  });

  test("are two when two attachments of the owner were there at once, and the later one is the one to come back to", () => {
    const node = new Node("10.0.0.0/24");
    for (const name of ["a", "b"]) node.allocate(name, START, sticky("web-0"));
    node.release("b", START + 1);
    node.release("a", START + 2);
    expect(node.addresses("c", START + 3, sticky("web-0"))).toBe("10.0.0.1");
    expect(node.addresses("d", START + 3, sticky("web-0"))).toBe("10.0.0.3");
  });

  test("stay where they are when their pool is another's by then: the owner gets one of its own pool", () => {
    const node = new Node("10.0.0.0/28");
    node.allocate("a", START, sticky("web-0"));
    node.release("a");
    node.rule({ pools: [{ name: "db", ranges: [parseRange("10.0.0.0/30")], namespaces: [] }] });
    expect(node.addresses("b", START, sticky("web-0"))).toBe("10.0.0.4");
  });

  test("are kept no more once the network says so no more", () => {
    const node = new Node("10.0.0.0/24");
    node.allocate("a", START, sticky("web-0"));
    expect(node.allocate("a")).toMatchObject({ kind: "existed" });
    node.release("a");
    expect(node.allocator.counts(START)).toMatchObject([{ cooling: 1, sticky: 0 }]);
  });
});

test("when the clock is set back, what rests goes on resting from where it was", () => {
  const node = new Node("10.0.0.0/32");
  node.allocate("a");
  node.release("a", START + 1e9);
  // Somebody looks at the clock right after.
  expect(node.allocator.counts(START)).toMatchObject([{ cooling: 1 }]);
  expect(node.allocator.resting(START)).toMatchObject([{ releasedAtMs: START, restsUntilMs: START + REST }]);
  expect(node.allocator.counts(START + REST - 1)).toMatchObject([{ cooling: 1 }]);
  expect(node.allocate("b", START + REST)).toMatchObject({ restCutShort: false });
});

/** What the allocator should give, by looking at every address there is. One family; times are all different. */
class Reference {
  readonly held = new Map<string, string>();
  readonly released = new Map<string, { atMs: number; readyAtMs: number; owner: string | undefined }>();
  /** The latest that each owner left in each area. */
  latest = new Map<string, string>();
  readonly areaOf: (address: string) => string | undefined;
  draining = "";
  readonly all: string[];
  constructor(all: string[], areaOf: (address: string) => string | undefined) {
    this.all = all;
    this.areaOf = areaOf;
  }
  ownerNow(address: string, nowMs: number): string | undefined {
    const past = this.released.get(address);
    return past !== undefined && past.readyAtMs > nowMs ? past.owner : undefined;
  }
  /** The address, or the name of the refusal. */
  expected(pool: string, owner: string | undefined, requested: string | undefined, nowMs: number): string {
    const isOpen = (address: string) => {
      const area = this.areaOf(address);
      return area?.endsWith(`/${pool}`) === true && !area.startsWith(`${this.draining}/`);
    };
    if (requested !== undefined) {
      const area = this.areaOf(requested);
      if (area === undefined) return "outOfRange";
      if ([...this.held.values()].includes(requested)) return "addressTaken";
      if (area.startsWith(`${this.draining}/`)) return "draining";
      if (!area.endsWith(`/${pool}`)) return "otherPool";
      const keptFor = this.ownerNow(requested, nowMs);
      return keptFor !== undefined && keptFor !== owner ? "addressKept" : requested;
    }
    const held = new Set(this.held.values());
    const open = this.all.filter((address) => isOpen(address) && !held.has(address));
    const own = open
      .filter((address) => owner !== undefined && this.ownerNow(address, nowMs) === owner)
      .filter((address) => this.latest.get(`${this.areaOf(address)} ${owner}`) === address)
      .sort((a, b) => this.past(b).atMs - this.past(a).atMs);
    if (own[0] !== undefined) return own[0];
    for (const area of new Set(open.map(this.areaOf))) {
      const here = open.filter((address) => this.areaOf(address) === area);
      const fresh = here.find((address) => !this.released.has(address));
      const ready = here
        .filter((address) => this.released.has(address) && this.past(address).readyAtMs <= nowMs)
        .sort((a, b) => this.past(a).readyAtMs - this.past(b).readyAtMs);
      const one = fresh ?? ready[0];
      if (one !== undefined) return one;
    }
    const byTime = open.sort((a, b) => this.past(a).atMs - this.past(b).atMs);
    return byTime.find((address) => this.ownerNow(address, nowMs) === undefined) ?? byTime[0] ?? "exhausted";
  }
  hold(name: string, address: string) {
    this.held.set(name, address);
    this.released.delete(address);
    for (const [key, latest] of this.latest) if (latest === address) this.latest.delete(key);
  }
  release(name: string, nowMs: number, keep: { owner: string; ttlMs: number } | undefined) {
    const address = this.held.get(name) as string;
    this.held.delete(name);
    const readyAtMs = nowMs + Math.max(REST, keep?.ttlMs ?? 0);
    this.released.set(address, { atMs: nowMs, readyAtMs, owner: keep?.owner });
    if (keep !== undefined) this.latest.set(`${this.areaOf(address)} ${keep.owner}`, address);
  }
  /** What a daemon that starts finds in the release records. */
  restart() {
    this.latest = new Map();
    for (const [address, { owner }] of [...this.released].sort(([, a], [, b]) => a.atMs - b.atMs)) {
      if (owner !== undefined) this.latest.set(`${this.areaOf(address)} ${owner}`, address);
    }
  }
  past(address: string) {
    return this.released.get(address) as { atMs: number; readyAtMs: number };
  }
}

test("any sequence of wishes, over pools, drained subnets and owners, gets what looking at every address finds", () => {
  const subnets = ["10.0.0.0/29", "10.0.1.0/29"];
  const pools = [{ name: "db", ranges: ["10.0.0.5-10.0.0.6", "10.0.1.5"].map(parseRange), namespaces: [] }];
  const excluded = [parseRange("10.0.0.2")];
  const all = [0, 1].flatMap((subnet) => [1, 2, 3, 4, 5, 6].map((host) => `10.0.${subnet}.${host}`));
  const db = ["10.0.0.5", "10.0.0.6", "10.0.1.5"];
  const areaOf = (address: string) => {
    if (!all.includes(address) || address === "10.0.0.2") return undefined;
    return `${address.startsWith("10.0.0.") ? subnets[0] : subnets[1]}/${db.includes(address) ? "db" : "default"}`;
  };
  const names = fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l");
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("allocate" as const),
        name: names,
        pool: fc.constantFrom("default", "default", "db"),
        owner: fc.constantFrom(undefined, undefined, "x", "y"),
        ttlMs: fc.constantFrom(1, 3 * REST, 5 * REST + 7),
        requested: fc.option(fc.constantFrom(...all, "10.0.0.7", "10.9.9.9"), { nil: undefined, freq: 5 }),
      }),
    },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("release" as const), name: names }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 3 * REST }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("restart" as const), draining: fc.constantFrom("", "", ...subnets) }),
    },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80, size: "max" }), (steps) => {
      const node = ruled(subnets, { pools, excluded });
      const reference = new Reference(all, areaOf);
      const keeps = new Map<string, { owner: string; ttlMs: number } | undefined>();
      let now = START;
      for (const one of steps) {
        now++;
        if (one.kind === "wait") now += one.ms;
        if (one.kind === "restart") {
          node.rule({ pools, excluded, draining: one.draining === "" ? [] : prefixes(one.draining) }, now);
          reference.draining = one.draining;
          reference.restart();
        }
        if (one.kind === "release" && reference.held.has(one.name)) {
          node.release(one.name, now);
          reference.release(one.name, now, keeps.get(one.name));
        }
        if (one.kind === "allocate" && !reference.held.has(one.name)) {
          const { name, pool, owner, ttlMs, requested } = one;
          const sticky = owner === undefined ? undefined : { owner, ttlMs };
          const expected = reference.expected(pool, owner, requested, now);
          const requestedAddresses = requested === undefined ? [] : [requested];
          const plan = node.allocate(name, now, { pool, sticky, requestedAddresses });
          if (plan.kind !== "new") {
            expect(plan.kind).toBe(expected);
            continue;
          }
          const [given = ""] = plan.record.addresses;
          // Of two that got ready at once either will do.
          const same = reference.released.get(given)?.readyAtMs === reference.released.get(expected)?.readyAtMs;
          expect(reference.released.has(given) && same ? expected : given).toBe(expected);
          const keptFor = reference.ownerNow(given, now);
          expect(plan.takenFrom).toEqual(keptFor === undefined || keptFor === owner ? [] : [keptFor]);
          expect(plan.usedBefore).toEqual(reference.released.has(given) ? [given] : []);
          reference.hold(name, given);
          keeps.set(name, sticky);
        }
        const { allocations } = parseSnapshot(node.disk);
        expect([...allocations.values()].flatMap(({ addresses }) => addresses).sort()).toEqual(
          [...reference.held.values()].sort(),
        );
      }
    }),
    { numRuns: 400 },
  );
});
