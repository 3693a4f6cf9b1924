// SPDX-License-Identifier: Apache-2.0
//
// Questions about single parts of a ruleset. The kernel looks each up, so that none costs what the whole ruleset would; to a
// part that isn't there it answers ENOENT, and to one in a table or set that isn't there too.
import { attributes, attrText, type Message, type Request } from "../netlink/message.ts";
import { nftRequest } from "./message.ts";

const NFT_MSG_GETTABLE = 1;
const NFT_MSG_GETCHAIN = 4;
const NFT_MSG_GETRULE = 7;
const NFT_MSG_GETSET = 10;
const NFT_MSG_GETSETELEM = 13;

/** struct nfgenmsg */
const HEADER = 4;

const NFT_TABLE_F_DORMANT = 1;
const NF_DROP = 0;

export function getTable(table: string): Request {
  return nftRequest(NFT_MSG_GETTABLE, 0, [[1, table]], `look up nftables table ${table}`);
}

export function getChain(table: string, chain: string): Request {
  return nftRequest(
    NFT_MSG_GETCHAIN,
    0,
    [
      [1, table],
      [3, chain],
    ],
    `look up nftables chain ${table} ${chain}`,
  );
}

/** For a dump: all rules of the table, those of a chain in their order. */
export function listRules(table: string): Request {
  return nftRequest(NFT_MSG_GETRULE, 0, [[1, table]], `list the rules of nftables table ${table}`);
}

export function getSet(table: string, set: string): Request {
  return nftRequest(
    NFT_MSG_GETSET,
    0,
    [
      [1, table],
      [2, set],
    ],
    `look up nftables set ${table} ${set}`,
  );
}

/** @param key as `concat` makes it */
export function getElement(table: string, set: string, key: Uint8Array): Request {
  return nftRequest(
    NFT_MSG_GETSETELEM,
    0,
    [
      [1, table],
      [2, set],
      [3, [[1, [[1, [[1, key]]]]]]],
    ],
    `look up an element of nftables set ${table} ${set}`,
  );
}

/** How often a chain is used, in an answer to `getChain`: once by each of its rules, once by each jump to it (NFTA_CHAIN_USE). */
export function usesOf({ body }: Message): number {
  return numberAt(body, 6) ?? 0;
}

/** A rule, as far as it says whose it is. */
export interface RuleIdentity {
  readonly chain: string;
  /** What it was made with, `ruleMark` where we made it; absent with nothing. */
  readonly mark?: Uint8Array;
}

/** An answer to `listRules` (NFTA_RULE_CHAIN, NFTA_RULE_USERDATA). */
export function ruleOf({ body }: Message): RuleIdentity {
  const found = attributes(body.subarray(HEADER));
  const [chain, mark] = [found.get(2), found.get(7)];
  return { chain: chain === undefined ? "" : attrText(chain), ...(mark !== undefined && { mark }) };
}

/** Whether none of the table's chains sees a packet, in an answer to `getTable` (NFTA_TABLE_FLAGS). */
export function isDormant({ body }: Message): boolean {
  return ((numberAt(body, 2) ?? 0) & NFT_TABLE_F_DORMANT) !== 0;
}

/** Whether the chain drops what its rules leave undecided, in an answer to `getChain` (NFTA_CHAIN_POLICY). */
export function drops({ body }: Message): boolean {
  return numberAt(body, 5) === NF_DROP;
}

function numberAt(body: Uint8Array, type: number): number | undefined {
  const value = attributes(body.subarray(HEADER)).get(type);
  if (value === undefined || value.length < 4) return undefined;
  return new DataView(value.buffer, value.byteOffset).getUint32(0);
}

/** What the map has for the key, in an answer to `getElement`; undefined where that is nothing, as in a set. */
export function dataOf({ body }: Message): Uint8Array | undefined {
  let value: Uint8Array | undefined = body.subarray(HEADER);
  // NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM, NFTA_SET_ELEM_DATA, NFTA_DATA_VALUE
  for (const type of [3, 1, 2, 1]) value = value === undefined ? undefined : attributes(value).get(type);
  return value;
}
