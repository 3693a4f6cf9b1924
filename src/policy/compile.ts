// SPDX-License-Identifier: Apache-2.0
//
// All of a cluster to all of a ruleset: what the model has when it was told everything. Pure.
import type { ClusterNetworkPolicy } from "../kube/cluster-network-policy.ts";
import type { NetworkPolicy } from "../kube/network-policy.ts";
import { type KubeNamespace, type KubePod, keyOf } from "../kube/objects.ts";
import { type LocalPod, PolicyModel, type PolicySettings } from "./model.ts";
import type { Ruleset } from "./ruleset.ts";

export interface ClusterState {
  readonly pods: Iterable<KubePod>;
  readonly namespaces: Iterable<KubeNamespace>;
  readonly policies: Iterable<NetworkPolicy>;
  /** None where the API isn't served. */
  readonly clusterPolicies?: Iterable<ClusterNetworkPolicy>;
  /** Of this node. */
  readonly locals: Iterable<LocalPod>;
  /** Whether what is known of policies is all of them. */
  readonly policiesKnown: boolean;
}

export function modelOf(state: ClusterState, settings: PolicySettings): PolicyModel {
  const model = new PolicyModel(settings);
  model.setPoliciesKnown(state.policiesKnown);
  for (const namespace of state.namespaces) model.setNamespace(namespace.name, namespace);
  for (const policy of state.policies) model.setPolicy(keyOf(policy), policy);
  for (const policy of state.clusterPolicies ?? []) model.setClusterPolicy(policy.name, policy);
  for (const pod of state.pods) model.setPod(keyOf(pod), pod);
  for (const local of state.locals) model.setLocal(local.id, local);
  return model;
}

export function compile(state: ClusterState, settings: PolicySettings): Ruleset {
  const model = modelOf(state, settings);
  model.commit();
  return model.ruleset;
}
