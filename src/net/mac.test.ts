// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "./address.ts";
import { formatMac, hostMac, linkLocal, podMac } from "./mac.ts";

const addresses = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
);

test.for<[address: string, pod: string, host: string]>([
  ["10.244.1.7", "02:fe:0a:f4:01:07", "06:fe:0a:f4:01:07"],
  ["fd00:10:244:1::1:7", "02:fe:00:01:00:07", "06:fe:00:01:00:07"],
  ["0.0.0.0", "02:fe:00:00:00:00", "06:fe:00:00:00:00"],
])("the ends of %s are %s and %s", ([address, pod, host]) => {
  expect(formatMac(podMac(parseAddress(address)))).toBe(pod);
  expect(formatMac(hostMac(parseAddress(address)))).toBe(host);
});

test("a MAC is locally administered and unicast, and the two ends of a link never share one", () => {
  fc.assert(
    fc.property(addresses, (address) => {
      for (const mac of [podMac(address), hostMac(address)]) {
        expect(mac).toHaveLength(6);
        expect((mac[0] as number) & 0b11).toBe(0b10);
        expect(formatMac(mac)).toMatch(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
      }
      expect(podMac(address)).not.toEqual(hostMac(address));
    }),
  );
});

test("two IPv4 addresses never share a MAC", () => {
  const v4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
  fc.assert(
    fc.property(v4, v4, (a, b) => {
      expect(formatMac(podMac(a)) === formatMac(podMac(b))).toBe(a.join() === b.join());
    }),
  );
});

test.for([
  // RFC 4291, appendix A: the universal/local bit is turned over, ff:fe goes in the middle.
  [[0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde], "fe80::3656:78ff:fe9a:bcde"],
  [[0x02, 0xfe, 0x0a, 0xf4, 0x01, 0x07], "fe80::fe:aff:fef4:107"],
  [[0x00, 0x00, 0x00, 0x00, 0x00, 0x00], "fe80::200:ff:fe00:0"],
] as const)("the link-local address of %j is %s", ([mac, address]) => {
  expect(formatAddress(linkLocal(new Uint8Array(mac)))).toBe(address);
});

test("no pod's link-local address is the gateway's fe80::1", () => {
  fc.assert(
    fc.property(addresses, (address) => {
      expect(formatAddress(linkLocal(podMac(address)))).not.toBe("fe80::1");
    }),
  );
});
