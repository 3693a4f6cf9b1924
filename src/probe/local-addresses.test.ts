// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import type { InterfaceAddress } from "../netlink/address.ts";
import { changesOf } from "./local-addresses.ts";

const at = (index: number, text: string, protocol?: number): InterfaceAddress => {
  const address = parseAddress(text);
  return { index, address, length: address.length * 8, usable: true, protocol };
};
const whats = (wanted: string[], there: InterfaceAddress[]) =>
  changesOf(wanted.map(parseAddress), there).map(({ what }) => what);

test("what is missing on lo is added, and what is ours and of no use any more goes", () => {
  expect(whats(["10.244.1.0", "fd00:1::"], [at(1, "127.0.0.1"), at(1, "10.244.9.0", 70)])).toEqual([
    "add address 10.244.1.0/32 to lo",
    "add address fd00:1::/128 to lo",
    "delete address 10.244.9.0/32 from lo",
  ]);
});

test("what is there stays, whoever made it; so does everybody else's, and what other links have", () => {
  const there = [at(1, "10.244.1.0", 70), at(1, "fd00:1::"), at(1, "10.1.1.1"), at(2, "10.244.9.0", 70)];
  expect(whats(["10.244.1.0", "fd00:1::"], there)).toEqual([]);
});

test("an address that only another link has is missing", () => {
  expect(whats(["10.244.1.0"], [at(2, "10.244.1.0")])).toEqual(["add address 10.244.1.0/32 to lo"]);
});
