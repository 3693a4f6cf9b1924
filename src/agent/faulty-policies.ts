// SPDX-License-Identifier: Apache-2.0
//
// Policies of which not all can be used, and whom it is told: the log of a node whose pods they select at once, the cluster's operators
// a while later, because every node of a cluster may have such pods.
import { keyOf, type ObjectKey } from "../kube/objects.ts";
import { nameOf } from "../policy/engine/counter-totals.ts";
import type { PolicyRef } from "../policy/ruleset.ts";
import type { Log } from "./log.ts";

/** What was read of a policy, as far as people are told of it. */
export interface ReadPolicy {
  readonly namespace?: string;
  readonly name: string;
  readonly uid: string;
  readonly problems: readonly string[];
}

export interface FaultyPoliciesOptions {
  readonly log: Pick<Log, "warn">;
  /** Told once of each that a pod of this node has to do with. */
  readonly onFaulty?: ((kind: PolicyRef["kind"], policy: ReadPolicy) => void) | undefined;
  /** How long to wait with that at most, in milliseconds; 0 when it is missing. */
  readonly spreadMs?: (() => number) | undefined;
  /** 0 to 1. */
  readonly random?: () => number;
}

interface Faulty {
  readonly kind: PolicyRef["kind"];
  readonly policy: ReadPolicy;
  isTold: boolean;
}

export class FaultyPolicies {
  readonly #options: FaultyPoliciesOptions;
  readonly #faulty = new Map<string, Faulty>();
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(options: FaultyPoliciesOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#faulty.size;
  }

  /** Remembers what of a policy can't be used. @param policy undefined when it is gone */
  note(kind: PolicyRef["kind"], key: ObjectKey, policy: ReadPolicy | undefined): void {
    const id = `${kind} ${key}`;
    const before = this.#faulty.get(id)?.policy;
    if (policy === undefined || policy.problems.length === 0) this.#faulty.delete(id);
    else if (before?.problems.join() !== policy.problems.join() || before.uid !== policy.uid) {
      this.#faulty.set(id, { kind, policy, isTold: false });
    }
  }

  /** Tells of those among the policies that pods of this node are selected by. */
  tell(selecting: () => Iterable<PolicyRef>): void {
    // There are none nearly always.
    if (![...this.#faulty.values()].some(({ isTold }) => !isTold)) return;
    const { log } = this.#options;
    for (const ref of selecting()) {
      const id = `${ref.kind} ${nameOf(ref)}`;
      const faulty = this.#faulty.get(id);
      if (faulty === undefined || faulty.isTold) continue;
      faulty.isTold = true;
      const { kind, policy } = faulty;
      const fields = { kind, policy: keyOf(policy), problems: policy.problems };
      log.warn(fields, "a network policy has parts that can't be used and allow nothing");
      this.#tellLater(id, faulty);
    }
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #tellLater(id: string, faulty: Faulty): void {
    const { onFaulty, spreadMs, random = Math.random } = this.#options;
    if (onFaulty === undefined) return;
    const waitMs = random() * (spreadMs?.() ?? 0);
    const tell = () => onFaulty(faulty.kind, faulty.policy);
    if (waitMs === 0) {
      tell();
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      // It may have been mended meanwhile.
      if (this.#faulty.get(id) === faulty) tell();
    }, waitMs);
    timer.unref();
    this.#timers.add(timer);
  }
}
