// SPDX-License-Identifier: Apache-2.0
//
// A set whose elements follow the cluster's pods. It is told for which addresses something may have changed, and looks at
// those only, when it is asked to.
import { type Family, parseAddress } from "../net/address.ts";
import { addressNumber } from "../net/prefix.ts";
import { numbersOf } from "./allowance.ts";
import { intervalsOf } from "./blocks.ts";
import type { GroupWatcher, KnownPod, KnownPods, PodGroup } from "./known-pods.ts";
import type { LiveRuleset } from "./live-ruleset.ts";
import { l4, mergePorts, type PortRange, portElement } from "./ports.ts";
import { addressType, type ElementKey, elementKey } from "./ruleset.ts";
import type { PodsDefinition, ReachDefinition, ReachEntry } from "./set-definition.ts";

export class FollowingSet implements GroupWatcher {
  readonly definition: PodsDefinition | ReachDefinition;
  readonly #pods: KnownPods;
  readonly #groups: readonly PodGroup[];
  readonly #touched = new Set<string>();
  /** Of `reach`: what is in the set of each address. */
  readonly #elements = new Map<string, readonly ElementKey[]>();
  readonly #onTouch: (set: FollowingSet) => void;

  constructor(
    definition: PodsDefinition | ReachDefinition,
    pods: KnownPods,
    ruleset: LiveRuleset,
    onTouch: (set: FollowingSet) => void,
  ) {
    this.definition = definition;
    this.#pods = pods;
    this.#onTouch = onTouch;
    const { name, family } = definition;
    const type = addressType(family);
    if (definition.kind === "pods") {
      ruleset.addSet({ name, key: [type], interval: false });
      this.#groups = definition.terms.map((term) => pods.watch(term, this));
    } else {
      ruleset.addSet({ name, key: [type, "inet_proto", "inet_service"], interval: definition.interval });
      this.#groups = definition.entries.map(({ term }) => pods.watch(term, this));
    }
    for (const group of this.#groups) {
      for (const pod of pods.podsOf(group)) {
        // Whoever is meant by any term is in a set of addresses; there is nothing to look up again.
        if (definition.kind === "pods") this.#add(pod.addresses, ruleset);
        else this.touch(pod.addresses);
      }
    }
  }

  touch(addresses: readonly string[]): void {
    for (const address of addresses) if (familyOfText(address) === this.definition.family) this.#touched.add(address);
    if (this.#touched.size > 0) this.#onTouch(this);
  }

  #add(addresses: readonly string[], ruleset: LiveRuleset): void {
    const { name, family } = this.definition;
    for (const address of addresses) if (familyOfText(address) === family) ruleset.addElement(name, address);
  }

  /** Looks at what was touched. */
  follow(ruleset: LiveRuleset): void {
    const { name } = this.definition;
    for (const address of this.#touched) {
      if (this.definition.kind === "pods") {
        if (this.#isAnyIn(address)) ruleset.addElement(name, address);
        else ruleset.removeElement(name, address);
        continue;
      }
      const before = this.#elements.get(address) ?? [];
      const after = this.#reachOf(address, this.definition);
      for (const key of before) if (!after.includes(key)) ruleset.removeElement(name, key);
      for (const key of after) ruleset.addElement(name, key);
      if (after.length === 0) this.#elements.delete(address);
      else this.#elements.set(address, after);
    }
    this.#touched.clear();
  }

  end(): void {
    for (const group of new Set(this.#groups)) this.#pods.unwatch(group, this);
  }

  #isAnyIn(address: string): boolean {
    for (const pod of this.#pods.ownersOf(address)) {
      if (this.#groups.some((group) => this.#pods.includes(group, pod))) return true;
    }
    return false;
  }

  #reachOf(address: string, { entries, interval }: ReachDefinition): ElementKey[] {
    const ranges: PortRange[] = [];
    for (const pod of this.#pods.ownersOf(address)) {
      entries.forEach((entry, i) => {
        if (this.#pods.includes(this.#groups[i] as PodGroup, pod) && isWithin(entry, address))
          ranges.push(...entry.ports, ...named(entry, pod));
      });
    }
    const ports = interval ? mergePorts(ranges) : ranges;
    return [...new Set(ports.map((range) => elementKey(address, portElement(range))))];
  }
}

function named({ names }: ReachEntry, { pod }: KnownPod): PortRange[] {
  return names.flatMap((name) =>
    numbersOf(pod.ports, name).map((port) => ({ protocol: l4(name.protocol), first: port, last: port })),
  );
}

function isWithin({ within }: ReachEntry, address: string): boolean {
  if (within === undefined) return true;
  const number = addressNumber(parseAddress(address));
  return intervalsOf(within).some(({ first, last }) => number >= first && number <= last);
}

function familyOfText(address: string): Family {
  return address.includes(":") ? 6 : 4;
}
