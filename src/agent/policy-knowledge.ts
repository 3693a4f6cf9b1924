// SPDX-License-Identifier: Apache-2.0
//
// What is known where network policies are enforced: what they are made of, and what became of it.
import type { ClusterNetworkPolicy } from "../kube/cluster-network-policy.ts";
import type { Collection } from "../kube/collection.ts";
import type { NetworkPolicy } from "../kube/network-policy.ts";
import type { KubeNamespace, KubePod, ObjectKey } from "../kube/objects.ts";
import type { LocalPod, PolicySettings } from "../policy/model.ts";
import type { Ruleset } from "../policy/ruleset.ts";

/** What policies are made of. */
export interface PolicyObjects {
  /** Of all nodes. */
  readonly pods: Collection<KubePod>;
  readonly namespaces: Collection<KubeNamespace>;
  readonly policies: Collection<NetworkPolicy>;
  /** Absent where they aren't looked at. */
  readonly clusterPolicies?: Collection<ClusterNetworkPolicy> | undefined;
}

/** What is known and what follows from it, as it is now. */
export interface PolicyKnowledge {
  readonly objects: PolicyObjects;
  /** Pods that were asked for and that the watch hasn't told of. */
  readonly found: ReadonlyMap<ObjectKey, KubePod>;
  readonly locals: readonly LocalPod[];
  readonly policiesKnown: boolean;
  readonly settings: PolicySettings;
  readonly ruleset: Ruleset;
  /** Why it isn't in force, in words; undefined when it is. */
  readonly problem: string | undefined;
}
