// SPDX-License-Identifier: Apache-2.0
//
// What the kernel makes of whole tables is in ../hostport/host-ports.kernel.test.ts, in nft's words.
import fc from "fast-check";
import { expect, test } from "vitest";
import { toHex } from "../../test/helpers/hex.ts";
import { attributes, type Request } from "../netlink/message.ts";
import { addElements, concat, type Element, type NftSet, removeElements, replaceTable, type Table } from "./table.ts";

const NEWTABLE = 0xa00;
const DELTABLE = 0xa02;
const NEWSET = 0xa09;
const NEWSETELEM = 0xa0c;

function tableOf(...sets: NftSet[]): Table {
  return { name: "t", sets, chains: [] };
}

function element(n: number): Element {
  return {
    key: concat(Uint8Array.of(6), Uint8Array.of(n >> 8, n & 0xff)),
    data: Uint8Array.of(10, 0, n >> 8, n & 0xff),
  };
}

/** The keys in a list of elements, in hex. */
function keysOf(body: Uint8Array): string[] {
  const keys: string[] = [];
  const list = attributes(body.subarray(4)).get(3) as Uint8Array;
  const view = new DataView(list.buffer, list.byteOffset, list.byteLength);
  for (let at = 0; at < list.length; at += view.getUint16(at, true)) {
    const key = attributes(list.subarray(at + 4, at + view.getUint16(at, true))).get(1) as Uint8Array;
    keys.push(toHex(attributes(key).get(1) as Uint8Array));
  }
  return keys;
}

test("a table is made, deleted and made again in one transaction, so that nothing stays of what was there", () => {
  const [only, ...more] = replaceTable(tableOf());
  expect(more).toEqual([]);
  expect(only?.map(({ type }) => type)).toEqual([NEWTABLE, DELTABLE, NEWTABLE]);
});

test("the parts of a concatenation begin on four bytes each", () => {
  expect([...concat(Uint8Array.of(6), Uint8Array.of(1, 2), Uint8Array.of(1, 2, 3, 4))]).toEqual([
    ...[6, 0, 0, 0],
    ...[1, 2, 0, 0],
    ...[1, 2, 3, 4],
  ]);
});

test("a map says its types as nft does", () => {
  const map: NftSet = {
    name: "m",
    key: ["ipv4_addr", "inet_proto", "inet_service"],
    data: ["ipv6_addr", "inet_service"],
    elements: [],
  };
  const [request] = replaceTable(tableOf(map)).flatMap((one) => one.filter(({ type }) => type === NEWSET));
  const found = attributes((request as Request).body.subarray(4));
  const number = (type: number) => Buffer.from(found.get(type) as Uint8Array).readUInt32BE();
  // Six bits a type: 7 ipv4_addr, 12 inet_proto, 13 inet_service, 8 ipv6_addr.
  expect([number(4), number(5)]).toEqual([(7 << 12) | (12 << 6) | 13, 12]);
  expect([number(6), number(7)]).toEqual([(8 << 6) | 13, 20]);
});

test("elements go where they fit: each once, no attribute too long, no transaction over what a send can be", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 6000 }), (count) => {
      const all = Array.from({ length: count }, (_, n) => element(n));
      const set: NftSet = { name: "m", key: ["inet_proto", "inet_service"], data: ["ipv4_addr"], elements: all };
      const transactions = replaceTable(tableOf(set));
      for (const requests of transactions) {
        const bytes = requests.reduce((sum, { body }) => sum + 16 + body.length, 0);
        expect(bytes).toBeLessThan(200_000);
      }
      const added = transactions.flat().filter(({ type }) => type === NEWSETELEM);
      expect(added.flatMap(({ body }) => keysOf(body))).toEqual(all.map(({ key }) => toHex(key)));
    }),
    { numRuns: 20 },
  );
});

test("what is removed is named by its key alone", () => {
  const [request] = removeElements("t", "m", [element(5)]);
  const list = attributes((request as Request).body.subarray(4)).get(3) as Uint8Array;
  expect([...attributes(list.subarray(4)).keys()]).toEqual([1]);
});

test("nothing to add is no message", () => {
  expect(addElements("t", "m", [])).toEqual([]);
});
