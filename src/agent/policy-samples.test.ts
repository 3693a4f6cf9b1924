// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { NO_RULESET, type PolicyRule } from "../policy/ruleset.ts";
import { PolicySamples } from "./policy-samples.ts";

const PACKET = {
  ...{
    chain: "i4_aa",
    place: undefined,
    family: 4 as const,
    source: "10.0.0.2",
    destination: "10.0.0.3",
    protocol: 6,
    port: 80,
  },
};

/** Of a policy for the whole cluster. */
const DENY_RULE: PolicyRule = {
  matches: [],
  verdict: { kind: "drop" },
  origins: [0, 2].map((rule) => {
    const policy = { kind: "ClusterNetworkPolicy" as const, namespace: undefined, name: "admin" };
    return { policy, direction: "ingress", rule };
  }),
  counted: true,
};

function samplesAt(clock: { now: number }) {
  const lines: Record<string, unknown>[] = [];
  const samples = new PolicySamples({
    ruleset: () => ({
      ...NO_RULESET,
      chains: new Map([
        [
          "i4_aa",
          {
            ...{ name: "i4_aa", family: 4 as const, direction: "ingress" as const, rules: [DENY_RULE] },
            policies: [{ kind: "NetworkPolicy" as const, namespace: "shop", name: "web" }],
          },
        ],
      ]),
    }),
    podOf: (address) => (address === "10.0.0.3" ? "shop/web" : undefined),
    log: { info: (fields: object) => void lines.push(fields as Record<string, unknown>) },
    now: () => clock.now,
  });
  return { samples, lines };
}

test("a denied packet is told with the pods that are known and the policies that close the one", () => {
  const { samples, lines } = samplesAt({ now: 0 });
  samples.tell(PACKET);
  samples.tell({ ...PACKET, chain: "gone", protocol: 1, port: undefined });
  expect(lines).toEqual([
    {
      ...{ source: "10.0.0.2", sourcePod: undefined, destination: "10.0.0.3", destinationPod: "shop/web" },
      ...{ protocol: "TCP", port: 80, direction: "ingress", policies: ["shop/web"] },
    },
    {
      ...{ source: "10.0.0.2", sourcePod: undefined, destination: "10.0.0.3", destinationPod: "shop/web" },
      ...{ protocol: "ICMP", port: undefined, direction: undefined, policies: undefined },
    },
  ]);
});

test("where a rule denies, it is its policy that is named", () => {
  const { samples, lines } = samplesAt({ now: 0 });
  samples.tell({ ...PACKET, place: 0 });
  expect(lines).toMatchObject([{ direction: "ingress", policies: ["admin"] }]);
});

test("a storm is some lines, and the next one says how many there would have been", () => {
  const clock = { now: 0 };
  const { samples, lines } = samplesAt(clock);
  for (let n = 0; n < 1000; n++) samples.tell(PACKET);
  expect(lines.length).toBe(20);
  clock.now += 1000;
  for (let n = 0; n < 10; n++) samples.tell(PACKET);
  expect(lines.length).toBe(25);
  expect(lines[20]).toMatchObject({ suppressed: 980 });
});
