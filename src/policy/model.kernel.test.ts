// SPDX-License-Identifier: Apache-2.0
//
// What the model makes of clusters at random, in the kernel: each change by itself, and then compared.
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { Cleanup } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns } from "../../test/helpers/netns.ts";
import { clusterPolicies } from "../../test/helpers/policy/cluster-policies.ts";
import { clusters, podTraits } from "../../test/helpers/policy/clusters.ts";
import type { PolicyObject, TestPod } from "../../test/helpers/policy/evaluator.ts";
import { visit } from "../../test/helpers/visit.ts";
import { parseClusterNetworkPolicy } from "../kube/parse-cluster-network-policy.ts";
import { NETLINK_NETFILTER, Netlink } from "../netlink/event-loop.ts";
import { Transactor } from "../nft/transactor.ts";
import { sys, writeAside } from "../sys/node.ts";
import { modelOf } from "./compile.ts";
import { PolicyTable } from "./engine/policy-table.ts";
import { kubePod, networkPolicy, SETTINGS, stateOf } from "./testing/test-cluster.ts";

const NODE = "n1";
const GROUP = 26220;
const RUNS = 15;

/** Pods with so many kinds of ports that they are looked up together, in ranges that follow their labels. */
const MANY_PORTS: PolicyObject[] = ["x", "y", "z"].map((namespace) => ({
  metadata: { namespace, name: "many-ports" },
  spec: {
    podSelector: {},
    policyTypes: ["Ingress", "Egress"],
    egress: Array.from({ length: 12 }, (_, i) => ({
      to: [
        {
          namespaceSelector: {},
          podSelector: {
            matchExpressions: [
              {
                key: ["app", "tier"][i % 2] as string,
                operator: ["Exists", "In", "NotIn"][i % 3] as string,
                ...(i % 3 > 0 && { values: [["a", "b"][(i % 4) >> 1] as string] }),
              },
            ],
          },
        },
      ],
      ports: [{ port: 70 + 3 * i, endPort: 74 + 3 * i }, { port: "http" }, { protocol: "UDP", port: 80 + i }],
    })),
  },
}));

describe.runIf(canUseKernel())("the model's ruleset", () => {
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());

  test("is taken by the kernel change by change, and is what is there afterwards", async () => {
    const netns = await createNetns("policy-model", cleanup);
    const transactor = visit(netns, () => Transactor.open(sys, writeAside));
    cleanup.add(() => transactor.close());
    const netlink = visit(netns, () => Netlink.open(NETLINK_NETFILTER));
    cleanup.add(() => netlink.close());
    const edit = fc.tuple(fc.nat(), podTraits);
    await fc.assert(
      fc.asyncProperty(
        clusters,
        clusterPolicies,
        fc.array(edit, { minLength: 4, maxLength: 8 }),
        async (cluster, ofCluster, edits) => {
          const pods = [...cluster.pods];
          const model = modelOf(
            stateOf({ ...cluster, policies: [...cluster.policies, ...MANY_PORTS] }, NODE),
            SETTINGS,
          );
          const source = { ruleset: model.ruleset, take: () => model.commit() };
          const table = await PolicyTable.open({ netlink, transactor }, source, GROUP);
          await table.sync();
          const changes = [
            ...edits.map(([n, traits]) => () => {
              const at = n % pods.length;
              const pod: TestPod = { ...(pods[at] as TestPod), ...traits };
              pods[at] = pod;
              model.setPod(`${pod.namespace}/${pod.name}`, kubePod(pod));
            }),
            ...ofCluster.map(
              (object) => () => model.setClusterPolicy(object.metadata.name, parseClusterNetworkPolicy(object)),
            ),
            ...MANY_PORTS.map((object) => () => model.setPolicy(`${object.metadata.namespace}/many-ports`, undefined)),
            ...cluster.policies.map((object) => () => {
              const { namespace, name } = object.metadata;
              model.setPolicy(`${namespace}/${name}`, networkPolicy({ ...object, metadata: { namespace, name } }));
            }),
          ];
          for (const change of changes) {
            change();
            const { refusal, whole } = await table.sync();
            expect(refusal).toBeUndefined();
            expect(whole).toBe(false);
          }
          expect(await table.verify()).toEqual([]);
        },
      ),
      { numRuns: RUNS },
    );
  }, 120_000);
});
