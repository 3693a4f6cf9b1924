// SPDX-License-Identifier: Apache-2.0
//
// All policies, found by the pods that they select.
import type { NetworkPolicy } from "../kube/network-policy.ts";
import type { KubePod, ObjectKey } from "../kube/objects.ts";
import { SelectorIndex } from "./selector-index.ts";

/** A policy as it is now: an edited one is another. */
export interface KnownPolicy {
  /** Never the same for two. */
  readonly id: number;
  readonly key: ObjectKey;
  readonly policy: NetworkPolicy;
}

export class PolicyIndex {
  readonly #policies = new Map<ObjectKey, KnownPolicy>();
  readonly #byNamespace = new Map<string, SelectorIndex<KnownPolicy>>();
  #lastId = 0;

  set(key: ObjectKey, policy: NetworkPolicy | undefined): void {
    const before = this.#policies.get(key);
    if (before !== undefined) {
      const index = this.#byNamespace.get(before.policy.namespace);
      index?.remove(selectorOf(before), before);
      if (index?.size === 0) this.#byNamespace.delete(before.policy.namespace);
      this.#policies.delete(key);
    }
    if (policy === undefined) return;
    const known = { id: ++this.#lastId, key, policy };
    this.#policies.set(key, known);
    const index = this.#byNamespace.get(policy.namespace) ?? new SelectorIndex();
    this.#byNamespace.set(policy.namespace, index);
    index.add(selectorOf(known), known);
  }

  get(key: ObjectKey): NetworkPolicy | undefined {
    return this.#policies.get(key)?.policy;
  }

  hasAny(namespace: string): boolean {
    return this.#byNamespace.has(namespace);
  }

  /** Those that select the pod, ordered by name. */
  selecting({ namespace, labels }: KubePod): KnownPolicy[] {
    const found = [...(this.#byNamespace.get(namespace)?.matching(labels) ?? [])];
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }
}

/** One that can't be read is about all pods of its namespace, and allows none of them anything. */
function selectorOf({ policy }: KnownPolicy) {
  return policy.podSelector ?? [];
}
