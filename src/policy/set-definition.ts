// SPDX-License-Identifier: Apache-2.0
//
// Sets that chains look up: those that are what their name says, and those whose elements follow the cluster's pods. Pure.
import type { Family } from "../net/address.ts";
import type { PortName } from "./allowance.ts";
import { type Block, blockText } from "./blocks.ts";
import { hash } from "./hash.ts";
import type { PodTerm } from "./pod-term.ts";
import { type PortRange, portsText } from "./ports.ts";
import type { PolicySet } from "./ruleset.ts";

export type SetDefinition =
  | { readonly kind: "fixed"; readonly name: string; readonly set: PolicySet }
  | PodsDefinition
  | ReachDefinition;

/** Addresses of the pods that any of the terms means. */
export interface PodsDefinition {
  readonly kind: "pods";
  readonly name: string;
  readonly family: Family;
  readonly terms: readonly PodTerm[];
}

/** Addresses of pods, each with the ports at which it may be reached. */
export interface ReachDefinition {
  readonly kind: "reach";
  readonly name: string;
  readonly family: Family;
  readonly interval: boolean;
  readonly entries: readonly ReachEntry[];
}

export interface ReachEntry {
  readonly term: PodTerm;
  /** Only those of the term's pods whose address is in it. */
  readonly within: Block | undefined;
  readonly ports: readonly PortRange[];
  /** And what a pod calls so. */
  readonly names: readonly PortName[];
}

/** The same terms make the same set, whoever asks for it. */
export function podsSet(terms: readonly PodTerm[], family: Family): PodsDefinition {
  const byKey = new Map(terms.map((term) => [term.key, term]));
  const keys = [...byKey.keys()].sort();
  const name = `pods${family}_${hash(JSON.stringify(keys))}`;
  return { kind: "pods", name, family, terms: keys.map((key) => byKey.get(key) as PodTerm) };
}

export function reachSet(entries: readonly ReachEntry[], family: Family): ReachDefinition {
  const byText = new Map(entries.map((entry) => [entryText(entry), entry]));
  const texts = [...byText.keys()].sort();
  return {
    kind: "reach",
    name: `reach${family}_${hash(JSON.stringify(texts))}`,
    family,
    // Ports beside each other are one range where a pod has both.
    interval: entries.some(({ ports }) => ports.length > 0),
    entries: texts.map((text) => byText.get(text) as ReachEntry),
  };
}

function entryText({ term, within, ports, names }: ReachEntry): string {
  const called = names.map(({ protocol, name }) => `${protocol} ${name}`).sort();
  return JSON.stringify([term.key, within === undefined ? "" : blockText(within), portsText(ports), called]);
}
