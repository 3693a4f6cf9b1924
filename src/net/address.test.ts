// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { Address4, Address6 } from "ip-address";
import { expect, test } from "vitest";
import { AddressError, familyOf, formatAddress, hostLength, parseAddress } from "./address.ts";

const v4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
const v6 = fc.uint8Array({ minLength: 16, maxLength: 16 });
/** Zeros in runs, where the rules of the short form are. */
const v6Sparse = fc
  .array(fc.oneof(fc.constant([0, 0]), fc.tuple(fc.nat(255), fc.nat(255)), fc.constant([0, 1])), {
    minLength: 8,
    maxLength: 8,
  })
  .map((groups) => new Uint8Array(groups.flat()));

/** The oracle's bytes, or undefined where it refuses the text. It reads "/24" and "%eth0" too; those are not addresses. */
function oracle(text: string): number[] | undefined {
  if (text.includes("/") || text.includes("%")) return undefined;
  try {
    const address = text.includes(":") ? new Address6(text) : new Address4(text);
    const digits = address
      .bigInt()
      .toString(16)
      .padStart(text.includes(":") ? 32 : 8, "0");
    return [...Buffer.from(digits, "hex")];
  } catch {
    return undefined;
  }
}

function parsed(text: string): number[] | undefined {
  try {
    return [...parseAddress(text)];
  } catch (error) {
    expect(error).toBeInstanceOf(AddressError);
    expect(error).toMatchObject({ code: "ADDRESS_INVALID", value: text });
    return undefined;
  }
}

test("an address of either family survives being written and read", () => {
  fc.assert(
    fc.property(fc.oneof(v4, v6, v6Sparse), (bytes) => {
      expect(parseAddress(formatAddress(bytes))).toEqual(bytes);
    }),
  );
});

test("an IPv6 address is written as the oracle writes it (RFC 5952)", () => {
  fc.assert(
    fc.property(fc.oneof(v6, v6Sparse), (bytes) => {
      expect(formatAddress(bytes)).toBe(Address6.fromByteArray([...bytes]).correctForm());
    }),
  );
});

test("every form the oracle writes is read as the same address", () => {
  fc.assert(
    fc.property(fc.oneof(v6, v6Sparse), (bytes) => {
      const address = Address6.fromByteArray([...bytes]);
      for (const text of [address.canonicalForm(), address.correctForm(), address.to4in6()]) {
        expect(parseAddress(text)).toEqual(bytes);
        expect(parseAddress(text.toUpperCase())).toEqual(bytes);
      }
    }),
  );
});

test("what isn't an address to the oracle isn't one here, and the other way round", () => {
  const piece = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(":", "::", ".", "0", "1", "ff", "1.2.3.4") },
    {
      weight: 3,
      arbitrary: fc.constantFrom("00", "010", "255", "256", "ffff", "10000", "12345", "g", " ", "-1", "+1", "0x1", "١"),
    },
    { weight: 1, arbitrary: fc.string({ maxLength: 3, unit: "grapheme" }) },
  );
  const garbage = fc.array(piece, { maxLength: 17 }).map((pieces) => pieces.join(""));
  const joined = (separator: string) =>
    fc
      .array(fc.oneof(fc.nat(300).map(String), fc.constantFrom("", "0", "00", "1.2.3.4", "abcd", "12345")), {
        minLength: 1,
        maxLength: 9,
      })
      .map((parts) => parts.join(separator));
  fc.assert(
    fc.property(fc.oneof(garbage, joined("."), joined(":")), (text) => {
      expect(parsed(text)).toEqual(oracle(text));
    }),
    { numRuns: 2000 },
  );
});

test.for([
  ["::", new Uint8Array(16)],
  ["::1", new Uint8Array([...new Array(15).fill(0), 1])],
  ["1:2:3:4:5:6:7::", new Uint8Array([0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 0])],
  ["::ffff:10.244.1.7", new Uint8Array([...new Array(10).fill(0), 255, 255, 10, 244, 1, 7])],
  ["FD00::A", new Uint8Array([0xfd, ...new Array(14).fill(0), 10])],
  ["0.0.0.0", new Uint8Array(4)],
  ["255.255.255.255", new Uint8Array([255, 255, 255, 255])],
] as const)("%s is read", ([text, bytes]) => {
  expect(parseAddress(text)).toEqual(bytes);
});

test.for([
  "",
  ":",
  ":::",
  "1::2::3",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:8:9",
  "1:2:3:4:5:6:7::8",
  "12345::",
  "fe80::1%eth0",
  "::1/128",
  "::1.2.3",
  "::1.2.3.256",
  // The dotted quad is the address's last 32 bits and stands nowhere else (RFC 4291, section 2.2).
  "1.2.3.4::",
  "1.2.3.4::5",
  "1:2.3.4.5::6",
  "1:2:3:4:5:1.2.3.4:6",
  "010.0.0.1",
  "1.2.3",
  "1.2.3.4.5",
  "1.2.3.4/24",
  "256.0.0.0",
  "1.2.3.-4",
  " 1.2.3.4",
  "1.2.3.4\n",
  "1.2.3.4\0",
  "0x7f.0.0.1",
  "2130706433",
])("%j is refused, and the error has it", (text) => {
  expect(() => parseAddress(text)).toThrow(`${JSON.stringify(text)} is not an IP address`);
});

test.for<[text: string, canonical: string]>([
  // RFC 5952, sections 4.1 to 4.3: the cases it gives, in order.
  ["2001:0db8::0001", "2001:db8::1"],
  ["2001:db8:0:0:0:0:2:1", "2001:db8::2:1"],
  ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:DB8::ABCD", "2001:db8::abcd"],
  ["0:0:0:0:0:0:0:0", "::"],
  ["1:0:0:0:0:0:0:0", "1::"],
])("%s is written %s", ([text, canonical]) => {
  expect(formatAddress(parseAddress(text))).toBe(canonical);
});

test("a family is told by the number of bytes, and a host's length follows", () => {
  expect(familyOf(parseAddress("10.0.0.1"))).toBe(4);
  expect(familyOf(parseAddress("::"))).toBe(6);
  expect([hostLength(4), hostLength(6)]).toEqual([32, 128]);
});
