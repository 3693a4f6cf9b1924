// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { allows } from "../../test/helpers/policy/evaluator.ts";
import {
  clusterOf,
  MADE_UP_ADDRESSES,
  MADE_UP_NODES,
  probesOf,
  scenarios,
} from "../../test/helpers/policy/scenarios.ts";

describe.each(Object.entries(MADE_UP_ADDRESSES))("%s", (_family, addressOf) => {
  test.each(scenarios(addressOf))("what the documentation says agrees with the table: $title", ({ steps }) => {
    for (const step of steps) {
      const cluster = clusterOf(step, (pod) => [addressOf(pod)], MADE_UP_NODES);
      const wrong = probesOf(step).filter((probe) => {
        const flow = { ...probe, source: addressOf(probe.from), destination: addressOf(probe.to) };
        return allows(cluster, flow) !== step.reaches(probe);
      });
      expect(wrong).toEqual([]);
    }
  });
});
