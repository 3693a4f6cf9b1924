// SPDX-License-Identifier: Apache-2.0
//
// The cluster as policies see it, this node's pods, and the ruleset that follows. What changes is told one by one; `commit` then says
// what of the ruleset is other. No I/O, no time: the same input gives the same ruleset, in whatever order it came.
import type { ClusterNetworkPolicy } from "../kube/cluster-network-policy.ts";
import type { NetworkPolicy } from "../kube/network-policy.ts";
import { type KubeNamespace, type KubePod, keyOf, type NamedPort, type ObjectKey } from "../kube/objects.ts";
import { type Family, familyOf, formatAddress } from "../net/address.ts";
import { namesIn, numbersOf, type PortName } from "./allowance.ts";
import { baseChains, closedSet, fixedSets, podMap, selfSet } from "./base-chains.ts";
import { KnownPods } from "./known-pods.ts";
import { LiveRuleset } from "./live-ruleset.ts";
import { type Known, PolicyIndex, type Selecting } from "./policy-index.ts";
import { buildProfile, UNKNOWN_CHAIN } from "./profile.ts";
import { type ChainName, type Direction, elementKey, type Ruleset, type RulesetChange } from "./ruleset.ts";
import { type SharedProfile, SharedProfiles } from "./shared-profiles.ts";

/** A pod of this node by what the node itself knows: its attachment. What Kubernetes knows of it may come later. */
export interface LocalPod {
  /** Of the attachment. */
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  /** undefined where the runtime didn't say; then it is whatever pod has the name. */
  readonly uid: string | undefined;
  /** 4 or 16 bytes each. */
  readonly addresses: readonly Uint8Array[];
}

export interface PolicySettings {
  /** What a pod may whose labels aren't known, in a namespace that has policies. */
  readonly onUnknown: "deny" | "allow";
  /** Whether the node reaches its own pods whatever their policies are: kubelet's probes come from there. */
  readonly allowFromNode: boolean;
}

const DIRECTIONS: readonly Direction[] = ["ingress", "egress"];

interface Local {
  readonly pod: LocalPod;
  readonly addresses: readonly { readonly text: string; readonly family: Family }[];
  readonly profiles: Map<string, SharedProfile>;
  isUnknown: boolean;
}

export class PolicyModel {
  readonly #settings: PolicySettings;
  readonly #ruleset = new LiveRuleset();
  readonly #pods = new KnownPods();
  readonly #policies = new PolicyIndex();
  readonly #profiles = new SharedProfiles(this.#pods, this.#ruleset);
  /** Pods as Kubernetes has them. */
  readonly #objects = new Map<ObjectKey, KubePod>();
  readonly #locals = new Map<string, Local>();
  readonly #localsOfPod = new Map<ObjectKey, Set<Local>>();
  readonly #localsOfNamespace = new Map<string, Set<Local>>();
  readonly #holders = new Map<string, Set<Local>>();
  readonly #dirty = new Set<Local>();
  /** Addresses that pods have got or lost. */
  readonly #moved = new Map<string, Family>();
  #policiesKnown = false;

  constructor(settings: PolicySettings) {
    this.#settings = settings;
    for (const { kind, name, key } of fixedSets()) {
      if (kind === "map") this.#ruleset.addMap(name, key);
      else this.#ruleset.addSet({ name, key, interval: false });
    }
    for (const chain of baseChains(!settings.allowFromNode)) this.#ruleset.setChain(chain);
    this.#ruleset.setChain(UNKNOWN_CHAIN);
  }

  /** As of the last commit. It is no copy. */
  get ruleset(): Ruleset {
    return this.#ruleset;
  }

  /** Whether policies are known at all: before that every pod is one whose rules aren't known. */
  setPoliciesKnown(known: boolean): void {
    if (known === this.#policiesKnown) return;
    this.#policiesKnown = known;
    for (const local of this.#locals.values()) this.#dirty.add(local);
  }

  /** @param pod undefined when it is gone */
  setPod(key: ObjectKey, pod: KubePod | undefined): void {
    if (pod === undefined) this.#objects.delete(key);
    else this.#objects.set(key, pod);
    this.#tellPod(key);
    for (const local of this.#localsOfPod.get(key) ?? []) this.#dirty.add(local);
  }

  setNamespace(name: ObjectKey, namespace: KubeNamespace | undefined): void {
    this.#pods.setNamespace(name, namespace);
    // By a namespace's labels only policies of the whole cluster select pods.
    if (!this.#policies.hasOfCluster) return;
    for (const local of this.#localsOfNamespace.get(name) ?? []) this.#dirty.add(local);
  }

  setPolicy(key: ObjectKey, policy: NetworkPolicy | undefined): void {
    const namespace = (policy ?? this.#policies.get(key))?.namespace;
    this.#policies.set(key, policy);
    if (namespace !== undefined)
      for (const local of this.#localsOfNamespace.get(namespace) ?? []) this.#dirty.add(local);
  }

  setClusterPolicy(name: ObjectKey, policy: ClusterNetworkPolicy | undefined): void {
    this.#policies.setOfCluster(name, policy);
    for (const local of this.#locals.values()) this.#dirty.add(local);
  }

  /** @param pod undefined when it has no attachment any more */
  setLocal(id: string, pod: LocalPod | undefined): void {
    const before = this.#locals.get(id);
    if (before !== undefined) this.#forget(id, before);
    if (pod !== undefined) this.#learn(id, pod);
    for (const one of [before?.pod, pod]) if (one !== undefined) this.#tellPod(keyOf(one));
  }

  /** Whose labels or policies aren't known, as of the last commit, so that somebody may ask for them. */
  unknownPods(): LocalPod[] {
    return [...this.#locals.values()].filter(({ isUnknown }) => isUnknown).map(({ pod }) => pod);
  }

  /** Brings the ruleset up to date. @returns what is other than after the last one, and is taken for applied */
  commit(): RulesetChange {
    for (const local of this.#dirty) this.#profile(local);
    for (const local of this.#dirty) for (const { text, family } of local.addresses) this.#moved.set(text, family);
    for (const [address, family] of this.#moved) this.#lead(address, family);
    this.#dirty.clear();
    this.#moved.clear();
    this.#profiles.settle();
    return this.#ruleset.take();
  }

  #learn(id: string, pod: LocalPod): void {
    const addresses = pod.addresses.map((address) => ({ text: formatAddress(address), family: familyOf(address) }));
    const local: Local = { pod, addresses, profiles: new Map(), isUnknown: false };
    this.#locals.set(id, local);
    addTo(this.#localsOfPod, keyOf(pod), local);
    addTo(this.#localsOfNamespace, pod.namespace, local);
    for (const { text } of addresses) addTo(this.#holders, text, local);
    this.#dirty.add(local);
  }

  #forget(id: string, local: Local): void {
    this.#locals.delete(id);
    removeFrom(this.#localsOfPod, keyOf(local.pod), local);
    removeFrom(this.#localsOfNamespace, local.pod.namespace, local);
    for (const profile of local.profiles.values()) this.#profiles.giveBack(profile);
    local.profiles.clear();
    local.isUnknown = false;
    this.#dirty.delete(local);
    for (const { text, family } of local.addresses) {
      removeFrom(this.#holders, text, local);
      this.#moved.set(text, family);
    }
  }

  /** The pod as a peer: with its attachment's addresses, which are known before kubelet has told them to anybody. */
  #tellPod(key: ObjectKey): void {
    const pod = this.#objects.get(key);
    if (pod === undefined || pod.hostNetwork || pod.ended) {
      this.#pods.setPod(key, pod, []);
      return;
    }
    const addresses = new Set(pod.addresses.map(formatAddress));
    for (const local of this.#localsOfPod.get(key) ?? []) {
      if (isSame(local.pod, pod)) for (const { text } of local.addresses) addresses.add(text);
    }
    this.#pods.setPod(key, pod, [...addresses]);
  }

  /** Finds the profiles of a pod: by direction and family. */
  #profile(local: Local): void {
    const object = this.#objects.get(keyOf(local.pod));
    const labels = this.#pods.namespaceLabels(local.pod.namespace);
    const isKnown =
      this.#policiesKnown &&
      object !== undefined &&
      isSame(local.pod, object) &&
      (labels !== undefined || !this.#policies.hasOfCluster);
    local.isUnknown = !isKnown;
    const before = [...local.profiles.values()];
    local.profiles.clear();
    if (isKnown && !object.hostNetwork) {
      const selecting = this.#policies.selecting(object, labels ?? {});
      for (const direction of DIRECTIONS) {
        const found = selecting(direction);
        if (found.admin.length + found.policies.length + found.baseline.length === 0) continue;
        for (const family of new Set(local.addresses.map((address) => address.family))) {
          local.profiles.set(podMap(direction, family), this.#takeProfile(direction, family, found, object));
        }
      }
    }
    for (const profile of before) this.#profiles.giveBack(profile);
  }

  #takeProfile(
    direction: Direction,
    family: Family,
    { admin, policies, baseline }: Selecting,
    pod: KubePod,
  ): SharedProfile {
    const all: readonly Known<NetworkPolicy | ClusterNetworkPolicy>[] = [...admin, ...policies, ...baseline];
    const named = direction === "ingress" ? namesIn(all.flatMap(({ policy }) => policy.ingress ?? [])) : [];
    const ports = portsNamed(named, pod);
    const ids = all.map(({ id }) => id).join(" ");
    const called = ports.map(({ name, protocol, port }) => `${name} ${protocol} ${port}`).join(" ");
    return this.#profiles.take(`${podMap(direction, family)} ${ids} ${called}`, () =>
      buildProfile({
        direction,
        family,
        admin: admin.map(({ policy }) => policy),
        policies: policies.map(({ policy }) => policy),
        baseline: baseline.map(({ policy }) => policy),
        ports,
      }),
    );
  }

  /** Leads packets from and to an address to the chains of the pod that has it, or to none. */
  #lead(address: string, family: Family): void {
    const holders = [...(this.#holders.get(address) ?? [])];
    const chains = DIRECTIONS.map((direction) => {
      const map = podMap(direction, family);
      const [chain] = holders.flatMap((local) => this.#chainOf(local, map) ?? []);
      this.#ruleset.setVerdict(map, address, chain);
      this.#put(closedSet(direction, family), address, chain !== undefined);
      return chain;
    });
    this.#put(
      selfSet(family),
      elementKey(address, address),
      chains.some((chain) => chain !== undefined),
    );
  }

  #chainOf({ isUnknown, profiles, pod }: Local, map: string): ChainName | undefined {
    if (!isUnknown) return profiles.get(map)?.entry;
    if (this.#settings.onUnknown === "allow") return undefined;
    const mayConcern = this.#policies.mayConcern(pod.namespace, this.#pods.namespaceLabels(pod.namespace));
    return !this.#policiesKnown || mayConcern ? UNKNOWN_CHAIN.name : undefined;
  }

  #put(set: string, key: string, there: boolean): void {
    if (there) this.#ruleset.addElement(set, key);
    else this.#ruleset.removeElement(set, key);
  }
}

/** A name may be used again: what is known of one pod says nothing of the next. */
function isSame(local: LocalPod, pod: KubePod): boolean {
  return local.uid === undefined || local.uid === pod.uid;
}

/** Of the pod's ports those that policies name, in an order that doesn't depend on the pod's. */
function portsNamed(names: readonly PortName[], pod: KubePod): NamedPort[] {
  const ports = new Map<string, NamedPort>();
  for (const name of names) {
    for (const port of numbersOf(pod.ports, name)) {
      ports.set(`${name.protocol} ${name.name} ${port}`, { name: name.name, protocol: name.protocol, port });
    }
  }
  return [...ports].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, port]) => port);
}

function addTo<T>(index: Map<string, Set<T>>, key: string, item: T): void {
  const items = index.get(key);
  if (items === undefined) index.set(key, new Set([item]));
  else items.add(item);
}

function removeFrom<T>(index: Map<string, Set<T>>, key: string, item: T): void {
  const items = index.get(key);
  items?.delete(item);
  if (items?.size === 0) index.delete(key);
}
