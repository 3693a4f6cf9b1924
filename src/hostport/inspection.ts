// SPDX-License-Identifier: Apache-2.0
//
// What a pod's hostPorts need in the kernel, and what the kernel's answers about it say. Pure.
import { formatAddress } from "../net/address.ts";
import { NFT_TABLE } from "../net/names.ts";
import type { Reply } from "../netlink/event-loop.ts";
import type { Message, Request } from "../netlink/message.ts";
import { dataOf, drops, getChain, getElement, getSet, getTable, isDormant, type RuleIdentity } from "../nft/lookup.ts";
import { type Entry, entryId, PROTOCOLS, sameEntry, type TranslatedPort } from "./entries.ts";
import { NEEDED_CHAINS } from "./ruleset.ts";

/** How many problems are told in words; an answer has 64 KiB, and nobody reads more. */
const MOST_TOLD = 20;

/** Something that has to be there. */
export interface Part {
  readonly id: string;
  /** The part that it is in, which is told instead when that is missing; it comes before this one. */
  readonly within?: string;
  readonly request: Request;
  /** The sentence when it isn't there. */
  readonly missing: string;
  /** The sentence when it is there, and is something else. */
  readonly wrong?: (found: Message, rules: readonly RuleIdentity[]) => string | undefined;
}

/** The table, its chains, and of its sets only what these entries are in. */
export function partsOf(entries: readonly Entry[]): Part[] {
  const sets = new Set(entries.map(({ set }) => set));
  return [
    {
      id: "table",
      request: getTable(NFT_TABLE),
      missing: `there is no nftables table inet ${NFT_TABLE}`,
      wrong: (found) => (isDormant(found) ? `nftables table inet ${NFT_TABLE} is dormant` : undefined),
    },
    ...NEEDED_CHAINS.map(
      ({ name, marks }): Part => ({
        id: `chain ${name}`,
        within: "table",
        request: getChain(NFT_TABLE, name),
        missing: `nftables table inet ${NFT_TABLE} has no chain ${name}`,
        wrong: (found, rules) => {
          const problem = drops(found) ? "drops what none of its rules decides" : wrongRules(name, marks, rules);
          return problem === undefined ? undefined : `chain ${name} of nftables table inet ${NFT_TABLE} ${problem}`;
        },
      }),
    ),
    ...[...sets].map((set) => ({
      id: `set ${set}`,
      within: "table",
      request: getSet(NFT_TABLE, set),
      missing: `nftables table inet ${NFT_TABLE} has no set ${set}`,
    })),
    ...entries.map(partOf),
  ];
}

/** What of a chain's rules is not as it was made, without the chain's name. */
function wrongRules(chain: string, marks: readonly Uint8Array[], rules: readonly RuleIdentity[]): string | undefined {
  const wanted = marks.map((mark) => mark.join());
  const found = rules.filter((rule) => rule.chain === chain).map(({ mark }) => mark?.join() ?? "");
  if (found.join(" ") === wanted.join(" ")) return undefined;
  const lost = wanted.some((mark) => !found.includes(mark));
  if (!found.every((mark) => wanted.includes(mark)))
    return `has rules that are not flatnet's${lost ? " instead of its own" : ""}`;
  return lost ? "has lost rules" : "has its rules in another order";
}

function partOf(entry: Entry): Part {
  const { set, key, port } = entry;
  return {
    id: entryId(entry),
    within: `set ${set}`,
    request: getElement(NFT_TABLE, set, key),
    missing: port === undefined ? missingHairpin(entry) : missingPort(set, port),
    wrong: (found) => {
      const data = dataOf(found);
      if (port === undefined || sameEntry(entry, { set, key, ...(data !== undefined && { data }) })) return undefined;
      return `${nameOf(port)} leads to ${targetOf(port, data)}, and not to ${endpoint(port.podIp, port.podPort)}`;
    },
  };
}

/**
 * What is not as it should be, a sentence each; the last says how many were left out, if any.
 * @param replies one for each part
 * @param rules all of the table
 * @throws NetlinkError when the kernel refused to say
 */
export function problemsOf(
  parts: readonly Part[],
  replies: readonly Reply[],
  rules: readonly RuleIdentity[],
): string[] {
  const absent = new Set<string>();
  const problems: string[] = [];
  for (const [i, { id, within, missing, wrong }] of parts.entries()) {
    const { error, answers } = replies[i] as Reply;
    if (error !== undefined && error.errnoName !== "ENOENT") throw error;
    const [found] = answers;
    if (error !== undefined || found === undefined) absent.add(id);
    if (within !== undefined && absent.has(within)) continue;
    const problem = error !== undefined || found === undefined ? missing : wrong?.(found, rules);
    if (problem !== undefined) problems.push(problem);
  }
  const more = problems.length - MOST_TOLD;
  return more > 0 ? [...problems.slice(0, MOST_TOLD), `and ${more} more`] : problems;
}

function missingPort(set: string, port: TranslatedPort): string {
  const target = endpoint(port.podIp, port.podPort);
  return `${nameOf(port)} does not lead to ${target}: nftables map ${set} has nothing for it`;
}

/** The key is the pod's address twice. */
function missingHairpin({ set, key }: Entry): string {
  const pod = formatAddress(key.subarray(0, key.length / 2));
  return `hostPorts do not lead ${pod} to itself: nftables set ${set} does not have it`;
}

function nameOf({ hostPort, protocol, hostIp }: TranslatedPort): string {
  const name = Object.entries(PROTOCOLS).find(([, number]) => number === protocol)?.[0];
  return `hostPort ${hostPort}/${name}${hostIp === undefined ? "" : ` on ${formatAddress(hostIp)}`}`;
}

function targetOf({ podIp: { length } }: TranslatedPort, data: Uint8Array | undefined): string {
  // An address and a port, each on a boundary of 32 bits.
  if (data?.length !== length + 4) return "nowhere";
  return endpoint(data.subarray(0, length), ((data[length] as number) << 8) | (data[length + 1] as number));
}

function endpoint(address: Uint8Array, port: number): string {
  const text = formatAddress(address);
  return address.length === 4 ? `${text}:${port}` : `[${text}]:${port}`;
}
