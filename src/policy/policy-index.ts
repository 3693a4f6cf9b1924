// SPDX-License-Identifier: Apache-2.0
//
// All policies, found by the pods that they select.
import type { ClusterNetworkPolicy } from "../kube/cluster-network-policy.ts";
import type { NetworkPolicy } from "../kube/network-policy.ts";
import type { KubePod, ObjectKey, Words } from "../kube/objects.ts";
import { selects } from "../kube/selector.ts";
import type { Direction } from "./ruleset.ts";
import { SelectorIndex } from "./selector-index.ts";

/** A policy as it is now: an edited one is another. */
export interface Known<T> {
  /** Never the same for two. */
  readonly id: number;
  readonly policy: T;
}

/** Those that select a pod and are about a direction, in the order they are asked in. */
export interface Selecting {
  readonly admin: readonly Known<ClusterNetworkPolicy>[];
  readonly policies: readonly Known<NetworkPolicy>[];
  readonly baseline: readonly Known<ClusterNetworkPolicy>[];
}

export class PolicyIndex {
  readonly #policies = new Map<ObjectKey, Known<NetworkPolicy>>();
  readonly #byNamespace = new Map<string, SelectorIndex<Known<NetworkPolicy>>>();
  /** Few, and each about much of the cluster. */
  readonly #ofCluster = new Map<string, Known<ClusterNetworkPolicy>>();
  #lastId = 0;

  set(key: ObjectKey, policy: NetworkPolicy | undefined): void {
    const before = this.#policies.get(key);
    if (before !== undefined) {
      const index = this.#byNamespace.get(before.policy.namespace);
      index?.remove(selectorOf(before.policy), before);
      if (index?.size === 0) this.#byNamespace.delete(before.policy.namespace);
      this.#policies.delete(key);
    }
    if (policy === undefined) return;
    const known = { id: ++this.#lastId, policy };
    this.#policies.set(key, known);
    const index = this.#byNamespace.get(policy.namespace) ?? new SelectorIndex();
    this.#byNamespace.set(policy.namespace, index);
    index.add(selectorOf(policy), known);
  }

  setOfCluster(name: string, policy: ClusterNetworkPolicy | undefined): void {
    if (policy === undefined) this.#ofCluster.delete(name);
    else this.#ofCluster.set(name, { id: ++this.#lastId, policy });
  }

  get(key: ObjectKey): NetworkPolicy | undefined {
    return this.#policies.get(key)?.policy;
  }

  get hasOfCluster(): boolean {
    return this.#ofCluster.size > 0;
  }

  /** Whether a pod of the namespace may be selected, whatever its labels. @param labels of the namespace; undefined: any */
  mayConcern(namespace: string, labels: Words | undefined): boolean {
    if (this.#byNamespace.has(namespace)) return true;
    for (const { policy } of this.#ofCluster.values()) {
      if (labels === undefined || policy.subject === undefined || selects(policy.subject.namespaces, labels))
        return true;
    }
    return false;
  }

  /** @param labels of the pod's namespace */
  selecting(pod: KubePod, labels: Words): (direction: Direction) => Selecting {
    const policies = [...(this.#byNamespace.get(pod.namespace)?.matching(pod.labels) ?? [])].sort((a, b) =>
      a.policy.name < b.policy.name ? -1 : 1,
    );
    const ofCluster = [...this.#ofCluster.values()]
      .filter(({ policy: { subject } }) => {
        return subject === undefined || (selects(subject.namespaces, labels) && selects(subject.pods, pod.labels));
      })
      // The API leaves open who of equal priority goes first. By name it is the same on every node.
      .sort(({ policy: a }, { policy: b }) => a.priority - b.priority || (a.name < b.name ? -1 : 1));
    return (direction) => ({
      admin: ofCluster.filter(({ policy }) => policy.tier === "Admin" && policy[direction].length > 0),
      policies: policies.filter(({ policy }) => policy[direction] !== undefined),
      baseline: ofCluster.filter(({ policy }) => policy.tier === "Baseline" && policy[direction].length > 0),
    });
  }
}

/** One that can't be read is about all pods of its namespace, and allows none of them anything. */
function selectorOf({ podSelector }: NetworkPolicy) {
  return podSelector ?? [];
}
