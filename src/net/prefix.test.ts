// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { Address4, Address6 } from "ip-address";
import { expect, test } from "vitest";
import { formatAddress, hostLength, parseAddress } from "./address.ts";
import {
  addressAt,
  formatPrefix,
  hostPrefix,
  indexOf,
  overlaps,
  type Prefix,
  PrefixError,
  parsePrefix,
  prefixBytes,
  prefixSize,
} from "./prefix.ts";

/** Any block; the lengths at the ends as often as the rest. */
const prefixes: fc.Arbitrary<Prefix> = fc.constantFrom(4 as const, 6 as const).chain((family) => {
  const bits = hostLength(family);
  const length = fc.oneof(fc.constantFrom(0, 1, bits - 1, bits), fc.nat(bits));
  return fc.tuple(fc.bigInt(0n, (1n << BigInt(bits)) - 1n), length).map(([value, length]) => {
    const host = BigInt(bits - length);
    return { family, base: (value >> host) << host, length };
  });
});

/** Two blocks of one family that are often one inside the other or side by side. */
const neighbours = fc.tuple(prefixes, fc.nat(128), fc.constantFrom(-1n, 0n, 1n)).map(([a, other, step]) => {
  const bits = hostLength(a.family);
  const length = Math.min(other, bits);
  const all = 1n << BigInt(bits);
  const host = BigInt(bits - length);
  const base = (((((a.base + step * prefixSize(a)) % all) + all) % all) >> host) << host;
  return [a, { family: a.family, base, length }] as const;
});

function oracle(prefix: Prefix): Address4 | Address6 {
  const text = formatPrefix(prefix);
  return prefix.family === 4 ? new Address4(text) : new Address6(text);
}

test("a block survives being written and read", () => {
  fc.assert(
    fc.property(prefixes, (prefix) => {
      expect(parsePrefix(formatPrefix(prefix))).toEqual(prefix);
    }),
  );
});

test("two blocks with one text are one block, and the other way round", () => {
  fc.assert(
    fc.property(neighbours, ([a, b]) => {
      expect(formatPrefix(a) === formatPrefix(b)).toBe(a.base === b.base && a.length === b.length);
    }),
  );
});

test("blocks overlap exactly where the oracle finds one in the other", () => {
  fc.assert(
    fc.property(neighbours, ([a, b]) => {
      const [x, y] = [oracle(a), oracle(b)];
      const expected = x.isInSubnet(y as never) || y.isInSubnet(x as never);
      expect(overlaps(a, b)).toBe(expected);
      expect(overlaps(b, a)).toBe(expected);
      expect(overlaps(a, a)).toBe(true);
    }),
  );
});

test("blocks of different families never overlap, however wide", () => {
  expect(overlaps(parsePrefix("0.0.0.0/0"), parsePrefix("::/0"))).toBe(false);
  expect(indexOf(parsePrefix("::/0"), parseAddress("10.0.0.1"))).toBeUndefined();
  expect(indexOf(parsePrefix("0.0.0.0/0"), parseAddress("::1"))).toBeUndefined();
});

test("an address at a position has that position", () => {
  fc.assert(
    fc.property(prefixes, fc.nat(), (prefix, index) => {
      fc.pre(BigInt(index) < prefixSize(prefix));
      const address = addressAt(prefix, BigInt(index));
      expect(indexOf(prefix, address)).toBe(BigInt(index));
      expect(overlaps(hostPrefix(address), prefix)).toBe(true);
    }),
  );
});

test("an address is in a block exactly when the oracle says so", () => {
  fc.assert(
    fc.property(neighbours, ([prefix, { base, family, length }]) => {
      const host: Prefix = { family, base, length: hostLength(family) };
      const inside = oracle(host).isInSubnet(oracle(prefix) as never);
      expect(indexOf(prefix, prefixBytes(host)) !== undefined).toBe(inside);
      expect(hostPrefix(prefixBytes(host))).toEqual(host);
      expect(length).toBeLessThanOrEqual(hostLength(family));
    }),
  );
});

test.for([
  ["0.0.0.0/0", 1n << 32n, "0.0.0.0", "255.255.255.255"],
  ["10.0.0.0/31", 2n, "10.0.0.0", "10.0.0.1"],
  ["255.255.255.255/32", 1n, "255.255.255.255", "255.255.255.255"],
  ["::/0", 1n << 128n, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
  ["fd00::2/127", 2n, "fd00::2", "fd00::3"],
  ["fd00::1/128", 1n, "fd00::1", "fd00::1"],
] as const)("%s has %i addresses, from %s to %s", ([text, size, first, last]) => {
  const prefix = parsePrefix(text);
  expect(formatPrefix(prefix)).toBe(text);
  expect(prefixSize(prefix)).toBe(size);
  expect(formatAddress(prefixBytes(prefix))).toBe(first);
  expect(indexOf(prefix, parseAddress(first))).toBe(0n);
  expect(indexOf(prefix, parseAddress(last))).toBe(size - 1n);
});

test("the addresses on both sides of a block are not in it", () => {
  const prefix = parsePrefix("10.244.1.0/24");
  expect(indexOf(prefix, parseAddress("10.244.0.255"))).toBeUndefined();
  expect(indexOf(prefix, parseAddress("10.244.2.0"))).toBeUndefined();
});

test.for<[text: string, canonical: string]>([
  ["FD00:0::/64", "fd00::/64"],
  ["::ffff:10.0.0.0/120", "::ffff:a00:0/120"],
])("%s is read as %s", ([text, canonical]) => {
  expect(formatPrefix(parsePrefix(text))).toBe(canonical);
});

test.for([
  "",
  "/8",
  "10.0.0.0",
  "10.0.0.0/",
  "10.0.0.0/33",
  "10.0.0.0/-1",
  "10.0.0.0/+8",
  "10.0.0.0/8.0",
  "10.0.0.0/255.0.0.0",
  "10.0.0.0/8/8",
  "10.0.0.0/ 8",
  " 10.0.0.0/8",
  // Like an octet's: 8 to one reader, an error or an octal number to another.
  "10.0.0.0/08",
  "::/064",
  "10.0.0/8",
  "010.0.0.0/8",
  "::/129",
  "fe80::%eth0/64",
  "1.2.3.4::/64",
  "example.org/24",
])("%j is refused, and the error has it", (text) => {
  expect(() => parsePrefix(text)).toThrow(
    expect.objectContaining({
      code: "PREFIX_INVALID",
      value: text,
      message: expect.stringContaining(JSON.stringify(text)),
    }),
  );
});

test("host bits are refused, and the error says which subnet was meant", () => {
  expect(() => parsePrefix("10.244.1.7/24")).toThrow("10.244.1.7/24 has host bits set; the subnet is 10.244.1.0/24");
  expect(() => parsePrefix("fd00::1/64")).toThrow("fd00::1/64 has host bits set; the subnet is fd00::/64");
  fc.assert(
    fc.property(prefixes, fc.bigInt(1n, (1n << 128n) - 1n), (prefix, extra) => {
      const host = extra % prefixSize(prefix);
      fc.pre(host > 0n);
      const text = `${formatAddress(prefixBytes({ ...prefix, base: prefix.base + host }))}/${prefix.length}`;
      expect(() => parsePrefix(text)).toThrow(expect.objectContaining({ code: "PREFIX_HOST_BITS", value: text }));
      expect(() => parsePrefix(text)).toThrow(PrefixError);
      expect(() => parsePrefix(text)).toThrow(`the subnet is ${formatPrefix(prefix)}`);
    }),
  );
});
