// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Link } from "../netlink/link.ts";
import type { Route } from "../netlink/route.ts";
import { smallestMtu } from "./uplinks.ts";

function link(index: number, name: string, mtu: number): Link {
  const none = { mac: undefined, peerIndex: undefined, master: undefined, peerNsid: undefined, alias: undefined };
  return { index, name, mtu, up: true, group: 0, ...none };
}

function via(oif?: number): Route {
  const base = { family: 4, destination: new Uint8Array(4), length: 24, kind: "unicast", protocol: 70 } as const;
  return oif === undefined ? base : { ...base, oif };
}

const LINKS = [link(1, "lo", 100), link(2, "eth0", 9000), link(3, "eth1", 1450), link(4, "docker0", 576)];

test("the MTU is the smallest of the links that routes lead out of", () => {
  expect(smallestMtu([via(2), via(3)], LINKS)).toBe(1450);
  expect(smallestMtu([via(2), via(2)], LINKS)).toBe(9000);
});

test("lo's MTU never counts, though IPv6 puts unreachable routes there", () => {
  expect(smallestMtu([via(1), via(2)], LINKS)).toBe(9000);
  expect(smallestMtu([via(1)], LINKS)).toBeUndefined();
});

test("routes out of no link, or out of one that is gone, say nothing", () => {
  expect(smallestMtu([], LINKS)).toBeUndefined();
  expect(smallestMtu([via()], LINKS)).toBeUndefined();
  expect(smallestMtu([via(9)], LINKS)).toBeUndefined();
  expect(smallestMtu([via(9), via(3)], LINKS)).toBe(1450);
});

test("no uplink's MTU is smaller, and one has it", () => {
  const links = fc.uniqueArray(fc.tuple(fc.integer({ min: 2, max: 9 }), fc.integer({ min: 68, max: 65_535 })), {
    selector: ([index]) => index,
  });
  fc.assert(
    fc.property(links, fc.array(fc.integer({ min: 1, max: 9 })), (pairs, out) => {
      const all = [link(1, "lo", 65_536), ...pairs.map(([index, mtu]) => link(index, `eth${index}`, mtu))];
      const used = all.filter(({ index, name }) => name !== "lo" && out.includes(index)).map(({ mtu }) => mtu);
      const found = smallestMtu(out.map(via), all);
      if (found === undefined) expect(used).toEqual([]);
      else {
        expect(used).toContain(found);
        for (const mtu of used) expect(mtu).toBeGreaterThanOrEqual(found);
      }
    }),
  );
});
