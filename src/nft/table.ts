// SPDX-License-Identifier: Apache-2.0
//
// A ruleset as data, and the messages that put it in the kernel: as a whole, leaving nothing of what was there, or a few
// elements of its sets. All tables are of family inet.
import { ROUTE_PROTOCOL } from "../net/names.ts";
import { NLM_F_APPEND, NLM_F_CREATE, type Request } from "../netlink/message.ts";
import { type Expression, jumpTo } from "./expressions.ts";
import { type Attribute, nftRequest } from "./message.ts";

/** A ruleset. Sets and chains may name each other in any order. */
export interface Table {
  readonly name: string;
  readonly sets: readonly NftSet[];
  readonly chains: readonly Chain[];
}

/** A set, or a map where it has `data`. Several types make a concatenation, `ipv4_addr . inet_service`. */
export interface NftSet {
  readonly name: string;
  readonly key: readonly DataType[];
  /** "verdict": its elements are chains that are jumped to. */
  readonly data?: readonly DataType[] | "verdict";
  /**
   * Of one type: its elements are the ends of intervals, which must not touch. Of several: each element has a range in each
   * field, from `key` to `keyEnd` (Linux 5.6).
   */
  readonly interval?: true;
  readonly elements: readonly Element[];
}

/** One element; `concat` makes key and data. */
export interface Element {
  readonly key: Uint8Array;
  /** The last values of a concatenation's ranges. */
  readonly keyEnd?: Uint8Array;
  readonly data?: Uint8Array;
  /** The chain that a map of verdicts jumps to. */
  readonly jump?: string;
  /** The first key behind an interval, not one in it. */
  readonly intervalEnd?: true;
}

/** A chain, which packets get to by a jump, or from the kernel where it has a hook. The policy is to accept. */
export interface Chain {
  readonly name: string;
  readonly hook?: Hook;
  /** Each with its text in nft's words in a comment beside it. */
  readonly rules: readonly (readonly Expression[])[];
  /** What each rule is known by; `ruleMark` of its place where there are none. */
  readonly marks?: readonly Uint8Array[];
}

export interface Hook {
  readonly type: "filter" | "nat";
  readonly at: keyof typeof HOOKS;
  readonly priority: number;
}

/** NF_INET_* hooks of include/uapi/linux/netfilter.h. */
const HOOKS = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;

/** nft's names of priorities (include/uapi/linux/netfilter_ipv4.h, enum nf_ip_hook_priorities). */
export const PRIORITY = { raw: -300, dstnat: -100, filter: 0, srcnat: 100 } as const;

/** nft's own numbers of types, which the kernel only keeps for it, and lengths in bytes. */
const TYPES = {
  ipv4_addr: { id: 7, bytes: 4 },
  ipv6_addr: { id: 8, bytes: 16 },
  inet_proto: { id: 12, bytes: 1 },
  inet_service: { id: 13, bytes: 2 },
} as const;

export type DataType = keyof typeof TYPES;

const NFT_MSG_NEWTABLE = 0;
const NFT_MSG_DELTABLE = 2;
const NFT_MSG_NEWCHAIN = 3;
const NFT_MSG_DELCHAIN = 5;
const NFT_MSG_NEWRULE = 6;
const NFT_MSG_DELRULE = 8;
const NFT_MSG_NEWSET = 9;
const NFT_MSG_DELSET = 11;
const NFT_MSG_NEWSETELEM = 12;
const NFT_MSG_DELSETELEM = 14;

const NFT_SET_INTERVAL = 4;
const NFT_SET_MAP = 8;
const NFT_SET_CONCAT = 0x80;
/** Of a map's data: no type, but a verdict. */
const NFT_DATA_VERDICT = 0xffffff00;
const NFT_SET_ELEM_INTERVAL_END = 1;
/** Of the user data of our rules: the number that our routes have as their protocol. */
const USERDATA_TYPE = ROUTE_PROTOCOL;
const NF_ACCEPT = 1;

/** Of one message, so that the 16 bits of an attribute's length are enough. */
const ELEMENTS_PER_MESSAGE = 256;
/** Of one transaction's messages together: it is one send, which has to fit net.core.wmem_default (212992 bytes). */
const TRANSACTION_BYTES = 128 * 1024;

/** The parts of a concatenation as it lies in registers: each on a boundary of 32 bits. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + padded(part.length), 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += padded(part.length);
  }
  return bytes;
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

/**
 * The transactions that leave exactly this ruleset in the table, whatever was in it: made so that it can be deleted,
 * deleted, made again. Nearly always it is one; elements that don't fit it are added by more.
 */
export function replaceTable(table: Table): Request[][] {
  const structure = makeTable(table);
  const transactions = [structure];
  let bytes = structure.reduce((sum, { body }) => sum + body.length, 0);
  for (const request of elementsOf(table)) {
    bytes += request.body.length;
    if (bytes > TRANSACTION_BYTES) {
      transactions.push([]);
      bytes = request.body.length;
    }
    transactions.at(-1)?.push(request);
  }
  return transactions;
}

/** The same as one transaction, however long: for a socket that can send it. */
export function replaceTableAtOnce(table: Table): Request[] {
  return [...makeTable(table), ...elementsOf(table)];
}

/** All of it but the elements. */
function makeTable({ name, sets, chains }: Table): Request[] {
  return [
    ...removeTable(name),
    nftRequest(NFT_MSG_NEWTABLE, NLM_F_CREATE, [[1, name]], `make nftables table ${name}`),
    ...addSets(name, sets),
    ...addChains(name, chains),
  ];
}

function elementsOf({ name, sets }: Table): Request[] {
  return sets.flatMap((set) => addElements(name, set.name, set.elements));
}

/** Makes sets, without their elements, in a table that is there. Only one such list in a transaction. */
export function addSets(table: string, sets: readonly NftSet[]): Request[] {
  return sets.map((set, i) => newSet(table, set, i + 1));
}

/** Removes sets that no rule names any more. */
export function removeSets(table: string, names: readonly string[]): Request[] {
  return names.map((name) =>
    nftRequest(
      NFT_MSG_DELSET,
      0,
      [
        [1, table],
        [2, name],
      ],
      `remove nftables set ${table} ${name}`,
    ),
  );
}

/** Puts other rules in the place of a chain's. */
export function replaceRules(table: string, chain: Chain): Request[] {
  return [flushChain(table, chain.name), ...rulesOf(table, chain)];
}

/** Removes chains with their rules, which may name each other. Nobody else may jump to them any more. */
export function removeChains(table: string, names: readonly string[]): Request[] {
  return [
    ...names.map((name) => flushChain(table, name)),
    ...names.map((name) =>
      nftRequest(
        NFT_MSG_DELCHAIN,
        0,
        [
          [1, table],
          [3, name],
        ],
        `remove nftables chain ${table} ${name}`,
      ),
    ),
  ];
}

function flushChain(table: string, name: string): Request {
  const attributes: Attribute[] = [
    [1, table],
    [2, name],
  ];
  return nftRequest(NFT_MSG_DELRULE, 0, attributes, `empty nftables chain ${table} ${name}`);
}

/** Makes chains with their rules in a table that is there. */
export function addChains(table: string, chains: readonly Chain[]): Request[] {
  return [...chains.map((chain) => newChain(table, chain)), ...chains.flatMap((chain) => rulesOf(table, chain))];
}

function rulesOf(table: string, chain: Chain): Request[] {
  return chain.rules.map((rule, i) => newRule(table, chain, rule, i));
}

/** The messages that leave no such table, whether there was one or not. */
export function removeTable(name: string): Request[] {
  return [
    nftRequest(NFT_MSG_NEWTABLE, NLM_F_CREATE, [[1, name]], `make nftables table ${name}`),
    nftRequest(NFT_MSG_DELTABLE, 0, [[1, name]], `clear nftables table ${name}`),
  ];
}

/** Adds elements to a set. One that is there already with other data is refused (EBUSY). */
export function addElements(table: string, set: string, elements: readonly Element[]): Request[] {
  return elementRequests(NFT_MSG_NEWSETELEM, NLM_F_CREATE, table, set, elements, "add to");
}

/** Removes elements by their keys. One that isn't there is refused (ENOENT). */
export function removeElements(table: string, set: string, elements: readonly Element[]): Request[] {
  const keys = elements.map(({ data: _, jump: __, ...rest }) => rest);
  return elementRequests(NFT_MSG_DELSETELEM, 0, table, set, keys, "remove from");
}

function elementRequests(
  type: number,
  flags: number,
  table: string,
  set: string,
  elements: readonly Element[],
  what: string,
): Request[] {
  const requests: Request[] = [];
  for (let at = 0; at < elements.length; at += ELEMENTS_PER_MESSAGE) {
    const list = elements.slice(at, at + ELEMENTS_PER_MESSAGE).map((element): Attribute => {
      const { key, keyEnd, data, jump, intervalEnd } = element;
      const value: Attribute[] = data === undefined ? [] : [[2, [[1, data]]]];
      const verdict: Attribute[] = jump === undefined ? [] : [[2, [[2, jumpTo(jump)]]]];
      const end: Attribute[] = intervalEnd ? [[3, NFT_SET_ELEM_INTERVAL_END]] : [];
      const last: Attribute[] = keyEnd === undefined ? [] : [[10, [[1, keyEnd]]]];
      return [1, [[1, [[1, key]]], ...value, ...verdict, ...end, ...last]];
    });
    const attributes: Attribute[] = [
      [1, table],
      [2, set],
      [3, list],
    ];
    requests.push(nftRequest(type, flags, attributes, `${what} nftables set ${table} ${set}`));
  }
  return requests;
}

/** @param id tells sets that one transaction makes from each other */
function newSet(table: string, { name, key, data, interval }: NftSet, id: number): Request {
  const ranges = interval && key.length > 1;
  const attributes: Attribute[] = [
    [1, table],
    [2, name],
    [3, (data === undefined ? 0 : NFT_SET_MAP) | (interval ? NFT_SET_INTERVAL : 0) | (ranges ? NFT_SET_CONCAT : 0)],
    [4, typeIdOf(key)],
    [5, typeBytes(key)],
  ];
  if (data === "verdict") attributes.push([6, NFT_DATA_VERDICT]);
  else if (data !== undefined) attributes.push([6, typeIdOf(data)], [7, typeBytes(data)]);
  // NFTA_SET_DESC_CONCAT: the length of each field, without which the kernel can't find their borders.
  if (ranges) attributes.push([9, [[2, key.map((type): Attribute => [1, [[1, TYPES[type].bytes]]])]]]);
  attributes.push([10, id]);
  return nftRequest(NFT_MSG_NEWSET, NLM_F_CREATE, attributes, `make nftables set ${table} ${name}`);
}

/** nft packs the types of a concatenation in six bits each. */
export function typeIdOf(types: readonly DataType[]): number {
  return types.reduce((id, type) => (id << 6) | TYPES[type].id, 0);
}

function typeBytes(types: readonly DataType[]): number {
  return types.reduce((bytes, type) => bytes + padded(TYPES[type].bytes), 0);
}

function newChain(table: string, { name, hook }: Chain): Request {
  const attributes: Attribute[] = [
    [1, table],
    [3, name],
  ];
  if (hook !== undefined) {
    const place: Attribute[] = [
      [1, HOOKS[hook.at]],
      [2, hook.priority >>> 0],
    ];
    attributes.push([4, place], [5, NF_ACCEPT], [7, hook.type]);
  }
  return nftRequest(NFT_MSG_NEWCHAIN, NLM_F_CREATE, attributes, `make nftables chain ${table} ${name}`);
}

/**
 * What the n-th rule of a chain, from 0, is known by. The kernel keeps it with the rule and doesn't look at it. A rule is
 * never changed, only made anew, and whoever makes one with nft makes it without this: nft's own user data are comments
 * (libnftnl, struct nftnl_udata: a type, a length, a value), and it passes over types that it doesn't know.
 */
export function ruleMark(chain: string, n: number): Uint8Array {
  return markOf(`${chain} ${n}`);
}

/** @param text 254 bytes at most */
export function markOf(text: string): Uint8Array {
  const value = new TextEncoder().encode(text);
  return Uint8Array.of(USERDATA_TYPE, value.length, ...value);
}

/** The text of a mark of ours; undefined where it is anybody else's. */
export function textOfMark(mark: Uint8Array): string | undefined {
  if (mark[0] !== USERDATA_TYPE || mark[1] !== mark.length - 2) return undefined;
  return new TextDecoder().decode(mark.subarray(2));
}

function newRule(table: string, { name, marks }: Chain, rule: readonly Expression[], n: number): Request {
  const expressions = rule.map((expression): Attribute => {
    const data: Attribute[] = expression.attributes.length === 0 ? [] : [[2, expression.attributes]];
    return [1, [[1, expression.name], ...data]];
  });
  const attributes: Attribute[] = [
    [1, table],
    [2, name],
    [4, expressions],
    [7, marks?.[n] ?? ruleMark(name, n)],
  ];
  return nftRequest(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, attributes, `make a rule of nftables chain ${name}`);
}
