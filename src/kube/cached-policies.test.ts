// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { clusterPolicies } from "../../test/helpers/policy/cluster-policies.ts";
import { policies } from "../../test/helpers/policy/clusters.ts";
import { CLUSTER_NETWORK_POLICIES, decodeCached, encodeCached, NETWORK_POLICIES } from "./cached-kinds.ts";
import { parseClusterNetworkPolicy } from "./parse-cluster-network-policy.ts";
import { parseNetworkPolicy } from "./parse-network-policy.ts";

test("a policy that comes back from disk means what it meant", () => {
  fc.assert(
    fc.property(policies, clusterPolicies, (some, ofCluster) => {
      for (const policy of some.map(parseNetworkPolicy)) {
        expect({ ...NETWORK_POLICIES.defaults, ...decodeCached(encodeCached(policy)) }).toEqual(policy);
      }
      for (const policy of ofCluster.map(parseClusterNetworkPolicy)) {
        expect({ ...CLUSTER_NETWORK_POLICIES.defaults, ...decodeCached(encodeCached(policy)) }).toEqual(policy);
      }
    }),
  );
});
