// SPDX-License-Identifier: Apache-2.0
//
// What is in a table: the requests to be dumped, and their answers. Each message of a dump is one chain, rule or set, or some
// of a set's elements.
import { attributes, attrText, type Message, type Request } from "../netlink/message.ts";
import { type Attribute, nftRequest } from "./message.ts";

const NFT_MSG_GETCHAIN = 4;
const NFT_MSG_GETSET = 10;
const NFT_MSG_GETSETELEM = 13;
const NFT_MSG_GETGEN = 16;

/** struct nfgenmsg */
const HEADER = 4;
const NFT_SET_ELEM_INTERVAL_END = 1;

/** Not to be dumped: the number of the namespace's ruleset, another after each transaction of anybody's. */
export const GET_GENERATION: Request = nftRequest(NFT_MSG_GETGEN, 0, [], "look up the generation of nftables");

/** NFTA_GEN_ID */
export function generationOf({ body }: Message): number | undefined {
  return u32(attributes(body.subarray(HEADER)).get(1));
}

/** All chains of tables of family inet: the kernel gives those of all tables. */
export const LIST_CHAINS: Request = nftRequest(NFT_MSG_GETCHAIN, 0, [], "list nftables chains");

export function listSets(table: string): Request {
  return nftRequest(NFT_MSG_GETSET, 0, [[1, table]], `list the sets of nftables table ${table}`);
}

export function listElements(table: string, set: string): Request {
  const of: Attribute[] = [
    [1, table],
    [2, set],
  ];
  return nftRequest(NFT_MSG_GETSETELEM, 0, of, `list nftables set ${table} ${set}`);
}

export interface FoundChain {
  readonly table: string;
  readonly name: string;
  /** Where it is a base chain: NF_INET_* and the priority. */
  readonly hook: { readonly number: number; readonly priority: number } | undefined;
}

export function chainOf({ body }: Message): FoundChain {
  const found = attributes(body.subarray(HEADER));
  const hook = found.get(4);
  const inHook = hook === undefined ? undefined : attributes(hook);
  return {
    table: textAt(found, 1),
    name: textAt(found, 3),
    hook: inHook && { number: u32(inHook.get(1)) ?? -1, priority: (u32(inHook.get(2)) ?? 0) | 0 },
  };
}

export interface FoundRule {
  readonly chain: string;
  /** What it was made with; undefined where that is nothing. */
  readonly mark: Uint8Array | undefined;
  /** Of its first counter; undefined where it has none. */
  readonly counter: { readonly packets: bigint; readonly bytes: bigint } | undefined;
}

/** An answer to `listRules`. */
export function foundRule({ body }: Message): FoundRule {
  const found = attributes(body.subarray(HEADER));
  return { chain: textAt(found, 2), mark: found.get(7), counter: counterIn(found.get(4)) };
}

/** NFTA_RULE_EXPRESSIONS: NFTA_LIST_ELEM each, with NFTA_EXPR_NAME and NFTA_EXPR_DATA. */
function counterIn(expressions: Uint8Array | undefined): FoundRule["counter"] {
  for (const [, element] of list(expressions)) {
    const expression = attributes(element);
    const data = expression.get(2);
    if (data === undefined || textAt(expression, 1) !== "counter") continue;
    const counter = attributes(data);
    return { bytes: u64(counter.get(1)), packets: u64(counter.get(2)) };
  }
  return undefined;
}

export interface FoundSet {
  readonly name: string;
  /** NFT_SET_*. */
  readonly flags: number;
  /** nft's number of its types. */
  readonly keyType: number;
}

export function setOf({ body }: Message): FoundSet {
  const found = attributes(body.subarray(HEADER));
  return { name: textAt(found, 2), flags: u32(found.get(3)) ?? 0, keyType: u32(found.get(4)) ?? 0 };
}

export interface FoundElement {
  readonly key: Uint8Array;
  readonly keyEnd: Uint8Array | undefined;
  readonly intervalEnd: boolean;
  /** The chain of a verdict. */
  readonly chain: string | undefined;
}

export function elementsIn({ body }: Message): FoundElement[] {
  const elements: FoundElement[] = [];
  for (const [, bytes] of list(attributes(body.subarray(HEADER)).get(3))) {
    const element = attributes(bytes);
    const key = valueIn(element.get(1));
    if (key === undefined) continue;
    const data = element.get(2);
    const verdict = data && attributes(data).get(2);
    const chain = verdict && attributes(verdict).get(2);
    elements.push({
      key,
      keyEnd: valueIn(element.get(10)),
      intervalEnd: ((u32(element.get(3)) ?? 0) & NFT_SET_ELEM_INTERVAL_END) !== 0,
      chain: chain && attrText(chain),
    });
  }
  return elements;
}

/** NFTA_DATA_VALUE */
function valueIn(data: Uint8Array | undefined): Uint8Array | undefined {
  return data && attributes(data).get(1);
}

/** Attributes of which several have one type. */
function* list(bytes: Uint8Array | undefined): Generator<readonly [type: number, value: Uint8Array]> {
  if (bytes === undefined) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) return;
    yield [view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length)];
    at += (length + 3) & ~3;
  }
}

function textAt(found: ReadonlyMap<number, Uint8Array>, type: number): string {
  const value = found.get(type);
  return value === undefined ? "" : attrText(value);
}

/** In network order. */
function u32(value: Uint8Array | undefined): number | undefined {
  if (value === undefined || value.length < 4) return undefined;
  return new DataView(value.buffer, value.byteOffset).getUint32(0);
}

function u64(value: Uint8Array | undefined): bigint {
  if (value === undefined || value.length < 8) return 0n;
  return new DataView(value.buffer, value.byteOffset).getBigUint64(0);
}
