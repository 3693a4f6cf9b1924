// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { fromHex } from "../../test/helpers/hex.ts";
import { expectSent } from "../../test/helpers/netlink-golden.ts";
import { parseAddress } from "../net/address.ts";
import { NLM_F_CREATE, NLM_F_EXCL } from "./message.ts";
import { addSourceRule, decodeSourceRule, deleteRule, dumpRules } from "./rule.ts";

const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const KEY = { table: 1234567890, priority: 26220, protocol: 70 };
const TAIL = "08000f00 d2029649  08000600 6c660000  05001500 46000000";
const V4 = `02002000 00000001 00000000  08000200 0af40107  ${TAIL}`;
const V6 = `0a008000 00000001 00000000  14000200 fd000000 00000000 00000000 00000007  ${TAIL}`;

test.for([
  ["ip rule add from 10.244.1.7 lookup 1234567890 pref 26220 protocol 70", "10.244.1.7", V4],
  ["ip -6 rule add from fd00::7 lookup 1234567890 pref 26220 protocol 70", "fd00::7", V6],
] as const)("%s", ([, source, body]) => {
  const request = addSourceRule({ ...KEY, source: parseAddress(source) });
  expectSent(request, { type: RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL, body });
  expect(request.what).toBe(`add rule from ${source} lookup 1234567890`);
});

test("ip rule del lookup 1234567890 pref 26220 protocol 70", () => {
  const body = `02000000 00000000 00000000  ${TAIL}`;
  expectSent(deleteRule({ ...KEY, family: 4 }), { type: RTM_DELRULE, flags: 0, body });
});

test.for([
  ["10.244.1.7", V4],
  ["fd00::7", V6],
] as const)("a rule from %s is read as it was written", ([source, body]) => {
  const message = { type: RTM_NEWRULE, flags: 0, seq: 1, body: fromHex(body) };
  expect(decodeSourceRule(message)).toEqual({ ...KEY, source: parseAddress(source) });
});

test.for<[what: string, body: string, type?: number]>([
  ["is for everybody", "02000000 fe000001 00000000  08000f00 fe000000"],
  ["is for a whole network", "02001800 fe000001 00000000  08000200 0af40100  08000f00 fe000000"],
  ["goes to no table", "02002000 00000007 00000000  08000200 0af40107"],
  ["is of another family", "05002000 fe000001 00000000  08000200 0af40107"],
  ["is cut short", "02002000"],
  ["is no rule", V4, 24],
])("a rule that %s is not one for an address", ([, body, type = RTM_NEWRULE]) => {
  expect(decodeSourceRule({ type, flags: 0, seq: 1, body: fromHex(body) })).toBeUndefined();
});

test("the list of a family's rules is asked for by the family alone", () => {
  expect(dumpRules(6)).toMatchObject({ type: 34, body: fromHex("0a000000 00000000 00000000") });
});
