// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type Attachment,
  attachmentKey,
  DOOM_MAX,
  doomedLinkGroup,
  hostLinkName,
  isLinkGroup,
  LINK_GROUP,
  linkAlias,
  ownTable,
} from "./names.ts";

const sha256 = (text: string): Uint8Array => createHash("sha256").update(text).digest();

/** Letters that shift between the parts without changing the whole, were they only written side by side. */
const identifier = fc.stringMatching(/^[ab0][ab0_.-]{0,4}$/);
const ifname = fc.stringMatching(/^[ab0_.-]{1,5}$/);
const attachments: fc.Arbitrary<Attachment> = fc.record({ network: identifier, containerId: identifier, ifname });

test("two attachments share a key only when they are the same", () => {
  fc.assert(
    fc.property(attachments, attachments, (a, b) => {
      const same = a.network === b.network && a.containerId === b.containerId && a.ifname === b.ifname;
      expect(attachmentKey(a) === attachmentKey(b)).toBe(same);
    }),
    { numRuns: 1000 },
  );
});

test("a key can be taken apart again", () => {
  fc.assert(
    fc.property(attachments, (attachment) => {
      const [network, containerId, ifname, ...rest] = attachmentKey(attachment).split("/");
      expect({ network, containerId, ifname }).toEqual(attachment);
      expect(rest).toEqual([]);
    }),
  );
});

test("a host end's name fits a link and begins with the prefix", () => {
  fc.assert(
    fc.property(attachments, (attachment) => {
      expect(hostLinkName(attachment, sha256)).toMatch(/^fl[a-z2-7]{11}$/);
    }),
  );
});

test("a host end's name uses 55 bits of the hash, and each of them matters", () => {
  const named = (hash: Uint8Array) => hostLinkName({ network: "n", containerId: "c", ifname: "i" }, () => hash);
  const names = new Set([named(new Uint8Array(32))]);
  for (let bit = 0; bit < 55; bit++) {
    const hash = new Uint8Array(32);
    hash[bit >> 3] = 0x80 >> (bit & 7);
    names.add(named(hash));
  }
  expect(names.size).toBe(56);
  const last = new Uint8Array(32);
  last[6] = 1;
  expect(named(last)).toBe("flaaaaaaaaaaa");
});

// Links and journal entries of a running node have these names: a change orphans them.
test.for([
  [{ network: "pods", containerId: "c0ffee", ifname: "eth0" }, "flcyhtu3dozzl"],
  [{ network: "pods", containerId: "c0ffee", ifname: "eth1" }, "flkp7m5p2uoqi"],
] as const)("the host end of %j keeps its name", ([attachment, name]) => {
  expect(hostLinkName(attachment, sha256)).toBe(name);
});

test("the link group is the ASCII of the prefix", () => {
  expect(LINK_GROUP).toBe(Buffer.from("fl").readUInt16BE());
});

test.for([1, 0x1234, DOOM_MAX])("the group of links that go, %i, has the mark, and is no other number's", (doom) => {
  const group = doomedLinkGroup(doom);
  expect([isLinkGroup(group), group === LINK_GROUP, doomedLinkGroup(doom - 1) === group]).toEqual([true, false, false]);
  // The kernel keeps it as an int.
  expect(group).toBeLessThan(2 ** 31);
});

test.for([0, 1, LINK_GROUP - 1, LINK_GROUP + 1, 0x666d, 2 ** 31 - 1])("%i is nobody's of ours", (group) => {
  expect(isLinkGroup(group)).toBe(false);
});

test("an alias names the pod, or the container outside Kubernetes", () => {
  expect(linkAlias({ namespace: "default", name: "web-0" }, "c0ffee")).toBe("flatnet:default/web-0");
  expect(linkAlias(undefined, "c0ffee")).toBe("flatnet:c0ffee");
});

// IFALIASZ is 256 with the zero: the kernel refuses a longer alias, and with it the whole ADD.
test.for([
  ["a pod's", linkAlias({ namespace: "n".repeat(63), name: "p".repeat(253) }, "c0ffee")],
  ["a container's", linkAlias(undefined, "c".repeat(256))],
] as const)("%s alias is cut to the 255 bytes that a link can have", ([, alias]) => {
  expect(Buffer.byteLength(alias)).toBe(255);
});

test("an alias is cut between characters, not in one", () => {
  const alias = linkAlias({ namespace: `a${"ü".repeat(60)}`, name: "é".repeat(100) }, "c0ffee");
  expect(Buffer.byteLength(alias)).toBe(254);
  expect(alias.endsWith("é")).toBe(true);
});

test("an interface's own routing table follows from its host end's name, above all tables that people number", () => {
  const tables = ["flaaaaaaaaaaa", "flaaaaabaaaaa", "fl77777777777", "flcyhtu3dozzl"].map(ownTable);
  expect(tables).toEqual([2 ** 30, 2 ** 30 + 1, 2 ** 31 - 1, 1166266011]);
});
