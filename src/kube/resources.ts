// SPDX-License-Identifier: Apache-2.0
//
// What flatnet watches.
import type { ClusterNetworkPolicy } from "./cluster-network-policy.ts";
import type { NetworkPolicy } from "./network-policy.ts";
import type { KubeNamespace, KubeNode, KubePod } from "./objects.ts";
import { parseClusterNetworkPolicy } from "./parse-cluster-network-policy.ts";
import { parseNamespace } from "./parse-namespace.ts";
import { parseNetworkPolicy } from "./parse-network-policy.ts";
import { parseNode } from "./parse-node.ts";
import { parsePod } from "./parse-pod.ts";
import type { Resource } from "./reflector.ts";

export const NODES: Resource<KubeNode> = { what: "nodes", path: "/api/v1/nodes", parse: parseNode };
export const PODS: Resource<KubePod> = { what: "pods", path: "/api/v1/pods", parse: parsePod };
export const NAMESPACES: Resource<KubeNamespace> = {
  what: "namespaces",
  path: "/api/v1/namespaces",
  parse: parseNamespace,
};

export const NETWORK_POLICIES: Resource<NetworkPolicy> = {
  what: "network policies",
  path: "/apis/networking.k8s.io/v1/networkpolicies",
  parse: parseNetworkPolicy,
};

/** A CustomResourceDefinition, which clusters needn't have. */
export const CLUSTER_NETWORK_POLICIES: Resource<ClusterNetworkPolicy> = {
  what: "cluster network policies",
  path: "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies",
  optional: true,
  parse: parseClusterNetworkPolicy,
};

/** The pods of one node: what it needs of them costs the API server nothing of the others. */
export function podsOf(nodeName: string): Resource<KubePod> {
  return { ...PODS, what: `pods of ${nodeName}`, fieldSelector: `spec.nodeName=${nodeName}` };
}
