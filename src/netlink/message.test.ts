// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex, toHex } from "../../test/helpers/hex.ts";
import {
  attributes,
  attrText,
  attrU32,
  Body,
  decodeAck,
  decodeMessages,
  encodeBatch,
  type Message,
  NetlinkError,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  type Request,
} from "./message.ts";

const requests: fc.Arbitrary<Request> = fc.record({
  type: fc.nat(0xffff),
  flags: fc.nat(0xffff),
  body: fc.uint8Array({ maxLength: 70 }),
  what: fc.constant("test"),
});

function only(datagram: Uint8Array): Message {
  const messages = decodeMessages(datagram);
  expect(messages).toHaveLength(1);
  return messages[0] as Message;
}

test("a batch is taken apart into the requests it was made of", () => {
  fc.assert(
    fc.property(fc.array(requests, { maxLength: 10 }), fc.nat(0xffffffff), (batch, seq) => {
      const messages = decodeMessages(encodeBatch(batch, seq));
      expect(messages.map(({ type, flags, body }) => ({ type, flags, body: [...body] }))).toEqual(
        batch.map(({ type, flags, body }) => ({ type, flags: flags | NLM_F_REQUEST | NLM_F_ACK, body: [...body] })),
      );
      expect(messages.map((message) => message.seq)).toEqual(batch.map((_, i) => (seq + i) % 2 ** 32));
    }),
  );
});

test("a request's header has its length, type, flags and number, and no sender", () => {
  const request = { type: 0x18, flags: NLM_F_CREATE | NLM_F_EXCL, body: new Uint8Array([1, 2, 3, 4, 5]), what: "" };
  // Two of them: the first is padded to four bytes, which its length does not count.
  expect(toHex(encodeBatch([request, { ...request, flags: 0 }], 7))).toBe(
    toHex(
      fromHex(`15000000 1800 0506 07000000 00000000  0102030405 000000
               15000000 1800 0500 08000000 00000000  0102030405 000000`),
    ),
  );
});

test("attributes of a body are found again, nested ones inside", () => {
  const type = fc.integer({ min: 1, max: 0x3fff });
  const list = fc.uniqueArray(fc.tuple(type, fc.uint8Array({ maxLength: 40 })), {
    selector: ([type]) => type,
    maxLength: 12,
  });
  fc.assert(
    fc.property(list, list, type, fc.boolean(), (outer, inner, nested, flag) => {
      fc.pre(outer.every(([type]) => type !== nested));
      const body = new Body();
      for (const [type, value] of outer) body.attr(type, value);
      body.nest(
        nested,
        (data) => {
          for (const [type, value] of inner) data.attr(type, value);
        },
        flag,
      );
      const found = attributes(body.done());
      for (const [type, value] of outer) expect(found.get(type)).toEqual(value);
      expect([...attributes(found.get(nested) ?? new Uint8Array())]).toEqual(inner);
      expect(found.size).toBe(outer.length + 1);
    }),
  );
});

test("numbers and texts survive being written and read", () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), fc.nat(255), fc.string({ unit: "grapheme" }), (u32, u8, text) => {
      fc.pre(!text.includes("\0"));
      const body = new Body().attrU32(1, u32).attrU8(2, u8).attrU32be(3, u32).attrText(4, text).done();
      const found = attributes(body);
      expect(attrU32(found.get(1))).toBe(u32);
      expect(found.get(2)).toEqual(new Uint8Array([u8]));
      expect(Buffer.from(found.get(3) ?? []).readUInt32BE()).toBe(u32);
      expect(attrText(found.get(4) as Uint8Array)).toBe(text);
      expect(body.length % 4).toBe(0);
    }),
  );
});

test("of two attributes of one type the later counts", () => {
  expect(attrU32(attributes(new Body().attrU32(1, 1).attrU32(1, 2).done()).get(1))).toBe(2);
});

test("a number that is absent or too short is none", () => {
  expect(attrU32(undefined)).toBeUndefined();
  expect(attrU32(new Uint8Array(3))).toBeUndefined();
});

/** Lengths that lie are what a reader gets wrong, so random words are small more often than not. */
const bytes = fc
  .array(
    fc.oneof(fc.nat(24), fc.nat(0xffff), fc.nat(0xffffffff), fc.constantFrom(0, 1, 15, 16, 17, 0xffffffff, 0xfffffffd)),
    {
      maxLength: 40,
    },
  )
  .chain((words) => {
    const whole = new Uint8Array(new Uint32Array(words).buffer);
    return fc.nat(whole.length).map((length) => whole.subarray(0, length));
  });

test("anything at all is either messages that lie within it, one after the other, or a NetlinkError", () => {
  fc.assert(
    fc.property(fc.oneof(bytes, fc.uint8Array({ maxLength: 100 })), (datagram) => {
      let messages: Message[] = [];
      try {
        messages = decodeMessages(datagram);
        for (const message of messages) decodeAck(message);
      } catch (error) {
        expect(error).toBeInstanceOf(NetlinkError);
        expect(error).toMatchObject({ code: "NETLINK_PROTOCOL" });
      }
      let last = datagram.byteOffset;
      for (const { body } of messages) {
        expect(body.byteOffset).toBeGreaterThanOrEqual(last + 16);
        last = body.byteOffset + body.length;
      }
      expect(last).toBeLessThanOrEqual(datagram.byteOffset + datagram.length);
    }),
    { numRuns: 2000 },
  );
});

test("the attributes of anything at all lie within it", () => {
  const halves = fc.array(fc.oneof(fc.nat(12), fc.nat(0xffff)), { maxLength: 60 });
  fc.assert(
    fc.property(
      fc.oneof(
        halves.map((list) => new Uint8Array(new Uint16Array(list).buffer)),
        bytes,
      ),
      (stretch) => {
        for (const value of attributes(stretch).values()) {
          expect(value.byteOffset).toBeGreaterThanOrEqual(stretch.byteOffset + 4);
          expect(value.byteOffset + value.length).toBeLessThanOrEqual(stretch.byteOffset + stretch.length);
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test("a datagram that was cut off is refused unless it was cut between two messages", () => {
  const request = { type: 1, flags: 0, body: new Uint8Array(12), what: "" };
  const whole = encodeBatch([request, request], 1);
  for (let length = 0; length <= whole.length; length++) {
    const decode = () => decodeMessages(whole.subarray(0, length)).length;
    if (length % 28 === 0) expect(decode()).toBe(length / 28);
    else expect(decode).toThrow(NetlinkError);
  }
});

// What the kernel (6.18) answers to `ip route add 10.9.9.0/24 via 203.0.113.1` where no such gateway can be reached.
const NO_GATEWAY = "Nexthop has invalid gateway";
const REQUEST = "2c00000018000506070000000000000002180000fe46000100000000080001000a09090008000500cb007101";
const TLVS = "200001004e657874686f702068617320696e76616c6964206761746577617900";
test.for<[options: string, text: string, datagram: string]>([
  ["no options", "", `4000000002000000 07000000e0634985 9bffffff ${REQUEST}`],
  ["NETLINK_CAP_ACK", "", "2400000002000001 07000000cca3d7cd 9bffffff 2c000000180005060700000000000000"],
  ["NETLINK_EXT_ACK", NO_GATEWAY, `6000000002000002 0700000000009551 9bffffff ${REQUEST} ${TLVS}`],
  ["both", NO_GATEWAY, `4400000002000003 0700000000009551 9bffffff 2c000000180005060700000000000000 ${TLVS}`],
])("the kernel's refusal is read from a socket with %s", ([, text, datagram]) => {
  const message = only(fromHex(datagram));
  expect(message).toMatchObject({ type: NLMSG_ERROR, seq: 7 });
  expect(decodeAck(message)).toEqual({ errno: 101, text });
});

test.for<[options: string, datagram: string]>([
  ["no options", "2400000002000001 07000000e0634985 00000000 20000000100005000700000000000000"],
  ["both", "2400000002000001 0700000000009551 00000000 20000000100005000700000000000000"],
])("the kernel's consent is read from a socket with %s", ([, datagram]) => {
  expect(decodeAck(only(fromHex(datagram)))).toEqual({ errno: 0, text: "" });
});

test("the end of a dump carries an errno and a text of its own", () => {
  const end = (body: string, flags: number): Message => ({ type: NLMSG_DONE, flags, seq: 1, body: fromHex(body) });
  expect(decodeAck(end("00000000", 2))).toEqual({ errno: 0, text: "" });
  expect(decodeAck(end(`9bffffff ${TLVS}`, 0x202))).toEqual({ errno: 101, text: NO_GATEWAY });
});

test("an acknowledgement that lies about the request's length loses its text, not its errno", () => {
  const datagram = fromHex(`6000000002000002 0700000000009551 9bffffff ${REQUEST} ${TLVS}`);
  new DataView(datagram.buffer).setUint32(20, 0xffffffff, true);
  expect(decodeAck(only(datagram))).toEqual({ errno: 101, text: "" });
});

test("an acknowledgement without room for an errno is refused, not taken for success", () => {
  for (let length = 0; length < 4; length++) {
    const message: Message = { type: NLMSG_ERROR, flags: 0, seq: 1, body: new Uint8Array(length) };
    expect(() => decodeAck(message)).toThrow(NetlinkError);
  }
});

test("a refusal names what was asked, the errno and the kernel's own words", () => {
  const error = NetlinkError.refused("add route 10.9.9.0/24 via 203.0.113.1", 101, NO_GATEWAY);
  expect(error).toMatchObject({ code: "NETLINK_REFUSED", errno: 101, errnoName: "ENETUNREACH" });
  expect(error.message).toBe("add route 10.9.9.0/24 via 203.0.113.1: ENETUNREACH (Nexthop has invalid gateway)");
  expect(NetlinkError.refused("delete link x", 19, "").message).toBe("delete link x: ENODEV");
});

test("a value too long for an attribute's 16-bit length is refused where it is written", () => {
  const most = new Uint8Array(0xffff - 4);
  expect(attributes(new Body().attr(1, most).done()).get(1)).toHaveLength(most.length);
  expect(() => new Body().attr(1, new Uint8Array(most.length + 1))).toThrow(NetlinkError);
  expect(() => new Body().nest(1, (body) => body.attr(2, most))).toThrow(NetlinkError);
});
