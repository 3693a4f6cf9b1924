// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { fromHex, toHex } from "../../test/helpers/hex.ts";
import { parseAddress } from "../net/address.ts";
import { decodeFlow, deleteFlow, deleteFlows, LIST_ALL_FLOWS, listFlows } from "./conntrack.ts";
import type { Message } from "./message.ts";

/** A datagram to 127.0.0.1 port 53 that was translated to 127.0.0.3 port 5353, as Linux 6.18 dumps it. */
const TRANSLATED = fromHex(`
  02000000 34000180 14000180 08000100 7f000001 08000200 7f000001 1c000280 05000100 11000000 06000200 cdf30000 06000300
  00350000 34000280 14000180 08000100 7f000003 08000200 7f000001 1c000280 05000100 11000000 06000200 14e90000 06000300
  cdf30000 08000300 000001a8 08000800 00000000 08000c00 5fd2859a 08000b00 00000001 08000700 0000001d`);

function message(body: Uint8Array, type = 0x100): Message {
  return { type, flags: 2, seq: 1, body };
}

test("a dumped connection is read in both directions", () => {
  const flow = decodeFlow(message(TRANSLATED));
  const bytes = (text: string) => Buffer.from(parseAddress(text)).toString("hex");
  const readable = (tuple: NonNullable<typeof flow>["original"]) => ({
    ...tuple,
    source: Buffer.from(tuple.source).toString("hex"),
    destination: Buffer.from(tuple.destination).toString("hex"),
  });
  expect(flow?.family).toBe(4);
  expect(readable(flow?.original as never)).toEqual({
    source: bytes("127.0.0.1"),
    destination: bytes("127.0.0.1"),
    protocol: 17,
    sourcePort: 52_723,
    destinationPort: 53,
  });
  expect(readable(flow?.reply as never)).toEqual({
    source: bytes("127.0.0.3"),
    destination: bytes("127.0.0.1"),
    protocol: 17,
    sourcePort: 5353,
    destinationPort: 52_723,
  });
});

test("a connection is deleted by its own tuple and ID", () => {
  const flow = decodeFlow(message(TRANSLATED));
  expect(toHex(deleteFlow(flow as never).body)).toBe(
    toHex(
      fromHex(`02010000 34000180 14000180 08000100 7f000001 08000200 7f000001 1c000280 05000100 11000000 06000200 cdf30000
        06000300 00350000 08000c00 5fd2859a`),
    ),
  );
});

test.each([
  ["another message", message(TRANSLATED, 0x102)],
  ["another family", message(Uint8Array.of(7, ...TRANSLATED.subarray(1)))],
  ["a message without tuples", message(TRANSLATED.subarray(0, 4))],
  ["half a tuple", message(TRANSLATED.subarray(0, 40))],
  ["nothing", message(new Uint8Array())],
])("%s is no connection", (_what, odd) => {
  expect(decodeFlow(odd)).toBeUndefined();
});

test("a filter says which fields count, in both directions", () => {
  const filter = {
    family: 6,
    original: { protocol: 17, destinationPort: 8080 },
    reply: { source: parseAddress("fd00:77:1::2") },
  } as const;
  const body = toHex(
    fromHex(`0a010000
      18000180 14000280 05000100 11000000 06000300 1f900000
      1c000280 18000180 14000300 fd000077 00010000 00000000 00000002
      14001980 08000100 28000000 08000200 01000000`),
  );
  expect(toHex(listFlows(filter).body)).toBe(body);
  expect(toHex(deleteFlows(filter).body)).toBe(body);
});

test("nothing can be deleted by a filter that filters nothing", () => {
  expect(() => deleteFlows({ family: 4 })).toThrow(RangeError);
  expect(() => deleteFlows({ family: 4, original: {}, reply: {} })).toThrow(RangeError);
});

test("the list of all is of both families", () => {
  expect([...LIST_ALL_FLOWS.body]).toEqual([0, 0, 0, 0]);
});
