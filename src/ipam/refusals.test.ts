// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseRange } from "../net/range.ts";
import { Allocator } from "./allocator.ts";
import type { AddressRules } from "./layout.ts";
import type { AllocationRequest } from "./plans.ts";
import { refusalError } from "./refusals.ts";
import { BOOT_ID, prefixes, request } from "./testing/fixtures.ts";

const REST = 120_000;
const START = Date.UTC(2027, 0, 15, 8);

class Node {
  readonly allocator: Allocator;
  constructor(subnets: string[], rules: AddressRules = {}) {
    this.allocator = new Allocator(prefixes(...subnets), REST, rules);
  }
  add(name: string, more: Partial<AllocationRequest> = {}, nowMs = START): this {
    const plan = this.allocator.planAllocate({ ...request(name), ...more }, BOOT_ID, nowMs);
    if (plan.kind !== "new") throw new Error(plan.kind);
    for (const change of plan.changes) this.allocator.apply(change);
    return this;
  }
  del(name: string, nowMs = START): this {
    const plan = this.allocator.planRelease(request(name).attachment, nowMs);
    if (plan.kind !== "released") throw new Error(plan.kind);
    this.allocator.apply(plan.change);
    return this;
  }
  refusal(more: Partial<AllocationRequest> = {}, nowMs = START): string {
    const plan = this.allocator.planAllocate({ ...request("late"), ...more }, BOOT_ID, nowMs);
    if (plan.kind === "new" || plan.kind === "existed") throw new Error("it was given");
    return refusalError(plan).message;
  }
}

const inNamespace = (namespace: string) => ({ pod: { namespace, name: "web-0", uid: "" } });

describe("whoever finds nothing left is told", () => {
  test("which namespaces have how many, and what is there longest", () => {
    const node = new Node(["10.0.0.0/29"]);
    node
      .add("a", inNamespace("kube-system"), START - 5_000)
      .add("b", inNamespace("web"))
      .add("c", inNamespace("web"));
    node.add("d", inNamespace("db")).add("e", { pod: undefined }).add("f", inNamespace("ci"));
    expect(node.refusal()).toBe(
      "no IPv4 address is left in 10.0.0.0/29 (6 of 6 in use), held by: 2 web, 1 kube-system, 1 db, 2 of 2 others; " +
        "none is resting; the oldest is pods/a/eth0 (pod kube-system/web-0), of 2027-01-15T07:59:55.000Z",
    );
  });

  test("of the pool that is full alone, and of the gateways in it", () => {
    const pools = [{ name: "db", ranges: [parseRange("10.0.0.2-10.0.0.3")], namespaces: [] }];
    const node = new Node(["10.0.0.0/29"], { pools }).add("a", { pool: "db", withGateway: true }).add("b");
    expect(node.refusal({ pool: "db" })).toMatch(
      /^no IPv4 address of pool db is left in 10.0.0.0\/29 \(2 of 2 in use\), held by: 1 gateways, 1 default; none/,
    );
  });

  test("when what rests is not enough, and how long the next takes", () => {
    const node = new Node(["10.0.0.0/30"]).add("a").add("b").del("a");
    expect(node.refusal({ withGateway: true }, START + 60_000)).toContain(
      "1 resting, the next free in 60 s, too few for the attachment and a gateway",
    );
  });

  test("that a subnet is draining", () => {
    const node = new Node(["10.0.0.0/30"], { draining: prefixes("10.0.0.0/30") });
    expect(node.refusal()).toBe("no IPv4 address is left in 10.0.0.0/30 (draining)");
  });
});

test("an address that is kept or excluded is refused in words", () => {
  const node = new Node(["10.0.0.0/24"], { excluded: [parseRange("10.0.0.8/30")] });
  node.add("a", { sticky: { owner: "pod default/web-0 (pods, eth0)", ttlMs: 600_000 } }).del("a");
  expect(node.refusal({ requestedAddresses: ["10.0.0.1"] }, START + 500)).toBe(
    "requested address 10.0.0.1 is kept for pod default/web-0 (pods, eth0) for another 600 s",
  );
  expect(node.refusal({ requestedAddresses: ["10.0.0.9"] })).toBe(
    "requested address 10.0.0.9 is excluded from what this node gives out: 10.0.0.8/30",
  );
});

test("an address of another pool is refused with both", () => {
  const pools = [{ name: "db", ranges: [parseRange("10.0.0.8/30")], namespaces: [] }];
  expect(new Node(["10.0.0.0/24"], { pools }).refusal({ requestedAddresses: ["10.0.0.9"] })).toBe(
    "requested address 10.0.0.9 is of pool db, and the attachment gets its addresses of pool default",
  );
});
