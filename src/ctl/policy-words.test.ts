// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { DirectionExplanation, ListPoliciesResponse } from "../gen/flatnet/policy/v1/policy.ts";
import { CtlError } from "./errors.ts";
import { explanationLines, parseTarget, policyLines, policyText } from "./policy-words.ts";

test.each([
  ["shop/web:80", { destination: "shop/web", port: 80, protocol: "tcp" }],
  ["shop/web:53/UDP", { destination: "shop/web", port: 53, protocol: "udp" }],
  ["10.0.0.1:5060/sctp", { destination: "10.0.0.1", port: 5060, protocol: "sctp" }],
  ["[fd00::1]:443", { destination: "fd00::1", port: 443, protocol: "tcp" }],
  ["shop/web/icmp", { destination: "shop/web", port: 0, protocol: "icmp" }],
  ["[fd00::1]/icmp", { destination: "fd00::1", port: 0, protocol: "icmp" }],
  ["fd00::1/icmp", { destination: "fd00::1", port: 0, protocol: "icmp" }],
])("%s is read", (text, target) => {
  expect(parseTarget(text)).toEqual(target);
});

test.each(["shop/web", "shop/web:http", "shop/web:0", "shop/web:65536", "fd00::1:80", ":80", "shop/web:80/gre"])(
  "%s is refused, with what it should look like",
  (text) => {
    expect(() => parseTarget(text)).toThrow(CtlError);
    expect(() => parseTarget(text)).toThrow(/\[fd00::1\]:443/);
  },
);

const CLIENT = { address: "10.85.0.3", pod: { namespace: "shop", name: "client" }, node: "" };
const WEB = { address: "10.85.0.2", pod: { namespace: "shop", name: "web" }, node: "" };
const POLICY = { kind: "NetworkPolicy", namespace: "shop", name: "web" };
const EGRESS: DirectionExplanation = {
  ...{ direction: "egress", pod: CLIENT.pod, allowed: true, because: "unselected" },
  ...{ rules: [], policies: [], judgedOn: "" },
};

test("what is allowed is explained by each direction's rules", () => {
  const rules = [{ policy: POLICY, direction: "ingress", rule: 0 }];
  const ingress = { ...EGRESS, direction: "ingress", pod: WEB.pod, because: "rule", rules, policies: [POLICY] };
  const explanation = { allowed: true, source: CLIENT, destination: WEB, directions: [EGRESS, ingress] };
  expect(explanationLines(explanation, { port: 80, protocol: "tcp" })).toEqual([
    "10.85.0.3 (shop/client) to 10.85.0.2 (shop/web), TCP 80: allowed",
    "  egress of shop/client: allowed, no policy is about it",
    "  ingress of shop/web: allowed by",
    "    NetworkPolicy shop/web ingress[0]",
  ]);
});

test("what is denied names the policies that isolate the pod, and the node that judges it if it is another", () => {
  const ingress = {
    ...EGRESS,
    ...{ direction: "ingress", pod: WEB.pod, allowed: false, because: "isolated", policies: [POLICY] },
    judgedOn: "node-2",
  };
  const source = { address: "172.18.0.1", pod: undefined, node: "node-1" };
  const explanation = { allowed: false, source, destination: WEB, directions: [ingress] };
  expect(explanationLines(explanation, { port: 0, protocol: "icmp" })).toEqual([
    "172.18.0.1 (node node-1) to 10.85.0.2 (shop/web), ICMP: denied",
    "  ingress of shop/web: denied, it is selected by these and no rule of them allows it",
    "    NetworkPolicy shop/web",
    "    node-2 judges it: this is what follows from what this node knows",
  ]);
});

test("ends that no policy can be about are said to be none", () => {
  const end = (address: string) => ({ address, pod: undefined, node: "" });
  const explanation = { allowed: true, source: end("192.0.2.1"), destination: end("192.0.2.2"), directions: [] };
  expect(explanationLines(explanation, { port: 80, protocol: "tcp" })).toEqual([
    "192.0.2.1 (no pod or node that is known) to 192.0.2.2 (no pod or node that is known), TCP 80: allowed",
    "  neither end is a pod that policies could be about",
  ]);
});

test.each([
  ["self", true, "allowed, a pod and itself"],
  ["node", true, "allowed, a pod and its own node"],
  ["unmatched", true, "allowed, it is selected by policies of the whole cluster, and none of their rules decides"],
  ["unknown", false, "denied, nobody knows yet which policies are about it"],
  ["of a later version", false, "denied (egress: of a later version)"],
])("because %s is said in words", (because, allowed, words) => {
  const explanation = { allowed, source: CLIENT, destination: WEB, directions: [{ ...EGRESS, because, allowed }] };
  expect(explanationLines(explanation, { port: 80, protocol: "tcp" })[1]).toBe(`  egress of shop/client: ${words}`);
});

const BAD = { ...POLICY, name: "bad" };
const LIST: ListPoliciesResponse = {
  policies: [
    { policy: POLICY, pods: 1, problems: [] },
    { policy: BAD, pods: 0, problems: ['spec.ingress[0] has a field "form", which isn\'t known'] },
  ],
  known: 1200,
  rules: [
    {
      ...{ direction: "ingress", verdict: "allowed", packets: 1200n, bytes: 72_000n, policies: [POLICY] },
      rules: [{ policy: POLICY, direction: "ingress", rule: 0 }],
    },
    { direction: "ingress", verdict: "denied", packets: 3n, bytes: 180n, policies: [POLICY], rules: [] },
    { direction: "", verdict: "denied", packets: 0n, bytes: 0n, policies: [], rules: [] },
    { direction: "", verdict: "denied", packets: 1n, bytes: 40n, policies: [], rules: [] },
  ],
  pods: [
    { pod: WEB.pod, addresses: ["10.85.0.2", "fd00::2"], ingress: [POLICY], egress: [], unknown: false },
    { pod: CLIENT.pod, addresses: ["10.85.0.3"], ingress: [], egress: [], unknown: true },
  ],
  problem: "",
};

test("policies, counters and pods are three tables, and a sentence below them counts them", () => {
  expect(policyLines(LIST)).toEqual([
    "POLICY                  PODS HERE",
    "NetworkPolicy shop/web  1",
    "NetworkPolicy shop/bad  0",
    "NetworkPolicy shop/bad can't be used as a whole: spec.ingress[0] has a field \"form\", which isn't known",
    "",
    "VERDICT  DIRECTION  PACKETS  BYTES   BY",
    "allowed  ingress    1,200    72,000  NetworkPolicy shop/web ingress[0]",
    "denied   ingress    3        180     no rule of NetworkPolicy shop/web",
    "denied   -          1        40      what nobody knows yet: pods, or connections that are under way",
    "",
    "POD          ADDRESSES           INGRESS        EGRESS",
    "shop/web     10.85.0.2, fd00::2  shop/web       open",
    "shop/client  10.85.0.3           not known yet  not known yet",
    "",
    "1 of 1,200 policies selects 2 pods of this node.",
  ]);
  const nothing = { policies: [], known: 0, rules: [], pods: [], problem: "network policies are not known yet" };
  expect(policyLines(nothing)).toEqual([
    "0 of 0 policies select 0 pods of this node.",
    "Not all of it is in force: network policies are not known yet.",
  ]);
});

test("programs get the same as JSON, with numbers for counts", () => {
  expect(JSON.parse(policyText(LIST))).toMatchObject({
    version: 1,
    known: 1200,
    rules: [{ packets: 1200, bytes: 72_000 }, { packets: 3 }, { packets: 0 }, {}],
  });
});
