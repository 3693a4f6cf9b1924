// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { PolicyRef } from "../policy/ruleset.ts";
import { FaultyPolicies, type ReadPolicy } from "./faulty-policies.ts";

const WEB: PolicyRef = { kind: "NetworkPolicy", namespace: "shop", name: "web" };

function policy(...problems: string[]): ReadPolicy {
  return { namespace: "shop", name: "web", uid: "u", problems };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function faultyPolicies(spreadMs: number) {
  const told: string[] = [];
  const logged: object[] = [];
  const faulty = new FaultyPolicies({
    log: { warn: (fields: object) => void logged.push(fields) },
    onFaulty: (_, { problems }) => void told.push(problems.join()),
    spreadMs: () => spreadMs,
    random: () => 0.5,
  });
  return { faulty, told, logged };
}

test("it is told once where a pod of the node has to do with it, and again when something else is wrong", () => {
  const { faulty, told, logged } = faultyPolicies(0);
  faulty.note("NetworkPolicy", "shop/web", policy("a"));
  expect(faulty.count).toBe(1);
  faulty.tell(() => []);
  expect(told).toEqual([]);
  faulty.tell(() => [WEB]);
  faulty.note("NetworkPolicy", "shop/web", policy("a"));
  faulty.tell(() => [WEB]);
  expect(told).toEqual(["a"]);
  expect(logged).toEqual([{ kind: "NetworkPolicy", policy: "shop/web", problems: ["a"] }]);
  faulty.note("NetworkPolicy", "shop/web", policy("b"));
  faulty.tell(() => [WEB]);
  expect(told).toEqual(["a", "b"]);
  faulty.note("NetworkPolicy", "shop/web", policy());
  expect(faulty.count).toBe(0);
});

test("nodes don't tell the cluster all at once, and not of what has been mended meanwhile", () => {
  const { faulty, told, logged } = faultyPolicies(10_000);
  faulty.note("NetworkPolicy", "shop/web", policy("a"));
  faulty.tell(() => [WEB]);
  expect(logged).toHaveLength(1);
  vi.advanceTimersByTime(4_999);
  expect(told).toEqual([]);
  faulty.note("NetworkPolicy", "shop/web", policy("b"));
  faulty.tell(() => [WEB]);
  vi.advanceTimersByTime(5_000);
  expect(told).toEqual(["b"]);
  faulty.note("NetworkPolicy", "shop/web", policy("c"));
  faulty.tell(() => [WEB]);
  faulty.close();
  vi.advanceTimersByTime(60_000);
  expect(told).toEqual(["b"]);
});
