// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { clusters, flowsOf } from "../../test/helpers/policy/clusters.ts";
import { allows } from "../../test/helpers/policy/evaluator.ts";
import {
  clusterOf,
  MADE_UP_ADDRESSES,
  MADE_UP_NODES,
  probesOf,
  scenarios,
} from "../../test/helpers/policy/scenarios.ts";
import { compile } from "./compile.ts";
import { refuseDangling } from "./testing/apply-change.ts";
import { Cluster, SETTINGS, stateOf } from "./testing/test-cluster.ts";

const RUNS = 60;
describe.each(Object.entries(MADE_UP_ADDRESSES))("%s", (_family, addressOf) => {
  test.each(scenarios(addressOf))("the compiled ruleset does what the table says: $title", ({ steps }) => {
    for (const step of steps) {
      const cluster = clusterOf(step, (pod) => [addressOf(pod)], MADE_UP_NODES);
      const compiled = new Cluster(cluster);
      const wrong = probesOf(step).filter((probe) => {
        const flow = { ...probe, source: addressOf(probe.from), destination: addressOf(probe.to) };
        return compiled.allows(flow) !== step.reaches(probe);
      });
      expect(wrong).toEqual([]);
    }
  });
});

test("the compiled rulesets of all nodes together allow exactly what the documentation says", () => {
  fc.assert(
    fc.property(clusters, (cluster) => {
      const compiled = new Cluster(cluster);
      const wrong = flowsOf(cluster).filter((flow) => compiled.allows(flow) !== allows(cluster, flow));
      expect(wrong).toEqual([]);
    }),
    { numRuns: RUNS },
  );
}, 60_000);

test("whatever a ruleset names is in it", () => {
  fc.assert(
    fc.property(clusters, (cluster) => {
      refuseDangling(compile(stateOf(cluster, "n1"), SETTINGS));
    }),
  );
});
