// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatPrefix } from "../net/prefix.ts";
import { parseNetworkPolicy } from "./parse-network-policy.ts";

function parse(spec: unknown) {
  const policy = parseNetworkPolicy({ metadata: { namespace: "x", name: "p", uid: "u" }, spec });
  if (policy === undefined) throw new Error("no policy");
  return policy;
}

const ingress = (rule: unknown) => parse({ podSelector: {}, policyTypes: ["Ingress"], ingress: [rule] });
const peer = (from: unknown) => ingress({ from: [from] });
const port = (one: unknown) => ingress({ ports: [one] });

test("what has no name or namespace is no policy", () => {
  expect(parseNetworkPolicy(undefined)).toBeUndefined();
  expect(parseNetworkPolicy({ metadata: { name: "p" } })).toBeUndefined();
});

describe("which directions a policy is about", () => {
  test.each([
    ["ingress where nothing says otherwise", {}, true, false],
    ["egress too where it has rules for it", { egress: [{}] }, true, true],
    ["egress too where it has an empty list of them", { egress: [] }, true, true],
    ["only what policyTypes says", { policyTypes: ["Egress"], ingress: [{}] }, false, true],
    ["both where a type isn't known", { policyTypes: ["Ingress", "Sideways"] }, true, true],
    ["both where the types can't be read", { policyTypes: "Ingress" }, true, true],
  ])("%s", (_title, spec, inward, outward) => {
    const { ingress, egress } = parse({ podSelector: {}, ...spec });
    expect([ingress !== undefined, egress !== undefined]).toEqual([inward, outward]);
  });
});

test("selectors, blocks and ports are read", () => {
  const policy = parse({
    podSelector: { matchLabels: { app: "a" } },
    policyTypes: ["Ingress", "Egress"],
    ingress: [
      {
        from: [
          { podSelector: { matchExpressions: [{ key: "k.io/tier", operator: "NotIn", values: ["b", ""] }] } },
          { namespaceSelector: {} },
        ],
        ports: [{ port: 80 }, { protocol: "SCTP" }, { protocol: "UDP", port: 53, endPort: 54 }, { port: "http" }],
      },
    ],
    egress: [{ to: [{ ipBlock: { cidr: "10.1.2.3/8", except: ["10.1.0.0/16"] } }] }],
  });
  expect(policy.problems).toEqual([]);
  expect(policy.podSelector).toEqual([{ key: "app", operator: "In", values: ["a"] }]);
  expect(policy.ingress).toEqual([
    {
      peers: [
        { kind: "pods", namespaces: undefined, pods: [{ key: "k.io/tier", operator: "NotIn", values: ["b", ""] }] },
        { kind: "pods", namespaces: [], pods: [] },
      ],
      ports: [
        { kind: "range", protocol: "TCP", first: 80, last: 80 },
        { kind: "all", protocol: "SCTP" },
        { kind: "range", protocol: "UDP", first: 53, last: 54 },
        { kind: "named", protocol: "TCP", name: "http" },
      ],
    },
  ]);
  const [block] = policy.egress?.[0]?.peers ?? [];
  expect(block?.kind === "block" && [block.cidr, ...block.except].map(formatPrefix)).toEqual([
    "10.0.0.0/8",
    "10.1.0.0/16",
  ]);
});

test("empty and missing peers and ports are everybody and everything, null like missing", () => {
  for (const rule of [{}, { from: [], ports: [] }, { from: null, ports: null }]) {
    expect(ingress(rule)).toMatchObject({ ingress: [{ peers: undefined, ports: undefined }], problems: [] });
  }
});

describe("a peer that can't be used is nobody, and is named", () => {
  test.each([
    ["without a field", {}],
    ["with a field of a newer API", { podSelector: {}, serviceSelector: {} }],
    ["with a block and a selector", { ipBlock: { cidr: "10.0.0.0/8" }, podSelector: {} }],
    ["with an unknown operator", { podSelector: { matchExpressions: [{ key: "a", operator: "Gt", values: ["1"] }] } }],
    ["with In and no values", { podSelector: { matchExpressions: [{ key: "a", operator: "In" }] } }],
    [
      "with Exists and values",
      { podSelector: { matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }] } },
    ],
    ["with an unknown field in a selector", { namespaceSelector: { matchNames: ["a"] } }],
    ["with a label that can't be", { podSelector: { matchLabels: { "a b": "c" } } }],
    ["with a value that can't be", { podSelector: { matchLabels: { a: "-" } } }],
    ["with a value that is no text", { podSelector: { matchLabels: { a: 1 } } }],
    ["with a mask too long", { ipBlock: { cidr: "10.0.0.0/33" } }],
    ["with no mask", { ipBlock: { cidr: "10.0.0.0" } }],
    ["with leading zeros", { ipBlock: { cidr: "010.0.0.0/8" } }],
    ["with an IPv4 address in an IPv6 one", { ipBlock: { cidr: "::ffff:10.0.0.0/104" } }],
    ["with an exception outside", { ipBlock: { cidr: "10.0.0.0/16", except: ["10.1.0.0/24"] } }],
    ["with an exception of everything", { ipBlock: { cidr: "10.0.0.0/16", except: ["10.0.0.0/16"] } }],
    ["with an exception of the other family", { ipBlock: { cidr: "10.0.0.0/8", except: ["fd00::/64"] } }],
    ["with a field of a newer API in the block", { ipBlock: { cidr: "10.0.0.0/8", zone: "a" } }],
    ["that is no object", "everybody"],
  ])("%s", (_title, from) => {
    const policy = peer(from);
    expect(policy.ingress).toEqual([{ peers: [], ports: undefined }]);
    expect(policy.problems).toHaveLength(1);
    expect(policy.problems[0]).toContain("spec.ingress[0].from[0]");
  });

  test("and the other peers stay", () => {
    expect(ingress({ from: [{}, { podSelector: {} }] }).ingress?.[0]?.peers).toHaveLength(1);
  });
});

describe("a port that can't be used is none, and is named", () => {
  test.each([
    ["an end before its beginning", { port: 81, endPort: 80 }],
    ["an end behind a name", { port: "http", endPort: 80 }],
    ["an end without a beginning", { endPort: 80 }],
    ["a protocol that isn't known", { protocol: "QUIC", port: 80 }],
    ["zero", { port: 0 }],
    ["more than there are", { port: 65_536 }],
    ["a fraction", { port: 1.5 }],
    ["a name that can't be", { port: "HTTP" }],
    ["a name of hyphens", { port: "a--b" }],
    ["a number as text", { port: "80" }],
    ["a field of a newer API", { port: 80, icmpType: 8 }],
  ])("%s", (_title, one) => {
    const policy = port(one);
    expect(policy.ingress).toEqual([{ peers: undefined, ports: [] }]);
    expect(policy.problems[0]).toContain("spec.ingress[0].ports[0]");
  });
});

describe("a rule that can't be used allows nothing and keeps its place", () => {
  test.each([
    ["a field of a newer API", { from: [{ podSelector: {} }], unless: [] }],
    ["the other direction's peers", { to: [{ podSelector: {} }] }],
    ["peers that are no list", { from: { podSelector: {} } }],
    ["no object", 7],
  ])("%s", (_title, rule) => {
    const policy = parse({ podSelector: {}, ingress: [rule, {}] });
    expect(policy.ingress).toEqual([
      { peers: [], ports: [] },
      { peers: undefined, ports: undefined },
    ]);
    expect(policy.problems).toHaveLength(1);
  });
});

test("a policy whose selector can't be read closes its namespace and opens nothing", () => {
  const policy = parse({ podSelector: { matchLabels: ["a"] }, policyTypes: ["Ingress"], ingress: [{}] });
  expect(policy).toMatchObject({ podSelector: undefined, ingress: [], egress: undefined });
  expect(policy.problems).toHaveLength(1);
});

test("a policy with a field of a newer API closes the pods it selects and opens nothing", () => {
  const policy = parse({ podSelector: { matchLabels: { a: "b" } }, ingress: [{}], schedule: "nightly" });
  expect(policy).toMatchObject({ podSelector: [{ key: "a" }], ingress: [] });
  expect(policy.problems[0]).toContain("schedule");
});

test("an object of any size is read in bounds, and so is what is said of it", () => {
  const policy = parse({ podSelector: {}, ingress: Array.from({ length: 120_000 }, () => ({ from: [{}] })) });
  expect(policy.problems.length).toBeLessThan(20);
  expect(policy.problems.every((problem) => problem.length < 400)).toBe(true);
  expect(peer({ ipBlock: { cidr: "1".repeat(10_000) } }).problems[0]?.length).toBeLessThan(400);
});

test("nothing that JSON can have makes it throw", () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (spec, rule) => {
      parse(spec);
      parse({ podSelector: {}, ingress: [rule], egress: rule });
    }),
  );
});
