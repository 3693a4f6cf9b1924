// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Link } from "../netlink/link.ts";
import type { Route } from "../netlink/route.ts";
import { limitsOf, smallestMtu } from "./uplinks.ts";

function link(index: number, name: string, mtu: number): Link {
  const none = { mac: undefined, peerIndex: undefined, master: undefined, peerNsid: undefined, alias: undefined };
  return { index, name, mtu, up: true, group: 0, ...none };
}

const LINKS = [link(1, "lo", 100), link(2, "eth0", 9000), link(3, "eth1", 1450), link(4, "docker0", 576)];
const smallest = (...uplinks: number[]) => smallestMtu(new Set(uplinks), LINKS);

test("the MTU is the smallest of the links that routes lead out of", () => {
  expect(smallest(2, 3)).toBe(1450);
  expect(smallest(2)).toBe(9000);
});

test("lo's MTU never counts, though IPv6 puts unreachable routes there", () => {
  expect(smallest(1, 2)).toBe(9000);
  expect(smallest(1)).toBeUndefined();
});

test("no link, or one that is gone, says nothing", () => {
  expect(smallest()).toBeUndefined();
  expect(smallest(9)).toBeUndefined();
  expect(smallest(9, 3)).toBe(1450);
});

test("no uplink's MTU is smaller, and one has it", () => {
  const links = fc.uniqueArray(fc.tuple(fc.integer({ min: 2, max: 9 }), fc.integer({ min: 68, max: 65_535 })), {
    selector: ([index]) => index,
  });
  fc.assert(
    fc.property(links, fc.array(fc.integer({ min: 1, max: 9 })), (pairs, out) => {
      const all = [link(1, "lo", 65_536), ...pairs.map(([index, mtu]) => link(index, `eth${index}`, mtu))];
      const used = all.filter(({ index, name }) => name !== "lo" && out.includes(index)).map(({ mtu }) => mtu);
      const found = smallestMtu(new Set(out), all);
      if (found === undefined) expect(used).toEqual([]);
      else {
        expect(used).toContain(found);
        for (const mtu of used) expect(mtu).toBeGreaterThanOrEqual(found);
      }
    }),
  );
});

test("a route has limits only where pods send larger packets than its link takes", () => {
  const [, large, small] = LINKS;
  const route = (family: 4 | 6): Route => {
    return { family, destination: new Uint8Array(family === 4 ? 4 : 16), length: 24, kind: "unicast", protocol: 70 };
  };
  expect(limitsOf(route(4), small, 1500)).toEqual({ mtu: 1450, advmss: 1410 });
  expect(limitsOf(route(6), small, 1500)).toEqual({ mtu: 1450, advmss: 1390 });
  expect(limitsOf(route(4), large, 1500)).toEqual({});
  expect(limitsOf(route(4), small, 1450)).toEqual({});
  expect(limitsOf(route(4), small, 0)).toEqual({});
  expect(limitsOf(route(4), undefined, 1500)).toEqual({});
});
