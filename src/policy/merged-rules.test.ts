// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  allows,
  type PolicyPeer,
  type PolicyPort,
  type TestCluster,
  type TestPod,
} from "../../test/helpers/policy/evaluator.ts";
import { compile } from "./compile.ts";
import type { Ruleset } from "./ruleset.ts";
import { overlaps } from "./testing/overlaps.ts";
import { Cluster, SETTINGS, stateOf } from "./testing/test-cluster.ts";

const POD: TestPod = {
  namespace: "x",
  name: "pod",
  node: "n1",
  labels: {},
  addresses: ["10.0.0.200", "fd00::200"],
  ports: [
    { name: "http", protocol: "TCP", port: 80 },
    { name: "alt", protocol: "TCP", port: 81 },
  ],
};
const PEERS: TestPod[] = Array.from({ length: 6 }, (_, i) => ({
  ...POD,
  name: `peer-${i}`,
  node: "n2",
  labels: { n: `${i}`, half: `${i % 2}` },
  addresses: [`10.0.0.${i}`, `fd00::${i}`],
}));
const NODES = [
  { name: "n1", addresses: ["172.18.0.1"] },
  { name: "n2", addresses: ["172.18.0.2"] },
];

interface Rule {
  readonly peers: readonly PolicyPeer[];
  readonly ports?: readonly PolicyPort[] | undefined;
}

function clusterOf(rules: readonly Rule[]): TestCluster {
  const policy = {
    metadata: { namespace: "x", name: "p" },
    spec: {
      podSelector: { matchExpressions: [{ key: "n", operator: "DoesNotExist" }] },
      policyTypes: ["Ingress", "Egress"],
      ingress: rules.map(({ peers, ports }) => ({ from: peers, ...(ports && { ports }) })),
      egress: rules.map(({ peers, ports }) => ({ to: peers, ...(ports && { ports }) })),
    },
  };
  return {
    nodes: NODES,
    namespaces: [{ name: "x", labels: {} }],
    pods: [POD, ...PEERS],
    policies: [policy],
  };
}

function longestChain({ chains }: Ruleset): number {
  return Math.max(...[...chains.values()].filter(({ hook }) => hook === undefined).map(({ rules }) => rules.length));
}

const compiled = (rules: readonly Rule[]) => compile(stateOf(clusterOf(rules), "n1"), SETTINGS);

const peer: fc.Arbitrary<PolicyPeer> = fc.oneof(
  fc.tuple(fc.nat(7), fc.integer({ min: 28, max: 32 }), fc.boolean(), fc.boolean()).map(([low, length, wide, hole]) => {
    const base = (low >> (32 - length)) << (32 - length);
    const except = hole && length < 31 ? { except: [`10.0.0.${base}/31`] } : {};
    return wide
      ? { ipBlock: { cidr: `fd00::${base}/${length + 96}` } }
      : { ipBlock: { cidr: `10.0.0.${base}/${length}`, ...except } };
  }),
  fc.nat(5).map((n) => ({ podSelector: { matchLabels: { n: `${n}` } } })),
  fc.nat(5).map((n) => ({
    namespaceSelector: {},
    podSelector: { matchExpressions: [{ key: "n", operator: "NotIn", values: [`${n}`] }] },
  })),
);
const port: fc.Arbitrary<PolicyPort> = fc.oneof(
  fc
    .tuple(fc.integer({ min: 78, max: 84 }), fc.nat(3))
    .map(([first, more]) => ({ port: first, endPort: first + more })),
  fc.integer({ min: 78, max: 84 }).map((number) => ({ protocol: "UDP", port: number })),
  fc.constantFrom<PolicyPort>({ protocol: "SCTP" }, { port: "http" }, { port: "alt" }),
);
const rule = fc.record({
  peers: fc.array(peer, { minLength: 1, maxLength: 3 }),
  ports: fc.option(fc.array(port, { minLength: 1, maxLength: 2 }), { nil: undefined, freq: 8 }),
});

test("many rules that overlap in every way allow together what each of them allows", () => {
  fc.assert(
    fc.property(fc.array(rule, { minLength: 6, maxLength: 24, size: "max" }), (rules) => {
      const cluster = clusterOf(rules);
      const all = new Cluster(cluster);
      const ends = [...PEERS.flatMap(({ addresses }) => addresses), "10.0.0.7", "10.0.0.9", "fd00::7"];
      for (const own of POD.addresses) {
        for (const other of ends.filter((address) => address.includes(":") === own.includes(":"))) {
          for (const protocol of ["TCP", "UDP", "SCTP", "ICMP"] as const) {
            for (let number = 77; number < 88; number++) {
              const of = { protocol, port: protocol === "ICMP" ? undefined : number };
              for (const flow of [
                { source: other, destination: own, ...of },
                { source: own, destination: other, ...of },
              ]) {
                if (all.allows(flow) !== allows(cluster, flow)) expect(flow).toEqual("allowed otherwise");
              }
            }
          }
        }
      }
      expect(longestChain(compiled(rules))).toBeLessThanOrEqual(32);
      expect(overlaps(compiled(rules))).toEqual([]);
    }),
    { numRuns: 12 },
  );
}, 60_000);

describe("how many rules a packet passes doesn't grow with how many are written", () => {
  const many = Array.from({ length: 10_000 }, (_, i) => i);

  test("of blocks with ports of their own", () => {
    const rules = many.map((i) => ({
      peers: [{ ipBlock: { cidr: `11.${i >> 8}.${i & 255}.0/24` } }],
      ports: [{ port: 1 + i }],
    }));
    expect(longestChain(compiled(rules))).toBe(2);
  });

  test("of blocks within blocks, with ports and exceptions of their own, whose elements don't multiply either", () => {
    const ports = Array.from({ length: 500 }, (_, i) => ({ port: 1 + 2 * i }));
    const rules = [
      { peers: [{ ipBlock: { cidr: "11.0.0.0/8" } }], ports },
      ...many.slice(0, 2000).map((i) => ({
        peers: [{ ipBlock: { cidr: `11.${i >> 8}.${i & 255}.0/24` } }],
        ports: [{ port: 2000 + i }],
      })),
    ];
    const ruleset = compiled(rules);
    expect(longestChain(ruleset)).toBe(3);
    const elements = [...ruleset.sets.values()].reduce((sum, set) => sum + set.elements.size, 0);
    expect(elements).toBeLessThan(2 * 3000);
  });

  test("of a block with many exceptions and many ports, whose elements would", () => {
    const except = many.slice(0, 300).map((i) => `11.0.${i >> 7}.${2 * (i & 127)}/32`);
    const ports = Array.from({ length: 300 }, (_, i) => ({ port: 1 + 2 * i }));
    const ruleset = compiled([
      { peers: [{ ipBlock: { cidr: "11.0.0.0/8", except } }], ports },
      { peers: [{ ipBlock: { cidr: "12.0.0.0/8" } }], ports: [{ port: 7 }] },
    ]);
    const elements = [...ruleset.sets.values()].reduce((sum, set) => sum + set.elements.size, 0);
    expect(elements).toBeLessThan(2 * 1300);
  });

  test("of pods with ports of their own", () => {
    const rules = many.slice(0, 500).map((i) => ({
      peers: [{ podSelector: { matchLabels: { n: `${i}` } } }],
      ports: [{ port: 1 + i }],
    }));
    expect(longestChain(compiled(rules))).toBeLessThan(10);
  });

  test("of pods by many selectors", () => {
    const rules = many.slice(0, 500).map((i) => ({
      peers: [
        { podSelector: { matchLabels: { n: `${i}` } } },
        { namespaceSelector: {}, podSelector: { matchLabels: { n: `${i}` } } },
      ],
    }));
    expect(longestChain(compiled(rules))).toBeLessThan(10);
  });
});
