// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import type { AllocationRecord } from "../ipam/records.ts";
import { hostLinkName, LINK_GROUP } from "../net/names.ts";
import type { Link } from "../netlink/link.ts";
import type { Difference } from "../podnet/differences.ts";
import { type News, PodKeeper } from "./pod-keeper.ts";

const BOOT = "this-boot";
const sha256 = (text: string): Uint8Array => createHash("sha256").update(text).digest();
const REPAIR = [{ type: 0, flags: 0, body: new Uint8Array(), what: "add it" }];

function record(name: string, more: Partial<AllocationRecord> = {}): AllocationRecord {
  const attachment = { network: "pods", containerId: name, ifname: "eth0" };
  return {
    attachment,
    pod: { namespace: "default", name: `pod-${name}`, uid: "" },
    netns: `/run/netns/${name}`,
    hostIfname: hostLinkName(attachment, sha256),
    addresses: ["10.0.0.1"],
    allocatedAtMs: 1,
    confirmedAtMs: 1,
    bootId: BOOT,
    portMappings: [],
    aliases: [],
    extra: {},
    ...more,
  };
}

/** A node with these attachments, each with a link whose index is its position from 10 on, its pod's from 20, number from 30. */
function node(...records: AllocationRecord[]) {
  const it = {
    records,
    links: records.map(
      ({ hostIfname }, i): Link => ({
        index: 10 + i,
        name: hostIfname,
        up: true,
        mtu: 1500,
        group: LINK_GROUP,
        mac: undefined,
        peerIndex: 20 + i,
        master: undefined,
        peerNsid: 30 + i,
        alias: "flatnet:a/b",
      }),
    ),
    /** What is lost, by container ID. */
    lost: new Map<string, string[]>(),
    /** Container IDs of attachments that can't be looked at. */
    broken: new Set<string>(),
    refusals: [] as string[],
    looks: [] as string[],
    repaired: [] as string[],
    lines: [] as string[],
    /** How long a look takes, and how long was slept, in milliseconds. */
    lookMs: 0,
    sleptMs: 0,
    nowMs: 0,
  };
  const nameOf = ({ attachment }: AllocationRecord) => attachment.containerId;
  const keeper = new PodKeeper({
    allocations: {
      list: async () => ({ allocations: it.records }),
      whileHeld: async (seen, work) => {
        const held = it.records.includes(seen);
        if (held) work();
        return held;
      },
    },
    links: async () => it.links,
    ends: {
      look: (one): Difference[] => {
        it.looks.push(nameOf(one));
        it.nowMs += it.lookMs;
        if (it.broken.has(nameOf(one))) throw new Error("no permission");
        const lost = (it.lost.get(nameOf(one)) ?? []).map((text): Difference => ({ text, end: "pod", repair: REPAIR }));
        return [...lost, { text: "nobody's to repair", end: "host", repair: [] }];
      },
      repair: (one, differences) => {
        it.repaired.push(`${nameOf(one)}: ${differences.map(({ text }) => text).join()}`);
        if (it.refusals.length === 0) it.lost.delete(nameOf(one));
        return it.refusals;
      },
    },
    bootId: BOOT,
    log: { info: (_, message) => it.lines.push(message), error: (_, message) => it.lines.push(message) },
    now: () => it.nowMs,
    sleep: async (ms) => {
      it.sleptMs += ms;
      it.nowMs += ms;
    },
  });
  const pass = async (news: Partial<News> = {}) => {
    it.nowMs += 200;
    it.looks = [];
    await keeper.pass({ all: false, own: new Set(), others: new Map(), ...news });
    return it.looks;
  };
  return { it, keeper, pass };
}

const ALL = { all: true };

test("a look is where the news points: to one's own link, to a link of its pod, or to all of the pod", async () => {
  const { pass } = node(record("a"), record("b"), record("c"));
  expect(await pass()).toEqual([]);
  expect(await pass({ own: new Set([11, 99]) })).toEqual(["b"]);
  expect(await pass({ others: new Map([[30, new Set([20])]]) })).toEqual(["a"]);
  expect(await pass({ others: new Map([[30, new Set([21])]]) })).toEqual([]);
  expect(await pass({ others: new Map([[32, new Set([0])]]) })).toEqual(["c"]);
  expect(await pass(ALL)).toEqual(["a", "b", "c"]);
});

test("what is lost is repaired at the second look and looked at once more", async () => {
  const { it, keeper, pass } = node(record("a"), record("b"));
  it.lost.set("a", ["no route"]);
  await pass(ALL);
  expect(it.repaired).toEqual([]);
  it.nowMs += 200;
  expect(keeper.restless).toBe(true);
  expect(await pass()).toEqual(["a"]);
  expect(it.repaired).toEqual(["a: no route"]);
  for (let i = 0; i < 10; i++) await pass();
  expect(keeper.restless).toBe(false);
  expect(it.repaired).toHaveLength(1);
  expect(it.lines).toEqual(["an attachment was not as ADD made it; repaired"]);
});

test.for<[string, Partial<AllocationRecord>, Partial<Link> | undefined]>([
  ["of another boot", { bootId: "earlier" }, {}],
  ["of another plugin's link", { hostIfname: "veth0" }, {}],
  ["whose link an ADD is making", {}, { up: false, alias: undefined }],
  ["whose link is gone", {}, undefined],
])("an attachment %s is left alone", async ([, recordChange, linkChange]) => {
  const { it, pass } = node(record("a", recordChange));
  it.links = linkChange === undefined ? [] : it.links.map((link) => ({ ...link, ...linkChange }));
  expect(await pass(ALL)).toEqual([]);
});

test("a host end that was up and is down now is a living attachment's", async () => {
  const { it, pass } = node(record("a"));
  it.links = it.links.map((link) => ({ ...link, up: false }));
  expect(await pass(ALL)).toEqual(["a"]);
});

test("one that was deleted or added again since the list was made isn't looked at", async () => {
  const { it, pass } = node(record("a"));
  const { records } = it;
  Object.defineProperty(it, "records", {
    get: () => {
      Object.defineProperty(it, "records", { value: [record("a", { confirmedAtMs: 2 })] });
      return records;
    },
    configurable: true,
  });
  expect(await pass(ALL)).toEqual([]);
});

test("one that can't be looked at stops no other and is one line in the log", async () => {
  const { it, keeper, pass } = node(record("a"), record("b"));
  it.broken.add("a");
  expect(await pass(ALL)).toEqual(["a", "b"]);
  expect(await pass(ALL)).toEqual(["a", "b"]);
  expect(it.lines).toEqual(["an attachment can't be kept as ADD made it"]);
  expect(keeper.restless).toBe(false);
  it.broken.clear();
  await pass(ALL);
  it.broken.add("a");
  await pass(ALL);
  expect(it.lines).toHaveLength(2);
});

test("what the kernel refuses is one line in the log, and tried again ever more rarely", async () => {
  const { it, pass } = node(record("a"));
  it.lost.set("a", ["no route"]);
  it.refusals = ["add route: EINVAL"];
  await pass(ALL);
  for (let i = 0; i < 300; i++) await pass();
  expect(it.lines).toEqual(["an attachment can't be kept as ADD made it"]);
  expect(it.repaired.length).toBeGreaterThan(3);
  expect(it.repaired.length).toBeLessThan(10);
});

test("looks are a tenth of the time at most, however many are due", async () => {
  const { it, keeper, pass } = node(...Array.from({ length: 50 }, (_, i) => record(`c${i}`)));
  it.lookMs = 2;
  const looks = await pass(ALL);
  while (keeper.restless) looks.push(...(await pass()));
  expect(looks).toEqual(it.records.map(({ attachment }) => attachment.containerId));
  expect(it.sleptMs).toBeGreaterThanOrEqual(9 * 50 * 2 - 9 * 4);
});

test("what is known to be lost comes before the rest of a look at everything", async () => {
  const { it, keeper, pass } = node(...Array.from({ length: 50 }, (_, i) => record(`c${i}`)));
  it.lookMs = 2;
  const first = await pass(ALL);
  expect(first.length).toBeLessThan(25);
  it.lost.set("c49", ["no route"]);
  expect((await pass({ own: new Set([59]) }))[0]).toBe("c49");
  expect((await pass())[0]).toBe("c49");
  expect(it.repaired).toEqual(["c49: no route"]);
  expect(keeper.restless).toBe(true);
});
