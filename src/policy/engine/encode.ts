// SPDX-License-Identifier: Apache-2.0
//
// A policies' ruleset in nftables' terms. Each rule is made with a mark that says which rule it is and has a hash of what is in it,
// so that what the kernel holds can be compared without understanding expressions. Pure.
import { createHash } from "node:crypto";
import { type Family, parseAddress } from "../../net/address.ts";
import { Body } from "../../netlink/message.ts";
import {
  ACCEPT,
  address,
  COUNTER,
  compare,
  ctStateIs,
  DROP,
  destinationPort,
  type Expression,
  goTo,
  limit,
  logToGroup,
  lookup,
  lookupVerdict,
  mask,
  meta,
  ofFamily,
  payload,
  RETURN,
} from "../../nft/expressions.ts";
import { writeAttributes } from "../../nft/message.ts";
import { type Chain, concat, type Element, markOf, type NftSet, PRIORITY, type Table } from "../../nft/table.ts";
import {
  type ElementKey,
  type KeyType,
  type L4,
  type Match,
  type NamedSet,
  type PacketField,
  POLICY_TABLE,
  type PolicyChain,
  type PolicyRule,
  type Ruleset,
  type Verdict,
} from "../ruleset.ts";

/** What the denied packets' copies have to do with, beside the rules. */
export interface EncodeOptions {
  /** The group of NFLOG that denied packets are sampled to; undefined where the kernel has no NFLOG. */
  readonly logGroup: number | undefined;
}

const PROTOCOLS: Readonly<Record<L4, number>> = { tcp: 6, udp: 17, sctp: 132 };
const IPPROTO_ICMPV6 = 58;
/** Router solicitation to redirect, RFC 4861. */
const NEIGHBOUR_DISCOVERY = { first: 133, last: 137 };
/** FIN, SYN, RST and ACK in the 14th byte of a TCP header, and SYN alone. */
const TCP_FLAGS = { offset: 13, mask: 0x17, syn: 0x02 };
/** Samples of one chain: packets a second, and of a burst. */
const SAMPLES = { perSecond: 1, burst: 5 };
/** Bytes of a sample: both headers, with room for options and extensions. */
export const SAMPLE_BYTES = 128;

export function encodeTable(ruleset: Ruleset, options: EncodeOptions): Table {
  return {
    name: POLICY_TABLE,
    sets: [...ruleset.sets.values()].map(encodeSet),
    chains: [...ruleset.chains.values()].map((chain) => encodeChain(chain, options)),
  };
}

export function encodeSet(set: NamedSet): NftSet {
  const { name, key } = set;
  if (set.kind === "map") {
    const elements = [...set.elements].flatMap(([text, chain]) => encodeElement(set, text, chain));
    return { name, key, data: "verdict", elements };
  }
  const elements = [...set.elements].flatMap((text) => encodeElement(set, text));
  return { name, key, ...(set.interval && { interval: true as const }), elements };
}

/** More than one where the set has them as the two ends of an interval. */
export function encodeElement(set: NamedSet, text: ElementKey, chain?: string): Element[] {
  const fields = text.split(" . ").map((field, i) => encodeField(set.key[i] as KeyType, field));
  const key = concat(...fields.map(({ first }) => first));
  if (set.kind === "map") return [{ key, ...(chain !== undefined && { jump: chain }) }];
  if (!set.interval) return [{ key }];
  const last = concat(...fields.map((field) => field.last));
  if (set.key.length > 1) return [{ key, keyEnd: last }];
  const end = successor(last);
  return end === undefined ? [{ key }] : [{ key }, { key: end, intervalEnd: true }];
}

function encodeField(type: KeyType, text: string): { first: Uint8Array; last: Uint8Array } {
  const [first = "", last = first] = text.split("-");
  return { first: encodeValue(type, first), last: encodeValue(type, last) };
}

function encodeValue(type: KeyType, text: string): Uint8Array {
  switch (type) {
    case "ipv4_addr":
    case "ipv6_addr":
      return parseAddress(text);
    case "inet_proto":
      return Uint8Array.of(PROTOCOLS[text as L4]);
    case "inet_service":
      return port(Number(text));
  }
}

/** The next larger number of as many bytes; undefined behind the largest. */
function successor(bytes: Uint8Array): Uint8Array | undefined {
  const next = Uint8Array.from(bytes);
  for (let i = next.length - 1; i >= 0; i--) {
    next[i] = ((next[i] as number) + 1) & 0xff;
    if (next[i] !== 0) return next;
  }
  return undefined;
}

/** What a sample says of who denied it: the chain, and which of its rules where one of a policy's did. */
function sampleName({ name, rules }: PolicyChain, place: number): string {
  return rules[place]?.origins.length === 0 ? name : `${name} ${place}`;
}

/** A chain and the place of its rule, of what a sample says; undefined where what no rule allowed was denied. */
export function sampledAt(text: string): { readonly chain: string; readonly place: number | undefined } {
  const [chain = "", place] = text.split(" ");
  return { chain, place: place === undefined ? undefined : Number(place) };
}

export function encodeChain(chain: PolicyChain, { logGroup }: EncodeOptions): Chain {
  const rules: (readonly Expression[])[] = [];
  const marks: Uint8Array[] = [];
  const push = (place: string, rule: readonly Expression[]) => {
    rules.push(rule);
    marks.push(markOf(`${chain.name} ${place} ${hashOf(rule)}`));
  };
  for (const [i, rule] of chain.rules.entries()) {
    const matches = encodeMatches(chain, rule);
    if (rule.counted && rule.verdict.kind === "drop" && logGroup !== undefined) {
      // A rule of its own, because a rate that is exceeded ends a rule.
      const name = sampleName(chain, i);
      const sample = [limit(SAMPLES.perSecond, SAMPLES.burst), logToGroup(logGroup, name, SAMPLE_BYTES)];
      push(`${i}l`, [...matches, ...sample]);
    }
    push(`${i}`, [...matches, ...(rule.counted ? [COUNTER] : []), ...encodeVerdict(rule.verdict)]);
  }
  const { name, hook } = chain;
  const at = hook && { type: "filter" as const, at: hook, priority: PRIORITY.filter };
  return { name, ...(at !== undefined && { hook: at }), rules, marks };
}

/** The place of a rule in its chain's `rules`, as its mark says it; undefined for a sample's, or anybody else's. */
export function placeIn(mark: string): number | undefined {
  const place = mark.split(" ")[1] ?? "";
  return /^\d+$/.test(place) ? Number(place) : undefined;
}

function hashOf(rule: readonly Expression[]): string {
  const hash = createHash("sha256");
  for (const { name, attributes } of rule) hash.update(name).update(writeAttributes(new Body(), attributes).done());
  return hash.digest("hex").slice(0, 16);
}

function encodeMatches(chain: PolicyChain, { matches, verdict }: PolicyRule): Expression[] {
  const said = matches.find((match) => match.kind === "family");
  const family = said?.family ?? chain.family;
  const expressions: Expression[] = [];
  // Of each rule that looks at addresses: nft can't say what it looks at otherwise.
  const looks =
    verdict.kind === "vmap" || matches.some((match) => match.kind === "lookup" && match.fields.some(isAddress));
  if (said !== undefined || looks) expressions.push(...ofFamily(required(chain, family)));
  for (const match of matches) expressions.push(...encodeMatch(match, () => required(chain, family)));
  if (verdict.kind === "vmap") expressions.push(address(required(chain, family), verdict.field));
  return expressions;
}

function isAddress(field: PacketField): boolean {
  return field === "saddr" || field === "daddr";
}

function required({ name }: PolicyChain, family: Family | undefined): Family {
  if (family !== undefined) return family;
  throw new Error(`chain ${name} looks at addresses without a family`);
}

function encodeMatch(match: Match, family: () => Family): Expression[] {
  switch (match.kind) {
    case "family":
      return [];
    case "lookup":
      return [...loads(match.fields, family), lookup(match.set)];
    case "l4proto":
      return [meta("l4proto"), compare(Uint8Array.of(PROTOCOLS[match.protocol]))];
    case "dport":
      if (match.first === match.last) return [destinationPort(0), compare(port(match.first))];
      return [destinationPort(0), compare(port(match.first), "gte"), compare(port(match.last), "lte")];
    case "ctState":
      return ctStateIs(match.states);
    case "midstream":
      return [
        meta("l4proto"),
        compare(Uint8Array.of(PROTOCOLS.tcp)),
        payload("transport", TCP_FLAGS.offset, 1),
        mask(Uint8Array.of(TCP_FLAGS.mask)),
        compare(Uint8Array.of(TCP_FLAGS.syn), "neq"),
      ];
    case "neighbourDiscovery":
      return [
        meta("l4proto"),
        compare(Uint8Array.of(IPPROTO_ICMPV6)),
        payload("transport", 0, 1),
        compare(Uint8Array.of(NEIGHBOUR_DISCOVERY.first), "gte"),
        compare(Uint8Array.of(NEIGHBOUR_DISCOVERY.last), "lte"),
      ];
  }
}

/** Each field into the registers behind the one before. */
function loads(fields: readonly PacketField[], family: () => Family): Expression[] {
  const expressions: Expression[] = [];
  let word = 0;
  for (const field of fields) {
    expressions.push(load(field, family, word));
    word += isAddress(field) && family() === 6 ? 4 : 1;
  }
  return expressions;
}

function load(field: PacketField, family: () => Family, into: number): Expression {
  switch (field) {
    case "saddr":
    case "daddr":
      return address(family(), field, into);
    case "l4proto":
      return meta("l4proto", into);
    case "dport":
      return destinationPort(into);
  }
}

function encodeVerdict(verdict: Verdict): Expression[] {
  switch (verdict.kind) {
    case "accept":
      return [ACCEPT];
    case "return":
      return [RETURN];
    case "drop":
      return [DROP];
    case "goto":
      return [goTo(verdict.chain)];
    case "vmap":
      return [lookupVerdict(verdict.map)];
  }
}

function port(number: number): Uint8Array {
  return Uint8Array.of(number >> 8, number & 0xff);
}
