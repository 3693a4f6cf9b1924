// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex } from "../../test/helpers/hex.ts";
import { expectSent } from "../../test/helpers/netlink-golden.ts";
import { formatAddress, parseAddress } from "../net/address.ts";
import { addAddress, decodeAddress, dumpAddresses } from "./address.ts";
import type { Message } from "./message.ts";

const RTM_NEWADDR = 20;
const RTM_GETADDR = 22;

function message(body: string, type = RTM_NEWADDR): Message {
  return { type, flags: 2, seq: 7, body: fromHex(body) };
}

// Kernel 6.18's answer to a dump. IFA_CACHEINFO (14) is noise to us.
const NOISE = "14000600 ffffffff ffffffff 24750900 24750900";
const V4 = `02208000 03000000 08000100 0af40107 08000200 0af40107 09000300 65746830 00000000 08000800 80000000 ${NOISE}`;
const V6 = `0a808200 03000000 14000100 fd000010 02440001 00000000 00000007 ${NOISE} 08000800 82000000`;
const TENTATIVE = `0a40c000 03000000 14000100 fd000010 02440001 00000000 00000008 ${NOISE} 08000800 c0000000`;

test("all addresses are asked for as iproute2 asks, which wants those of one link", () => {
  expectSent(dumpAddresses(), { type: RTM_GETADDR, flags: 0, body: "00000000 00000000" });
});

test.for<[what: string, body: string, index: number, address: string, length: number, usable: boolean]>([
  ["an IPv4 address", V4, 3, "10.244.1.7", 32, true],
  ["an IPv6 address", V6, 3, "fd00:10:244:1::7", 128, true],
  ["a tentative address", TENTATIVE, 3, "fd00:10:244:1::8", 64, false],
  [
    "an address of which there is a duplicate",
    TENTATIVE.replace("c0000000", "88000000"),
    3,
    "fd00:10:244:1::8",
    64,
    false,
  ],
  // ip address add 10.0.0.1 peer 10.0.0.2 dev eth0: IFA_ADDRESS is the other end's.
  ["an address with a peer", "02208000 03000000 08000100 0a000002 08000200 0a000001", 3, "10.0.0.1", 32, true],
  // Kernels before 3.14 have the flags in struct ifaddrmsg only.
  [
    "flags of eight bits",
    "0a40c000 03000000 14000100 fd000010 02440001 00000000 00000008",
    3,
    "fd00:10:244:1::8",
    64,
    false,
  ],
])("%s of the kernel's is read", ([, body, index, address, length, usable]) => {
  expect(decodeAddress(message(body))).toEqual({ index, address: parseAddress(address), length, usable });
});

test("what is no address message, too short for one, or without an address is nothing", () => {
  expect(decodeAddress(message(V4, 21))).toBeUndefined();
  expect(decodeAddress(message("02208000 030000"))).toBeUndefined();
  expect(decodeAddress(message("02208000 03000000"))).toBeUndefined();
  expect(decodeAddress(message("02208000 03000000 0a000100 06fe0af4 01070000"))).toBeUndefined();
});

test("an address survives being written and read", () => {
  const ip = fc.oneof(fc.ipV4(), fc.ipV6()).map(parseAddress);
  fc.assert(
    fc.property(ip, fc.integer({ min: 1, max: 2 ** 31 - 1 }), fc.nat(128), (address, index, some) => {
      const length = some % (address.length * 8 + 1);
      const { type, flags, body } = addAddress(index, "eth0", address, length);
      expect(decodeAddress({ type, flags, seq: 1, body })).toEqual({ index, address, length, usable: true });
    }),
  );
});

test("any body is an address or nothing", () => {
  const head = fc.uint8Array({ minLength: 8, maxLength: 8 });
  const attribute = fc.tuple(fc.nat(24), fc.nat(9), fc.uint8Array({ maxLength: 24 }));
  fc.assert(
    fc.property(head, fc.array(attribute, { maxLength: 4 }), fc.nat(100), (start, list, cut) => {
      const tail = list.flatMap(([length, type, value]) => [length, 0, type, 0, ...value]);
      const found = decodeAddress({
        type: RTM_NEWADDR,
        flags: 0,
        seq: 1,
        body: new Uint8Array([...start, ...tail]).subarray(0, cut),
      });
      if (found !== undefined) expect(formatAddress(found.address)).toMatch(/[.:]/);
    }),
  );
});
