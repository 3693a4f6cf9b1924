// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { AllocationRecord } from "../ipam/records.ts";
import { LINK_GROUP } from "../net/names.ts";
import type { Link } from "../netlink/link.ts";
import { HalfMade } from "./half-made.ts";

const GRACE = 60_000;
const BEGUN = { up: false, alias: undefined };
const FINISHED = { up: true, alias: "flatnet:default/web-0" };

function link(index: number, more: Partial<Link> = {}): Link {
  const none = { mac: undefined, master: undefined, peerIndex: 2, peerNsid: 0 };
  return { index, name: `fl${index}`, mtu: 1500, group: LINK_GROUP, ...FINISHED, ...none, ...more };
}

function node(...links: Link[]) {
  const it = { links, known: [] as string[], lines: [] as string[], nowMs: 0, remove: async (_: Link) => {} };
  const say = (fields: object, message: string) => it.lines.push(`${(fields as { link: string }).link}: ${message}`);
  const halfMade = new HalfMade({
    allocations: {
      list: async () => ({ allocations: it.known.map((hostIfname) => ({ hostIfname }) as AllocationRecord) }),
    },
    links: async () => it.links,
    remove: async (gone) => {
      await it.remove(gone);
      it.links = it.links.filter(({ index }) => index !== gone.index);
    },
    graceMs: GRACE,
    log: { info: say, error: say },
    now: () => it.nowMs,
  });
  const pass = async (afterMs: number) => {
    it.nowMs += afterMs;
    await halfMade.pass();
    return it.links.map(({ name }) => name);
  };
  return { it, pass };
}

test("one that never was up goes after the grace period, with a record or without", async () => {
  const { it, pass } = node(link(1, BEGUN), link(2, BEGUN), link(3));
  it.known = ["fl1", "fl3"];
  expect(await pass(0)).toHaveLength(3);
  expect(await pass(GRACE - 1)).toHaveLength(3);
  expect(await pass(1)).toEqual(["fl3"]);
  expect(it.lines).toHaveLength(2);
});

test("one look is never enough, however late it comes", async () => {
  const { pass } = node(link(1, BEGUN));
  expect(await pass(10 * GRACE)).toEqual(["fl1"]);
});

test("one that comes up in between is an ADD's that took its time", async () => {
  const { it, pass } = node(link(1, BEGUN));
  it.known = ["fl1"];
  await pass(0);
  it.links = [link(1)];
  expect(await pass(GRACE)).toEqual(["fl1"]);
});

test("an ADD that begins anew has all the time again", async () => {
  const { it, pass } = node(link(1, { ...BEGUN, name: "fla" }));
  await pass(0);
  it.links = [link(2, { ...BEGUN, name: "fla" })];
  expect(await pass(GRACE)).toEqual(["fla"]);
  expect(await pass(GRACE)).toEqual([]);
});

test("one that was up and was set down stays", async () => {
  const { it, pass } = node(link(1, { up: false }));
  it.known = ["fl1"];
  await pass(0);
  expect(await pass(GRACE)).toEqual(["fl1"]);
});

test("one that is up without a record stays, and is told of once", async () => {
  const { it, pass } = node(link(1));
  for (let i = 0; i < 5; i++) expect(await pass(GRACE)).toEqual(["fl1"]);
  expect(it.lines).toEqual(["fl1: a pod's link has no record, and is left as it is"]);
});

test("one whose record goes with a DEL that is under way is not told of", async () => {
  const { it, pass } = node(link(1));
  await pass(0);
  it.links = [];
  await pass(GRACE);
  expect(it.lines).toEqual([]);
});

test("what isn't marked as ours is never looked at", async () => {
  const { it, pass } = node(link(1, { ...BEGUN, group: 0 }), link(2, { ...BEGUN, name: "veth2" }));
  await pass(0);
  expect(await pass(GRACE)).toHaveLength(2);
  expect(it.lines).toEqual([]);
});

test("one that can't be removed is tried again", async () => {
  const { it, pass } = node(link(1, BEGUN));
  it.remove = () => Promise.reject(new Error("EPERM"));
  await pass(0);
  await expect(pass(GRACE)).rejects.toThrow("EPERM");
  it.remove = async () => {};
  expect(await pass(1)).toEqual([]);
});
