// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { allows } from "../../test/helpers/policy/evaluator.ts";
import { clusterOf, POD_NAMES, type PodName, probesOf, scenarios } from "../../test/helpers/policy/scenarios.ts";

const NODES = [
  { name: "n1", addresses: ["172.18.0.1", "fd00:18::1"] },
  { name: "n2", addresses: ["172.18.0.2", "fd00:18::2"] },
];

const FAMILIES = {
  IPv4: (pod: PodName) => `10.244.1.${POD_NAMES.indexOf(pod) + 2}`,
  IPv6: (pod: PodName) => `fd00:244:1::${POD_NAMES.indexOf(pod) + 2}`,
} as const;

describe.each(Object.entries(FAMILIES))("%s", (_family, addressOf) => {
  test.each(scenarios(addressOf))("what the documentation says agrees with the table: $title", ({ steps }) => {
    for (const step of steps) {
      const cluster = clusterOf(step, (pod) => [addressOf(pod)], NODES);
      const wrong = probesOf(step).filter((probe) => {
        const flow = { ...probe, source: addressOf(probe.from), destination: addressOf(probe.to) };
        return allows(cluster, flow) !== step.reaches(probe);
      });
      expect(wrong).toEqual([]);
    }
  });
});
