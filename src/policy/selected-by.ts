// SPDX-License-Identifier: Apache-2.0
//
// Which policies an address is judged by, as a ruleset has it. Pure.
import { podMap } from "./base-chains.ts";
import { UNKNOWN_CHAIN } from "./profile.ts";
import type { ChainName, Direction, PolicyRef, Ruleset } from "./ruleset.ts";

/**
 * @param address canonical text
 * @returns undefined where nothing is judged; "unknown" where all is denied because nobody knows what the pod is
 */
export function selectedBy(
  { sets, chains }: Ruleset,
  address: string,
  direction: Direction,
): readonly PolicyRef[] | "unknown" | undefined {
  const map = sets.get(podMap(direction, address.includes(":") ? 6 : 4));
  let chain: ChainName | undefined = map?.kind === "map" ? map.elements.get(address) : undefined;
  if (chain === undefined) return undefined;
  if (chain === UNKNOWN_CHAIN.name) return "unknown";
  const policies: PolicyRef[] = [];
  // A tier's chain ends with the way to the next.
  for (; chain !== undefined; chain = nextOf(chains.get(chain)?.rules.at(-1)?.verdict)) {
    policies.push(...(chains.get(chain)?.policies ?? []));
  }
  return policies;
}

function nextOf(verdict: { readonly kind: string; readonly chain?: ChainName } | undefined): ChainName | undefined {
  return verdict?.kind === "goto" ? verdict.chain : undefined;
}
