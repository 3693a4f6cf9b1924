// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex } from "../../test/helpers/hex.ts";
import { expectSent } from "../../test/helpers/netlink-golden.ts";
import { formatAddress, parseAddress } from "../net/address.ts";
import type { Message } from "./message.ts";
import { addNeighbour, decodeNeighbour, dumpNeighbours } from "./neighbour.ts";

const RTM_NEWNEIGH = 28;
const RTM_GETNEIGH = 30;

function message(body: string, type = RTM_NEWNEIGH): Message {
  return { type, flags: 34, seq: 7, body: fromHex(body) };
}

test("the entries of a link are asked for as iproute2 asks", () => {
  // ip neighbour show dev eth0
  expectSent(dumpNeighbours(3), {
    type: RTM_GETNEIGH,
    flags: 0,
    body: "00000000 00000000 00000000  08000800 03000000",
  });
});

// Kernel 6.18's answer to a dump. NDA_PROBES (4) and NDA_CACHEINFO (3) are noise to us.
const NOISE = "08000400 00000000 14000300 18000000 18000000 18000000 00000000";
const PERMANENT = `02000000 03000000 80000001 08000100 a9fe0101 0a000200 06fe0af4 01070000 ${NOISE}`;

test.for<[state: string, body: string, address: string, mac: string | undefined, permanent: boolean]>([
  ["permanent", PERMANENT, "169.254.1.1", "06fe0af40107", true],
  [
    "reachable",
    `0a000000 03000000 02000001 14000100 fe800000 00000000 00000000 00000001 0a000200 06fe0af4 01070000 ${NOISE}`,
    "fe80::1",
    "06fe0af40107",
    false,
  ],
  ["incomplete", `02000000 03000000 01000001 08000100 a9fe0103 ${NOISE}`, "169.254.1.3", undefined, false],
  ["failed", `02000000 03000000 20000001 08000100 a9fe0102 ${NOISE}`, "169.254.1.2", undefined, false],
  [
    "noarp",
    `0a000000 03000000 40000005 14000100 ff020000 00000000 00000000 00000016 0a000200 33330000 00160000 ${NOISE}`,
    "ff02::16",
    "333300000016",
    false,
  ],
])("a %s entry of the kernel's is read", ([, body, address, mac, permanent]) => {
  expect(decodeNeighbour(message(body))).toEqual({
    index: 3,
    address: parseAddress(address),
    mac: mac === undefined ? undefined : fromHex(mac),
    permanent,
  });
});

test("what is no neighbour message, too short for one, or without an address is nothing", () => {
  expect(decodeNeighbour(message(PERMANENT, 29))).toBeUndefined();
  expect(decodeNeighbour(message("02000000 03000000 800000"))).toBeUndefined();
  expect(decodeNeighbour(message("02000000 03000000 80000001"))).toBeUndefined();
});

test("an entry survives being written and read", () => {
  const ip = fc.oneof(fc.ipV4(), fc.ipV6()).map(parseAddress);
  const mac = fc.uint8Array({ minLength: 6, maxLength: 6 });
  fc.assert(
    fc.property(ip, mac, fc.integer({ min: 1, max: 2 ** 31 - 1 }), (address, lladdr, index) => {
      const { type, flags, body } = addNeighbour(index, "eth0", address, lladdr);
      expect(decodeNeighbour({ type, flags, seq: 1, body })).toEqual({ index, address, mac: lladdr, permanent: true });
    }),
  );
});

test("any body is an entry or nothing, and a short one is nothing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (body) => {
      const found = decodeNeighbour({ type: RTM_NEWNEIGH, flags: 0, seq: 1, body });
      if (body.length < 16) expect(found).toBeUndefined();
      if (found !== undefined) expect(formatAddress(found.address)).toEqual(expect.any(String));
    }),
  );
});
