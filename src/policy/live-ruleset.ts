// SPDX-License-Identifier: Apache-2.0
//
// The ruleset as it is wanted now, and what of it is other than when it was last asked: what a change costs doesn't depend on how much
// there is.
import { elementsOf } from "./diff.ts";
import type {
  ChainName,
  ElementChange,
  ElementKey,
  KeyType,
  NamedSet,
  NewElement,
  PolicyChain,
  Ruleset,
  RulesetChange,
} from "./ruleset.ts";

interface LiveSet {
  readonly kind: "set";
  readonly name: string;
  readonly key: readonly KeyType[];
  readonly interval: boolean;
  readonly elements: Set<ElementKey>;
}

interface LiveMap {
  readonly kind: "map";
  readonly name: string;
  readonly key: readonly KeyType[];
  readonly elements: Map<ElementKey, ChainName>;
}

/** Of an element of a set that it was in, where a map would have a chain. */
const THERE = "";

export class LiveRuleset implements Ruleset {
  readonly sets = new Map<string, LiveSet | LiveMap>();
  readonly chains = new Map<ChainName, PolicyChain>();
  readonly #newSets = new Set<string>();
  readonly #newChains = new Set<ChainName>();
  readonly #replaced = new Set<ChainName>();
  readonly #goneSets = new Set<string>();
  readonly #goneChains = new Set<ChainName>();
  /** By set, what was there by key when last asked: undefined where nothing was. */
  readonly #before = new Map<string, Map<ElementKey, string | undefined>>();

  addSet({
    name,
    key,
    interval,
    elements,
  }: {
    name: string;
    key: readonly KeyType[];
    interval: boolean;
    elements?: Iterable<ElementKey>;
  }): void {
    this.sets.set(name, { kind: "set", name, key, interval, elements: new Set(elements) });
    this.#newSets.add(name);
  }

  addMap(name: string, key: readonly KeyType[]): void {
    this.sets.set(name, { kind: "map", name, key, elements: new Map() });
    this.#newSets.add(name);
  }

  removeSet(name: string): void {
    this.sets.delete(name);
    this.#before.delete(name);
    if (!this.#newSets.delete(name)) this.#goneSets.add(name);
  }

  /** One of the same name is filled anew. */
  setChain(chain: PolicyChain): void {
    if (this.chains.has(chain.name)) {
      if (!this.#newChains.has(chain.name)) this.#replaced.add(chain.name);
    } else if (this.#goneChains.delete(chain.name)) this.#replaced.add(chain.name);
    else this.#newChains.add(chain.name);
    this.chains.set(chain.name, chain);
  }

  removeChain(name: ChainName): void {
    this.chains.delete(name);
    this.#replaced.delete(name);
    if (!this.#newChains.delete(name)) this.#goneChains.add(name);
  }

  addElement(name: string, key: ElementKey): void {
    const set = this.#set(name);
    if (set.elements.has(key)) return;
    this.#remember(name, key, undefined);
    set.elements.add(key);
  }

  removeElement(name: string, key: ElementKey): void {
    const set = this.#set(name);
    if (set.elements.delete(key)) this.#remember(name, key, THERE);
  }

  /** @param chain undefined to remove it */
  setVerdict(name: string, key: ElementKey, chain: ChainName | undefined): void {
    const map = this.sets.get(name);
    if (map?.kind !== "map") throw new Error(`no map ${name}`);
    const before = map.elements.get(key);
    if (before === chain) return;
    this.#remember(name, key, before);
    if (chain === undefined) map.elements.delete(key);
    else map.elements.set(key, chain);
  }

  /** What is other than when this was last called, which is as good as applied then. */
  take(): RulesetChange {
    const change: RulesetChange = {
      newSets: [...this.#newSets].map((name) => newSet(this.#named(name))),
      newChains: [...this.#newChains].map((name) => this.#chain(name)),
      replacedChains: [...this.#replaced].map((name) => this.#chain(name)),
      elements: this.#elements(),
      goneChains: [...this.#goneChains],
      goneSets: [...this.#goneSets],
    };
    for (const all of [
      this.#newSets,
      this.#newChains,
      this.#replaced,
      this.#goneChains,
      this.#goneSets,
      this.#before,
    ]) {
      all.clear();
    }
    return change;
  }

  #elements(): ElementChange[] {
    const changes: ElementChange[] = [];
    for (const name of this.#newSets) {
      const set = this.#named(name);
      if (set.kind === "map" && set.elements.size > 0) changes.push({ set: name, remove: [], add: elementsOf(set) });
    }
    for (const [name, keys] of this.#before) {
      const set = this.#named(name);
      const remove: ElementKey[] = [];
      const add: NewElement[] = [];
      for (const [key, before] of keys) {
        const now = set.kind === "map" ? set.elements.get(key) : set.elements.has(key) ? THERE : undefined;
        if (now === before) continue;
        if (before !== undefined) remove.push(key);
        if (now !== undefined) add.push(set.kind === "map" ? { key, chain: now } : { key });
      }
      if (remove.length > 0 || add.length > 0) changes.push({ set: name, remove, add });
    }
    return changes;
  }

  #remember(name: string, key: ElementKey, before: string | undefined): void {
    // A new set is told of as a whole.
    if (this.#newSets.has(name)) return;
    const keys = this.#before.get(name) ?? new Map<ElementKey, string | undefined>();
    this.#before.set(name, keys);
    if (!keys.has(key)) keys.set(key, before);
  }

  #named(name: string): LiveSet | LiveMap {
    const set = this.sets.get(name);
    if (set === undefined) throw new Error(`no set ${name}`);
    return set;
  }

  #set(name: string): LiveSet {
    const set = this.#named(name);
    if (set.kind !== "set") throw new Error(`${name} is a map`);
    return set;
  }

  #chain(name: ChainName): PolicyChain {
    const chain = this.chains.get(name);
    if (chain === undefined) throw new Error(`no chain ${name}`);
    return chain;
  }
}

/** As it is now: what has it may be used later. */
function newSet(set: LiveSet | LiveMap): NamedSet {
  return set.kind === "map" ? { ...set, elements: new Map() } : { ...set, elements: new Set(set.elements) };
}
