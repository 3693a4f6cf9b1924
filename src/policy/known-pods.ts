// SPDX-License-Identifier: Apache-2.0
//
// The cluster's pods, and the terms in use that mean some of them. What a change costs is what it affects: a pod looks up its terms, a
// term its pods. Who is meant is kept nowhere but in what follows from it: it is pods times terms.
import type { KubeNamespace, KubePod, ObjectKey, Words } from "../kube/objects.ts";
import { selects } from "../kube/selector.ts";
import { type PodTerm, type Scope, scopeKey } from "./pod-term.ts";
import { SelectorIndex } from "./selector-index.ts";

/** A pod as a peer. */
export interface KnownPod {
  readonly key: ObjectKey;
  readonly pod: KubePod;
  /** Those that are its own, canonical text; none when it is no peer: it has ended, or the host's addresses. */
  readonly addresses: readonly string[];
}

/** A term that somebody needs to know the pods of. */
export interface PodGroup {
  readonly term: PodTerm;
  readonly scope: ScopeEntry;
  /** Told of addresses for which something may be other than before. */
  readonly watchers: Set<GroupWatcher>;
}

export interface GroupWatcher {
  touch(addresses: readonly string[]): void;
}

export interface ScopeEntry {
  readonly scope: Scope;
  /** Of "namespaces": the names of those that its selector selects. */
  readonly namespaces: Set<string>;
  readonly groups: SelectorIndex<PodGroup>;
}

export class KnownPods {
  readonly #pods = new Map<ObjectKey, KnownPod>();
  readonly #byNamespace = new Map<string, Set<KnownPod>>();
  /** Who has an address: one pod, but for moments. */
  readonly #owners = new Map<string, KnownPod | Set<KnownPod>>();
  readonly #namespaces = new Map<string, Words>();
  readonly #scopes = new Map<string, ScopeEntry>();
  readonly #groups = new Map<string, PodGroup>();

  namespaceLabels(name: string): Words | undefined {
    return this.#namespaces.get(name);
  }

  /** The pods that have an address as their own. */
  ownersOf(address: string): Iterable<KnownPod> {
    const owners = this.#owners.get(address);
    return owners === undefined ? [] : owners instanceof Set ? owners : [owners];
  }

  /** Whether the term means the pod, which has addresses. */
  includes({ term, scope }: PodGroup, { pod }: KnownPod): boolean {
    return isIn(scope, pod.namespace) && selects(term.pods, pod.labels);
  }

  /** The pods that a term means, and that have addresses. */
  *podsOf({ term, scope }: PodGroup): Generator<KnownPod> {
    for (const pod of this.#podsIn(scope)) {
      if (pod.addresses.length > 0 && selects(term.pods, pod.pod.labels)) yield pod;
    }
  }

  /** @param addresses that are its own; @param pod undefined when it is gone */
  setPod(key: ObjectKey, pod: KubePod | undefined, addresses: readonly string[]): void {
    const before = this.#pods.get(key);
    const after = pod === undefined ? undefined : { key, pod, addresses };
    const [groupsBefore, groupsAfter] = [before, after].map((one) => new Set(one && this.#groupsOf(one)));
    if (before !== undefined) this.#forget(before);
    if (after !== undefined) this.#learn(after);
    // Whatever changed, it is the addresses of before and of now for which a look is due, in the groups of before and of now.
    const isSame = before !== undefined && after !== undefined && samePeer(before, after);
    for (const group of groupsBefore ?? []) if (!(isSame && groupsAfter?.has(group))) touch(group, before?.addresses);
    for (const group of groupsAfter ?? []) if (!(isSame && groupsBefore?.has(group))) touch(group, after?.addresses);
  }

  setNamespace(name: string, namespace: KubeNamespace | undefined): void {
    if (namespace === undefined) this.#namespaces.delete(name);
    else this.#namespaces.set(name, namespace.labels);
    for (const entry of this.#scopes.values()) {
      if (entry.scope.kind !== "namespaces") continue;
      const had = entry.namespaces.has(name);
      const has = namespace !== undefined && selects(entry.scope.selector, namespace.labels);
      if (had === has) continue;
      if (has) entry.namespaces.add(name);
      else entry.namespaces.delete(name);
      for (const pod of this.#byNamespace.get(name) ?? []) {
        if (pod.addresses.length === 0) continue;
        for (const group of entry.groups.matching(pod.pod.labels)) touch(group, pod.addresses);
      }
    }
  }

  /** The group of a term, which is kept until nobody watches it. It tells of changes only. */
  watch(term: PodTerm, watcher: GroupWatcher): PodGroup {
    const group = this.#groups.get(term.key) ?? this.#newGroup(term);
    group.watchers.add(watcher);
    return group;
  }

  unwatch(group: PodGroup, watcher: GroupWatcher): void {
    group.watchers.delete(watcher);
    if (group.watchers.size > 0) return;
    this.#groups.delete(group.term.key);
    group.scope.groups.remove(group.term.pods, group);
    if (group.scope.groups.size === 0) this.#scopes.delete(scopeKey(group.term.scope));
  }

  #newGroup(term: PodTerm): PodGroup {
    const group: PodGroup = { term, scope: this.#scopeOf(term.scope), watchers: new Set() };
    this.#groups.set(term.key, group);
    group.scope.groups.add(term.pods, group);
    return group;
  }

  #scopeOf(scope: Scope): ScopeEntry {
    const key = scopeKey(scope);
    const found = this.#scopes.get(key);
    if (found !== undefined) return found;
    const namespaces = new Set<string>();
    if (scope.kind === "namespaces") {
      for (const [name, labels] of this.#namespaces) if (selects(scope.selector, labels)) namespaces.add(name);
    }
    const entry: ScopeEntry = { scope, namespaces, groups: new SelectorIndex() };
    this.#scopes.set(key, entry);
    return entry;
  }

  *#podsIn({ scope, namespaces }: ScopeEntry): Generator<KnownPod> {
    if (scope.kind === "everywhere") yield* this.#pods.values();
    else if (scope.kind === "namespace") yield* this.#byNamespace.get(scope.name) ?? [];
    else for (const name of namespaces) yield* this.#byNamespace.get(name) ?? [];
  }

  *#groupsOf({ pod, addresses }: KnownPod): Generator<PodGroup> {
    if (addresses.length === 0) return;
    for (const scope of this.#scopes.values()) {
      if (isIn(scope, pod.namespace)) yield* scope.groups.matching(pod.labels);
    }
  }

  #learn(pod: KnownPod): void {
    this.#pods.set(pod.key, pod);
    const neighbours = this.#byNamespace.get(pod.pod.namespace) ?? new Set();
    this.#byNamespace.set(pod.pod.namespace, neighbours.add(pod));
    for (const address of pod.addresses) this.#own(address, pod);
  }

  #forget(pod: KnownPod): void {
    this.#pods.delete(pod.key);
    const neighbours = this.#byNamespace.get(pod.pod.namespace);
    neighbours?.delete(pod);
    if (neighbours?.size === 0) this.#byNamespace.delete(pod.pod.namespace);
    for (const address of pod.addresses) this.#disown(address, pod);
  }

  #own(address: string, pod: KnownPod): void {
    const owners = this.#owners.get(address);
    if (owners === undefined) this.#owners.set(address, pod);
    else if (owners instanceof Set) owners.add(pod);
    else if (owners !== pod) this.#owners.set(address, new Set([owners, pod]));
  }

  #disown(address: string, pod: KnownPod): void {
    const owners = this.#owners.get(address);
    if (owners === pod) this.#owners.delete(address);
    else if (owners instanceof Set) {
      owners.delete(pod);
      const [only] = owners;
      if (owners.size === 1 && only !== undefined) this.#owners.set(address, only);
    }
  }
}

/** Whether nothing but labels may be other. */
function samePeer(a: KnownPod, b: KnownPod): boolean {
  return (
    a.addresses.length === b.addresses.length &&
    a.addresses.every((address, i) => address === b.addresses[i]) &&
    a.pod.ports.length === b.pod.ports.length &&
    a.pod.ports.every((port, i) => {
      const other = b.pod.ports[i];
      return port.name === other?.name && port.protocol === other.protocol && port.port === other.port;
    })
  );
}

function isIn({ scope, namespaces }: ScopeEntry, namespace: string): boolean {
  return (
    scope.kind === "everywhere" || (scope.kind === "namespace" ? scope.name === namespace : namespaces.has(namespace))
  );
}

function touch(group: PodGroup, addresses: readonly string[] | undefined): void {
  for (const watcher of group.watchers) watcher.touch(addresses ?? []);
}
