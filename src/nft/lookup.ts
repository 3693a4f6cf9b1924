// SPDX-License-Identifier: Apache-2.0
//
// Questions about single parts of a ruleset. The kernel looks each up, so that none costs what the whole ruleset would; to a
// part that isn't there it answers ENOENT, and to one in a table or set that isn't there too.
import { attributes, type Message, type Request } from "../netlink/message.ts";
import { nftRequest } from "./message.ts";

const NFT_MSG_GETTABLE = 1;
const NFT_MSG_GETCHAIN = 4;
const NFT_MSG_GETSET = 10;
const NFT_MSG_GETSETELEM = 13;

/** struct nfgenmsg */
const HEADER = 4;

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
  const uses = attributes(body.subarray(HEADER)).get(6);
  if (uses === undefined || uses.length < 4) return 0;
  return new DataView(uses.buffer, uses.byteOffset).getUint32(0);
}

/** What the map has for the key, in an answer to `getElement`; undefined where that is nothing, as in a set. */
export function dataOf({ body }: Message): Uint8Array | undefined {
  let value: Uint8Array | undefined = body.subarray(HEADER);
  // NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM, NFTA_SET_ELEM_DATA, NFTA_DATA_VALUE
  for (const type of [3, 1, 2, 1]) value = value === undefined ? undefined : attributes(value).get(type);
  return value;
}
