// SPDX-License-Identifier: Apache-2.0
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { run } from "../../test/helpers/daemon.ts";
import type { AllocationRecord } from "../ipam/records.ts";
import { netnsIdentity } from "../net/names.ts";
import { lookAtNetns, passIntervalMs, Retirer } from "./retire.ts";
import type { LinkSight, NetnsSight } from "./retire-rules.ts";

const GRACE = 60_000;
const BOOT = "this-boot";

function record(name: string, more: Partial<AllocationRecord> = {}): AllocationRecord {
  return {
    attachment: { network: "pods", containerId: name, ifname: "eth0" },
    pod: { namespace: "default", name: `pod-${name}`, uid: "" },
    netns: `/run/netns/${name}`,
    hostIfname: `fl${name}`,
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

/** A node whose links and namespaces are what the test says: missing ones are gone. */
function node(...records: AllocationRecord[]) {
  const it = {
    records,
    links: new Map<string, LinkSight>(),
    namespaces: new Map<string, NetnsSight>(),
    /** Attachments whose retirement fails. */
    failing: new Set<AllocationRecord>(),
    /** What happens between the look at the attachments and their retirement. */
    meanwhile: () => {},
    nowMs: 0,
    lines: [] as { fields: Record<string, unknown>; message: string }[],
    seen: new Map<string, boolean>(),
    identities: new Map<string, string | undefined>(),
  };
  const say = (fields: object, message: string) =>
    void it.lines.push({ fields: fields as Record<string, unknown>, message });
  const retirer = new Retirer({
    allocations: {
      list: async () => ({ allocations: it.records }),
      retire: async (one) => {
        it.meanwhile();
        if (it.failing.has(one)) throw new Error("no space left on device");
        const known = it.records.includes(one);
        it.records = it.records.filter((other) => other !== one);
        return known;
      },
    },
    surroundings: {
      lookAtLinks: async (names) => names.map((name) => it.links.get(name) ?? "gone"),
      lookAtNetns: async (path, seen, identity) => {
        it.seen.set(path, seen);
        it.identities.set(path, identity);
        return it.namespaces.get(path) ?? "missing";
      },
    },
    graceMs: GRACE,
    bootId: BOOT,
    log: { info: say, error: say },
    now: () => it.nowMs,
  });
  return {
    it,
    pass: async (afterMs: number) => {
      it.nowMs += afterMs;
      await retirer.pass();
      return it.records.map(({ attachment }) => attachment.containerId);
    },
  };
}

test("an attachment that is gone for the grace period is retired, and the log names its holder", async () => {
  const { it, pass } = node(record("a"), record("b"));
  it.links.set("flb", "present");
  expect(await pass(0)).toEqual(["a", "b"]);
  expect(await pass(GRACE / 2)).toEqual(["a", "b"]);
  expect(await pass(GRACE / 2)).toEqual(["b"]);
  expect(it.lines).toMatchObject([
    { fields: { network: "pods", containerId: "a", pod: { name: "pod-a" }, addresses: ["10.0.0.1"] } },
  ]);
  expect(await pass(10 * GRACE)).toEqual(["b"]);
});

test("an attachment without host link is judged by its namespace", async () => {
  const { it, pass } = node(record("a", { hostIfname: "" }), record("b", { hostIfname: "" }));
  it.namespaces.set("/run/netns/b", "namespace");
  await pass(0);
  expect(await pass(GRACE)).toEqual(["b"]);
});

test("that a namespace was seen once is remembered for as long as its attachment exists", async () => {
  const { it, pass } = node(record("a", { hostIfname: "" }));
  it.namespaces.set("/run/netns/a", "namespace");
  await pass(0);
  expect(it.seen.get("/run/netns/a")).toBe(false);
  it.namespaces.set("/run/netns/a", "hidden");
  await pass(1);
  await pass(1);
  expect(it.seen.get("/run/netns/a")).toBe(true);
  const { records } = it;
  it.records = [];
  await pass(1);
  it.records = records;
  await pass(1);
  expect(it.seen.get("/run/netns/a")).toBe(false);
});

test("an attachment of another boot is retired by the next pass", async () => {
  const { pass } = node(record("a", { bootId: "earlier" }));
  expect(await pass(0)).toEqual(["a"]);
  expect(await pass(1)).toEqual([]);
});

test("the gateway of a network is never looked at", async () => {
  const gateway = record("gateway:10.0.0.1", { hostIfname: "", netns: "", bootId: "earlier" });
  const { it, pass } = node({ ...gateway, attachment: { ...gateway.attachment, ifname: "" } });
  await pass(0);
  expect(await pass(GRACE)).toHaveLength(1);
  expect(it.seen.size).toBe(0);
});

test("one that can't be retired stops no other and is tried again by the next pass", async () => {
  const [a, b] = [record("a"), record("b")];
  const { it, pass } = node(a, b);
  await pass(0);
  it.failing.add(a);
  expect(await pass(GRACE)).toEqual(["a"]);
  it.failing.clear();
  expect(await pass(1)).toEqual([]);
  expect(it.lines.map(({ fields }) => fields["containerId"])).toEqual(["a", "b", "a"]);
});

test("one that was added again meanwhile is not reported as retired", async () => {
  const { it, pass } = node(record("a"));
  await pass(0);
  it.meanwhile = () => {
    it.records = [record("a", { confirmedAtMs: 2 })];
  };
  expect(await pass(GRACE)).toEqual(["a"]);
  expect(it.lines).toEqual([]);
});

test("passes come twice a grace period, at least every 30 s and not without end", () => {
  expect([1, 1_000, 60_000, 3_600_000].map(passIntervalMs)).toEqual([100, 500, 30_000, 30_000]);
});

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "retire-"));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

test("a namespace's file is a namespace", async () => {
  expect(await lookAtNetns("/proc/self/ns/net", false)).toBe("namespace");
});

test("a namespace's file is another one when its identity is", async () => {
  const { ino } = await stat("/proc/self/ns/net", { bigint: true });
  const device = (await run(["stat", "-L", "-c", "%Hd:%Ld", "/proc/self/ns/net"])).trim();
  const [major = "", minor = ""] = device.split(":");
  const dev = (BigInt(major) << 32n) | BigInt(minor);
  expect(await lookAtNetns("/proc/self/ns/net", false, netnsIdentity({ dev, ino }))).toBe("namespace");
  expect(await lookAtNetns("/proc/self/ns/net", false, netnsIdentity({ dev, ino: ino + 1n }))).toBe("another");
  expect(await lookAtNetns("/proc/self/ns/net", false, netnsIdentity({ dev: dev + 1n, ino }))).toBe("another");
});

test("an attachment is judged by its own namespace, not by the one that has its path now", async () => {
  const { it, pass } = node(record("a", { hostIfname: "", podEnd: { netnsId: "4:7", routes: [] } }));
  it.namespaces.set("/run/netns/a", "another");
  expect(await pass(0)).toEqual(["a"]);
  expect(it.identities.get("/run/netns/a")).toBe("4:7");
  expect(await pass(GRACE)).toEqual([]);
});

test("what is no namespace's file is hidden: a mount that can't be seen looks like this", async () => {
  const dir = await directory();
  await writeFile(join(dir, "pod"), "");
  expect(await lookAtNetns(join(dir, "pod"), true)).toBe("hidden");
  await mkdir(join(dir, "directory"));
  expect(await lookAtNetns(join(dir, "directory"), true)).toBe("hidden");
});

test("nothing is missing where namespaces are seen, or this one was seen, and hidden elsewhere", async () => {
  const dir = await directory();
  await writeFile(join(dir, "other"), "");
  expect(await lookAtNetns(join(dir, "pod"), false)).toBe("hidden");
  expect(await lookAtNetns(join(dir, "pod"), true)).toBe("missing");
  expect(await lookAtNetns("/proc/self/ns/none", false)).toBe("missing");
});

test("nothing in a directory that is missing too is hidden", async () => {
  const dir = await directory();
  expect(await lookAtNetns(join(dir, "none", "pod"), true)).toBe("hidden");
});

test("a path that can't be looked at is unknown", async () => {
  const dir = await directory();
  await writeFile(join(dir, "file"), "");
  expect(await lookAtNetns(join(dir, "file", "pod"), true)).toBe("unknown");
});

test("a namespace of which no path is known is hidden, whatever was seen", async () => {
  expect(await lookAtNetns("", true)).toBe("hidden");
});
