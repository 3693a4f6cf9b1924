// SPDX-License-Identifier: Apache-2.0
//
// The kinds that the double has, and how their paths are read.

export interface Kind {
  readonly name: string;
  readonly plural: string;
  /** "" is the core group. */
  readonly group: string;
  readonly apiVersion: string;
  readonly namespaced: boolean;
  /** Its status is only written by its subresource. */
  readonly statusApart: boolean;
}

function kind(group: string, name: string, plural: string, namespaced: boolean, statusApart = false): Kind {
  return {
    name,
    plural,
    group,
    apiVersion: group === "" ? "v1" : `${group}/${versionOf(group)}`,
    namespaced,
    statusApart,
  };
}

function versionOf(group: string): string {
  return group === "policy.networking.k8s.io" ? "v1alpha2" : "v1";
}

const KINDS: readonly Kind[] = [
  kind("", "Node", "nodes", false, true),
  kind("", "Pod", "pods", true, true),
  kind("", "Namespace", "namespaces", false),
  kind("", "Event", "events", true),
  kind("events.k8s.io", "Event", "events", true),
  kind("networking.k8s.io", "NetworkPolicy", "networkpolicies", true),
  kind("policy.networking.k8s.io", "ClusterNetworkPolicy", "clusternetworkpolicies", false),
];

/** What a path means. */
export interface Target {
  readonly kind: Kind;
  /** Empty: all of them, or none. */
  readonly namespace: string;
  /** Empty: the collection. */
  readonly name: string;
  /** "status", or empty. */
  readonly subresource: string;
}

/** "/api/v1/namespaces/web/pods/a/status"; undefined for what the double hasn't. */
export function targetOf(path: string): Target | undefined {
  const match = /^\/(?:api|apis\/([^/]+))\/(v1|v1alpha2)\/(.+)$/.exec(path);
  if (match === null) return undefined;
  const [, group = "", version, rest = ""] = match;
  if (version !== versionOf(group)) return undefined;
  const parts = rest.split("/").map(decodeURIComponent);
  const inNamespace = parts[0] === "namespaces" && parts.length > 2;
  const [plural, name = "", subresource = ""] = inNamespace ? parts.slice(2) : parts;
  const found = KINDS.find((other) => other.group === group && other.plural === plural);
  if (found === undefined || (inNamespace && !found.namespaced)) return undefined;
  return { kind: found, namespace: inNamespace ? (parts[1] as string) : "", name, subresource };
}
