// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { parsePrefix } from "../net/prefix.ts";
import { answerTo, nonceIn, questionOf } from "./datagram.ts";
import { subnetAddress, targetsOf } from "./targets.ts";
import { explain, type Target, Tracker } from "./tracker.ts";

const INTERVAL = 1000;
const TIMEOUT = 300;
const NODE: Target = { peer: "b", kind: "node", address: "172.18.0.2" };
const PODS: Target = { peer: "b", kind: "pods", address: "10.244.2.0" };

function trackerOf(...targets: Target[]) {
  const tracker = new Tracker(INTERVAL, TIMEOUT);
  tracker.watch(targets, 0);
  let count = 0;
  const ask = (nowMs: number) => tracker.ask(nowMs, () => `n${count++}`);
  return { tracker, ask };
}

test("targets are asked once in an interval, spread over it", () => {
  const { tracker, ask } = trackerOf(NODE, PODS);
  const asked: [number, string][] = [];
  for (let nowMs = 0; nowMs < 3000; nowMs += 100) {
    for (const { target, nonce } of ask(nowMs)) {
      asked.push([nowMs, target.kind]);
      tracker.answered(nonce, target.address, nowMs + 1);
    }
  }
  expect(asked).toEqual([
    [0, "node"],
    [500, "pods"],
    [1000, "node"],
    [1500, "pods"],
    [2000, "node"],
    [2500, "pods"],
  ]);
});

test("an answer makes a target reachable, once, with its round trip", () => {
  const { tracker, ask } = trackerOf(NODE);
  expect(tracker.findings()).toEqual([{ ...NODE, state: "unknown", rttMs: undefined, misses: 0 }]);
  expect(tracker.answered(ask(0)[0]?.nonce ?? "", NODE.address, 7)).toEqual({
    finding: { ...NODE, state: "reachable", rttMs: 7, misses: 0 },
    news: true,
  });
  expect(tracker.answered(ask(1000)[0]?.nonce ?? "", NODE.address, 1009)).toMatchObject({ news: false });
  expect(tracker.findings()).toEqual([{ ...NODE, state: "reachable", rttMs: 9, misses: 0 }]);
});

test("answers that nobody asked for, that come twice, or from another address change nothing", () => {
  const { tracker, ask } = trackerOf(NODE);
  const [question] = ask(0);
  expect(tracker.answered("made up", NODE.address, 1)).toBeUndefined();
  expect(tracker.answered(question?.nonce ?? "", "172.18.0.9", 1)).toBeUndefined();
  expect(tracker.findings()[0]?.state).toBe("unknown");
  expect(tracker.answered(question?.nonce ?? "", NODE.address, 1)).toBeDefined();
  expect(tracker.answered(question?.nonce ?? "", NODE.address, 2)).toBeUndefined();
  expect(tracker.findings()[0]?.rttMs).toBe(1);
});

test("three questions in a row without an answer make it unreachable, once; one or two don't", () => {
  const { tracker, ask } = trackerOf(NODE);
  const silence = (nowMs: number) => {
    ask(nowMs);
    return tracker.expire(nowMs + TIMEOUT);
  };
  expect([silence(0), silence(1000)]).toEqual([[], []]);
  tracker.answered(ask(2000)[0]?.nonce ?? "", NODE.address, 2001);
  expect([silence(3000), silence(4000)]).toEqual([[], []]);
  expect(tracker.findings()[0]?.state).toBe("reachable");
  expect(silence(5000)).toMatchObject([{ ...NODE, state: "unreachable" }]);
  expect(silence(6000)).toEqual([]);
  expect(tracker.answered(ask(7000)[0]?.nonce ?? "", NODE.address, 7001)).toMatchObject({ news: true });
});

test("who stays in the cluster keeps what is known of it, and who goes is forgotten with its open question", () => {
  const { tracker, ask } = trackerOf(NODE, PODS);
  tracker.answered(ask(0)[0]?.nonce ?? "", NODE.address, 3);
  const [open] = ask(500);
  tracker.watch([NODE], 600);
  expect(tracker.findings()).toEqual([{ ...NODE, state: "reachable", rttMs: 3, misses: 0 }]);
  expect(tracker.answered(open?.nonce ?? "", PODS.address, 700)).toBeUndefined();
  expect(tracker.expire(10_000)).toEqual([]);
});

test("a subnet that doesn't answer though its node does is named as such", () => {
  const reachable = { ...NODE, state: "reachable", rttMs: 1, misses: 0 } as const;
  const silent = { ...NODE, state: "unreachable", rttMs: undefined, misses: 0 } as const;
  expect(explain(PODS, [reachable])).toContain("b answers at its own address, but not at 10.244.2.0");
  expect(explain(PODS, [reachable])).toContain("rp_filter");
  expect(explain(PODS, [silent])).toContain("nor at its own address");
  // Both fell silent at once, and the node's third question is still open.
  expect(explain(PODS, [{ ...reachable, misses: 2 }])).toContain("nor at its own address");
  expect(explain(PODS, [{ ...reachable, address: "fd00::2" }])).toContain("nor at its own address");
  expect(explain(NODE, [])).toBe("b does not answer at its address 172.18.0.2");
});

test("asked are the addresses of peers, and the first address of each of their subnets that has a route and room for it", () => {
  const node = (name: string, addresses: string[], podCIDRs: string[]) => ({
    name,
    addresses: addresses.map(parseAddress),
    podCIDRs: podCIDRs.map(parsePrefix),
  });
  const nodes = [
    node("a", ["172.18.0.1"], ["10.244.1.0/24"]),
    node("b", ["172.18.0.2"], ["10.244.2.0/24", "10.244.3.0/31", "fd00:2::/64"]),
    node("c", ["fd00::3"], ["fd00:3::/64"]),
  ];
  expect(targetsOf(nodes, "a").map(({ peer, kind, address }) => `${peer} ${kind} ${address}`)).toEqual([
    "b node 172.18.0.2",
    "b pods 10.244.2.0",
    "c node fd00::3",
    "c pods fd00:3::",
  ]);
  expect(subnetAddress(parsePrefix("10.0.0.0/32"))).toBeUndefined();
});

test("an answer has the question's number and length; anything else is neither", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), (nonce) => {
      const question = questionOf(nonce);
      const answer = answerTo(question);
      expect(answer).toHaveLength(question.length);
      expect(nonceIn(answer as Uint8Array)).toBe(Buffer.from(nonce).toString("hex"));
      expect(nonceIn(question)).toBeUndefined();
      expect(answerTo(answer as Uint8Array)).toBeUndefined();
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      expect([answerTo(bytes), nonceIn(bytes)]).toEqual([undefined, undefined]);
    }),
  );
});
