// SPDX-License-Identifier: Apache-2.0
//
// Denied packets in the log, with the pods' names and the policies by which they were denied. Some of them: nobody reads more.

import { nameOf } from "../policy/engine/counter-totals.ts";
import type { DeniedPacket } from "../policy/engine/denied-packets.ts";
import type { Ruleset } from "../policy/ruleset.ts";
import type { Log } from "./log.ts";

/** Lines a second, and how many may come at once. */
const PER_SECOND = 5;
const BURST = 20;

const PROTOCOLS: Readonly<Record<number, string>> = { 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP" };

export interface SamplesOptions {
  readonly ruleset: () => Ruleset;
  /** "namespace/name" of the pod that has an address; undefined where none is known. */
  readonly podOf: (address: string) => string | undefined;
  readonly log: Pick<Log, "info">;
  /** Milliseconds on a clock that only goes on. */
  readonly now?: () => number;
}

export class PolicySamples {
  readonly #options: SamplesOptions;
  #allowance = BURST;
  #refilledAtMs: number;
  #suppressed = 0;

  constructor(options: SamplesOptions) {
    this.#options = options;
    this.#refilledAtMs = this.#now();
  }

  tell({ chain: name, place, source, destination, protocol, port }: DeniedPacket): void {
    if (!this.#mayTell()) {
      this.#suppressed++;
      return;
    }
    const { ruleset, podOf, log } = this.#options;
    const chain = ruleset().chains.get(name);
    const deniedBy = place === undefined ? [] : (chain?.rules[place]?.origins ?? []);
    const policies = deniedBy.length > 0 ? deniedBy.map(({ policy }) => policy) : chain?.policies;
    const fields = {
      source,
      sourcePod: podOf(source),
      destination,
      destinationPod: podOf(destination),
      protocol: PROTOCOLS[protocol] ?? protocol,
      port,
      direction: chain?.direction,
      policies: policies && [...new Set(policies.map(nameOf))],
      ...(this.#suppressed > 0 && { suppressed: this.#suppressed }),
    };
    this.#suppressed = 0;
    log.info(fields, "a packet is denied by network policies");
  }

  #mayTell(): boolean {
    const now = this.#now();
    this.#allowance = Math.min(BURST, this.#allowance + ((now - this.#refilledAtMs) * PER_SECOND) / 1000);
    this.#refilledAtMs = now;
    if (this.#allowance < 1) return false;
    this.#allowance--;
    return true;
  }

  #now(): number {
    return this.#options.now?.() ?? performance.now();
  }
}
