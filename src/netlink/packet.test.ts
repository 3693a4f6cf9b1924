// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "../net/address.ts";
import { parsePacketHead } from "./packet.ts";

const V4 = (protocol: number, fragment = 0, options: number[] = []) =>
  Uint8Array.of(
    0x45 + options.length / 4,
    ...[0, 0, 0, 0, 0, fragment >> 8, fragment & 0xff, 64, protocol, 0, 0],
    ...[10, 0, 0, 1, 10, 0, 0, 2],
    ...options,
  );
const V6 = (next: number) =>
  Uint8Array.of(0x60, 0, 0, 0, 0, 0, next, 64, ...parseAddress("fd00::1"), ...parseAddress("fd00::2"));
const PORTS = Uint8Array.of(0x9c, 0x40, 0, 80, 0, 0, 0, 0);

function text(...parts: Uint8Array[]): string {
  const head = parsePacketHead(Buffer.concat(parts));
  if (head === undefined) return "nothing";
  const { source, destination, protocol, ports } = head;
  const end = ports === undefined ? "" : ` ${ports.source} ${ports.destination}`;
  return `${formatAddress(source)} ${formatAddress(destination)} ${protocol}${end}`;
}

test("a packet says who sends what to whom", () => {
  expect(text(V4(6), PORTS)).toBe("10.0.0.1 10.0.0.2 6 40000 80");
  expect(text(V4(17, 0, [1, 1, 1, 1]), PORTS)).toBe("10.0.0.1 10.0.0.2 17 40000 80");
  expect(text(V6(132), PORTS)).toBe("fd00::1 fd00::2 132 40000 80");
});

test("what has no ports has none", () => {
  expect(text(V4(1), PORTS)).toBe("10.0.0.1 10.0.0.2 1");
  expect(text(V4(6))).toBe("10.0.0.1 10.0.0.2 6");
  // Of a fragment but the first, these bytes are anything.
  expect(text(V4(17, 100), PORTS)).toBe("10.0.0.1 10.0.0.2 17");
});

test("IPv6's extension headers are passed over", () => {
  const destinationOptions = Uint8Array.of(6, 1, ...new Array(14).fill(0));
  expect(text(V6(60), destinationOptions, PORTS)).toBe("fd00::1 fd00::2 6 40000 80");
  const firstFragment = Uint8Array.of(17, 0, 0, 1, 0, 0, 0, 9);
  expect(text(V6(44), firstFragment, PORTS)).toBe("fd00::1 fd00::2 17 40000 80");
  const laterFragment = Uint8Array.of(17, 0, 1, 1, 0, 0, 0, 9);
  expect(text(V6(44), laterFragment, PORTS)).toBe("fd00::1 fd00::2 17");
});

test("any bytes at all are read without an error", () => {
  fc.assert(
    fc.property(fc.constantFrom(0x45, 0x4f, 0x60, 0), fc.uint8Array({ maxLength: 128 }), (first, rest) => {
      parsePacketHead(Uint8Array.of(first, ...rest));
    }),
  );
});
