// SPDX-License-Identifier: Apache-2.0
//
// The profiles that pods have, each with its chains and sets in the ruleset as long as a pod has it. What two profiles have in common
// is there once.

import { FollowingSet } from "./following-set.ts";
import type { KnownPods } from "./known-pods.ts";
import type { LiveRuleset } from "./live-ruleset.ts";
import type { Profile } from "./profile.ts";
import type { ChainName, PolicyChain } from "./ruleset.ts";
import type { SetDefinition } from "./set-definition.ts";

export interface SharedProfile {
  readonly key: string;
  readonly entry: ChainName;
}

interface Held extends SharedProfile {
  readonly profile: Profile;
  users: number;
}

export class SharedProfiles {
  readonly #pods: KnownPods;
  readonly #ruleset: LiveRuleset;
  readonly #profiles = new Map<string, Held>();
  /** Those that were given back since they were last looked at; somebody may have taken them again. */
  readonly #idle = new Set<Held>();
  readonly #chainUsers = new Map<ChainName, number>();
  readonly #setUsers = new Map<string, number>();
  readonly #following = new Map<string, FollowingSet>();
  readonly #touched = new Set<FollowingSet>();

  constructor(pods: KnownPods, ruleset: LiveRuleset) {
    this.#pods = pods;
    this.#ruleset = ruleset;
  }

  /** @param build called where nobody has the profile */
  take(key: string, build: () => Profile): SharedProfile {
    const held = this.#profiles.get(key) ?? this.#hold(key, build());
    held.users++;
    return held;
  }

  giveBack({ key }: SharedProfile): void {
    const held = this.#profiles.get(key);
    if (held === undefined) throw new Error(`profile ${key} is nobody's`);
    held.users--;
    if (held.users === 0) this.#idle.add(held);
  }

  /** Removes what nobody has, and follows the pods in what is left. Nothing is taken between this and taking the change. */
  settle(): void {
    for (const held of this.#idle) if (held.users === 0) this.#drop(held);
    this.#idle.clear();
    for (const set of this.#touched) set.follow(this.#ruleset);
    this.#touched.clear();
  }

  #hold(key: string, profile: Profile): Held {
    for (const set of profile.sets) this.#useSet(set);
    for (const chain of profile.chains) this.#useChain(chain);
    const held: Held = { key, entry: profile.entry, profile, users: 0 };
    this.#profiles.set(key, held);
    return held;
  }

  #drop({ key, profile }: Held): void {
    this.#profiles.delete(key);
    for (const { name } of profile.chains) {
      if (oneLess(this.#chainUsers, name)) this.#ruleset.removeChain(name);
    }
    for (const { name } of profile.sets) {
      if (!oneLess(this.#setUsers, name)) continue;
      const following = this.#following.get(name);
      this.#following.delete(name);
      if (following !== undefined) {
        following.end();
        this.#touched.delete(following);
      }
      this.#ruleset.removeSet(name);
    }
  }

  #useChain(chain: PolicyChain): void {
    if (oneMore(this.#chainUsers, chain.name)) this.#ruleset.setChain(chain);
  }

  #useSet(definition: SetDefinition): void {
    if (!oneMore(this.#setUsers, definition.name)) return;
    if (definition.kind === "fixed") this.#ruleset.addSet(definition.set);
    else {
      const onTouch = (set: FollowingSet) => this.#touched.add(set);
      this.#following.set(definition.name, new FollowingSet(definition, this.#pods, this.#ruleset, onTouch));
    }
  }
}

/** @returns whether it is the first */
function oneMore(users: Map<string, number>, name: string): boolean {
  const before = users.get(name) ?? 0;
  users.set(name, before + 1);
  return before === 0;
}

/** @returns whether it was the last */
function oneLess(users: Map<string, number>, name: string): boolean {
  const left = (users.get(name) ?? 0) - 1;
  if (left > 0) users.set(name, left);
  else users.delete(name);
  return left <= 0;
}
