// SPDX-License-Identifier: Apache-2.0
//
// The cluster's pods and which of them every term that is in use means, kept while both come and go. What a change costs is what
// it affects: a pod looks up its terms, a term its pods.
import type { KubeNamespace, KubePod, ObjectKey, Words } from "../kube/objects.ts";
import { selects } from "../kube/selector.ts";
import { type PodTerm, type Scope, scopeKey } from "./pod-term.ts";
import { SelectorIndex } from "./selector-index.ts";

/** A pod as a peer. */
export interface KnownPod {
  readonly key: ObjectKey;
  readonly pod: KubePod;
  /** Those that are its own, canonical text; none when it is no peer: it has ended, or the host's addresses. */
  addresses: readonly string[];
  readonly groups: Set<PodGroup>;
}

/** The pods that a term means, which somebody needs to know. */
export interface PodGroup {
  readonly term: PodTerm;
  readonly pods: Set<KnownPod>;
  /** Told of addresses for which something may be other than before. */
  readonly watchers: Set<GroupWatcher>;
}

export interface GroupWatcher {
  touch(addresses: readonly string[]): void;
}

interface ScopeEntry {
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

  get(key: ObjectKey): KnownPod | undefined {
    return this.#pods.get(key);
  }

  namespaceLabels(name: string): Words | undefined {
    return this.#namespaces.get(name);
  }

  /** The pods that have an address as their own. */
  ownersOf(address: string): Iterable<KnownPod> {
    const owners = this.#owners.get(address);
    return owners === undefined ? [] : owners instanceof Set ? owners : [owners];
  }

  /** @param addresses that are its own; @param pod undefined when it is gone */
  setPod(key: ObjectKey, pod: KubePod | undefined, addresses: readonly string[]): void {
    const before = this.#pods.get(key);
    if (before !== undefined) this.#forget(before);
    const after = pod === undefined ? undefined : { key, pod, addresses, groups: new Set<PodGroup>() };
    if (after === undefined) this.#pods.delete(key);
    else this.#learn(after);
    // Whatever changed, it is the addresses of before and of now for which a look is due, in the groups of before and of now.
    if (before !== undefined && after !== undefined && samePeer(before, after)) {
      for (const group of before.groups) if (!after.groups.has(group)) touch(group, before.addresses);
      for (const group of after.groups) if (!before.groups.has(group)) touch(group, after.addresses);
      return;
    }
    if (before !== undefined) for (const group of before.groups) touch(group, before.addresses);
    if (after !== undefined) for (const group of after.groups) touch(group, after.addresses);
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
        for (const group of entry.groups.matching(pod.pod.labels)) {
          if (has) join(group, pod);
          else leave(group, pod);
          touch(group, pod.addresses);
        }
      }
    }
  }

  /** The group of a term, which is kept until nobody watches it. */
  watch(term: PodTerm, watcher: GroupWatcher): PodGroup {
    const group = this.#groups.get(term.key) ?? this.#newGroup(term);
    group.watchers.add(watcher);
    return group;
  }

  unwatch(group: PodGroup, watcher: GroupWatcher): void {
    group.watchers.delete(watcher);
    if (group.watchers.size > 0) return;
    for (const pod of group.pods) pod.groups.delete(group);
    this.#groups.delete(group.term.key);
    const key = scopeKey(group.term.scope);
    const entry = this.#scopes.get(key);
    entry?.groups.remove(group.term.pods, group);
    if (entry?.groups.size === 0) this.#scopes.delete(key);
  }

  #newGroup(term: PodTerm): PodGroup {
    const group: PodGroup = { term, pods: new Set(), watchers: new Set() };
    this.#groups.set(term.key, group);
    const entry = this.#scopeOf(term.scope);
    entry.groups.add(term.pods, group);
    for (const pod of this.#podsIn(entry)) {
      if (pod.addresses.length > 0 && selects(term.pods, pod.pod.labels)) join(group, pod);
    }
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

  #learn(pod: KnownPod): void {
    this.#pods.set(pod.key, pod);
    const { namespace, labels } = pod.pod;
    const neighbours = this.#byNamespace.get(namespace) ?? new Set();
    this.#byNamespace.set(namespace, neighbours.add(pod));
    for (const address of pod.addresses) this.#own(address, pod);
    if (pod.addresses.length === 0) return;
    for (const { scope, namespaces, groups } of this.#scopes.values()) {
      const isIn =
        scope.kind === "everywhere" ||
        (scope.kind === "namespace" ? scope.name === namespace : namespaces.has(namespace));
      if (isIn) for (const group of groups.matching(labels)) join(group, pod);
    }
  }

  /** `pod.groups` stays, to tell what it was in. */
  #forget(pod: KnownPod): void {
    const neighbours = this.#byNamespace.get(pod.pod.namespace);
    neighbours?.delete(pod);
    if (neighbours?.size === 0) this.#byNamespace.delete(pod.pod.namespace);
    for (const address of pod.addresses) this.#disown(address, pod);
    for (const group of pod.groups) group.pods.delete(pod);
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

function join(group: PodGroup, pod: KnownPod): void {
  group.pods.add(pod);
  pod.groups.add(group);
}

function leave(group: PodGroup, pod: KnownPod): void {
  group.pods.delete(pod);
  pod.groups.delete(group);
}

function touch(group: PodGroup, addresses: readonly string[]): void {
  for (const watcher of group.watchers) watcher.touch(addresses);
}
