// SPDX-License-Identifier: Apache-2.0
//
// What flatnet watches.
import type { NetworkPolicy } from "./network-policy.ts";
import type { KubeNamespace, KubeNode, KubePod } from "./objects.ts";
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

/** The pods of one node: what it needs of them costs the API server nothing of the others. */
export function podsOf(nodeName: string): Resource<KubePod> {
  return { ...PODS, what: `pods of ${nodeName}`, fieldSelector: `spec.nodeName=${nodeName}` };
}
