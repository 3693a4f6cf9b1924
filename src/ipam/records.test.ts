// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress } from "../net/address.ts";
import { attachmentKey } from "../net/names.ts";
import {
  type AllocationRecord,
  FORMAT_VERSION,
  formatWrite,
  gatewayAttachment,
  type PortMapping,
  parseAllocation,
  RecordError,
  type Write,
  writesOf,
} from "./records.ts";
import { parseSnapshot } from "./snapshot.ts";
import { BOOT_ID, request } from "./testing/fixtures.ts";

const { attachment: ATTACHMENT, pod: POD, netns: NETNS, hostIfname: HOST_IFNAME } = request("a");
const record: AllocationRecord = {
  attachment: ATTACHMENT,
  pod: POD,
  netns: NETNS,
  hostIfname: HOST_IFNAME,
  addresses: ["10.244.1.1", "fd00::1"],
  allocatedAtMs: 1_800_000_000_000,
  confirmedAtMs: 1_800_000_000_001,
  bootId: BOOT_ID,
  portMappings: [],
  aliases: [],
  extra: {},
};
const KEY = "a/pods/a/eth0";
const PORT: PortMapping = { hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: "" };

/** The record's JSON with fields replaced; undefined removes one. */
function json(changes: Record<string, unknown> = {}): string {
  const write = writesOf({ kind: "hold", record })[0] as Extract<Write, { type: "put" }>;
  return JSON.stringify({ ...JSON.parse(write.value), ...changes });
}

function failureOf(work: () => unknown): RecordError {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(RecordError);
    return error as RecordError;
  }
  throw new Error("it did not fail");
}

function apply(entries: Map<string, string>, writes: readonly Write[]) {
  for (const write of writes) {
    if (write.type === "put") entries.set(write.key, write.value);
    else entries.delete(write.key);
  }
}

test("the pool and whom the addresses are kept for are read as they were written, and ones that make no sense are refused", () => {
  const sticky = { owner: "pod default/web-0 (pods, eth0)", ttlMs: 600_000 };
  const kept = { ...record, pool: "db", sticky };
  const entries = new Map<string, string>();
  apply(entries, writesOf({ kind: "hold", record: kept }));
  expect(parseSnapshot(entries).allocations.get("pods/a/eth0")).toEqual(kept);
  apply(entries, writesOf({ kind: "free", record: kept, releasedAtMs: 7 }));
  expect(parseSnapshot(entries).released.get("fd00::1")).toEqual({ releasedAtMs: 7, holder: "pods/a/eth0", sticky });
  for (const wrong of [
    { pool: 7 },
    { sticky: "web-0" },
    { sticky: { owner: "a" } },
    { sticky: { owner: 1, ttlMs: 1 } },
  ]) {
    expect(failureOf(() => parseAllocation(KEY, json(wrong))).code).toBe("RECORD_INVALID");
  }
});

test("the format on disk is this, byte for byte", () => {
  expect(formatWrite()).toEqual({ type: "put", key: "f", value: '{"v":1}' });
  expect(writesOf({ kind: "hold", record })).toEqual([
    {
      type: "put",
      key: KEY,
      value:
        '{"v":1,"network":"pods","containerId":"a","ifname":"eth0",' +
        '"pod":{"namespace":"default","name":"pod-a","uid":"uid-a"},"netns":"/run/netns/a","hostIfname":"' +
        `${HOST_IFNAME}",` +
        '"addresses":["10.244.1.1","fd00::1"],"allocatedAtMs":1800000000000,"confirmedAtMs":1800000000001,' +
        `"bootId":"${BOOT_ID}"}`,
    },
    { type: "del", key: "r/10.244.1.1" },
    { type: "del", key: "r/fd00::1" },
  ]);
  const value = '{"v":1,"releasedAtMs":1800000000002,"holder":"pods/a/eth0"}';
  expect(writesOf({ kind: "free", record, releasedAtMs: 1_800_000_000_002 })).toEqual([
    { type: "del", key: KEY },
    { type: "put", key: "r/10.244.1.1", value },
    { type: "put", key: "r/fd00::1", value },
  ]);
});

test("a database of the first version is read as it is, and what that version didn't know is none", () => {
  const snapshot = parseSnapshot([
    ["f", '{"v":1}'],
    [
      KEY,
      '{"v":1,"network":"pods","containerId":"a","ifname":"eth0",' +
        '"pod":{"namespace":"default","name":"pod-a","uid":"uid-a"},"netns":"/run/netns/a","hostIfname":"fl0123456789a",' +
        '"addresses":["10.244.1.1","fd00::1"],"allocatedAtMs":1800000000000,"bootId":"b"}',
    ],
    ["r/10.244.1.2", '{"v":1,"releasedAtMs":1800000000002,"holder":"pods/b/eth0"}'],
  ]);
  expect([...snapshot.allocations.values()]).toMatchObject([
    {
      attachment: ATTACHMENT,
      addresses: ["10.244.1.1", "fd00::1"],
      confirmedAtMs: 1_800_000_000_000,
      portMappings: [],
      aliases: [],
      extra: {},
    },
  ]);
  expect([...snapshot.released]).toEqual([["10.244.1.2", { releasedAtMs: 1_800_000_000_002, holder: "pods/b/eth0" }]]);
});

test.for<[title: string, other: Partial<AllocationRecord>, what: string]>([
  ["an address", { addresses: ["fd00::1"] }, "address fd00::1"],
  ["a host link", { hostIfname: record.hostIfname }, `host link ${record.hostIfname}`],
  ["a port", { portMappings: [{ ...PORT, hostIp: "127.0.0.1" }] }, "tcp port 8080 of 127.0.0.1"],
])("%s that two attachments have is a contradiction", ([, other, what]) => {
  const entries = new Map<string, string>();
  const { attachment, hostIfname } = request("b");
  const second = { ...record, addresses: ["fd00::2"], attachment, hostIfname, ...other };
  for (const one of [{ ...record, portMappings: [PORT] }, second])
    apply(entries, writesOf({ kind: "hold", record: one }));
  expect(failureOf(() => parseSnapshot(entries))).toMatchObject({
    code: "RECORD_CONFLICT",
    message: `record "a/pods/b/eth0": ${what} is held by "a/pods/a/eth0" too`,
  });
});

test("port mappings are a field of their own, which old readers keep, and old records have none", () => {
  const [write] = writesOf({ kind: "hold", record: { ...record, portMappings: [PORT] } });
  const { value } = write as { value: string };
  expect(JSON.parse(value)).toEqual({ ...JSON.parse(json()), portMappings: [PORT] });
  expect(parseAllocation(KEY, value).portMappings).toEqual([PORT]);
  expect(parseAllocation(KEY, json()).portMappings).toEqual([]);
});

test("aliases are a field of their own, which old readers keep, and old records have none", () => {
  const aliases = ["db", "web_1.prod"];
  const [write] = writesOf({ kind: "hold", record: { ...record, aliases } });
  const { value } = write as { value: string };
  expect(JSON.parse(value)).toEqual({ ...JSON.parse(json()), aliases });
  expect(parseAllocation(KEY, value).aliases).toEqual(aliases);
  expect(parseAllocation(KEY, json()).aliases).toEqual([]);
});

test("the pod's end is a field of its own, which old readers keep, and old records have none", () => {
  const podEnd = { netnsId: "4:4026532301", routes: [{ destination: "10.0.0.0/8", table: 100 }] };
  const [write] = writesOf({ kind: "hold", record: { ...record, podEnd } });
  const { value } = write as { value: string };
  expect(JSON.parse(value)).toEqual({ ...JSON.parse(json()), podEnd });
  expect(parseAllocation(KEY, value).podEnd).toEqual(podEnd);
  expect(parseAllocation(KEY, json())).not.toHaveProperty("podEnd");
  const routes = [{ destination: "10.0.0.1/8" }];
  for (const wrong of [7, {}, { netnsId: "4", routes: [] }, { netnsId: "4:7" }, { netnsId: "4:7", routes }]) {
    expect(failureOf(() => parseAllocation(KEY, json({ podEnd: wrong }))).message).toContain("podEnd is ");
  }
});

test("a gateway's record is one that every reader of allocations understands", () => {
  const gateway = { ...record, attachment: gatewayAttachment("pods", "fd00::1"), addresses: ["fd00::1"] };
  const entries = new Map<string, string>();
  apply(entries, writesOf({ kind: "hold", record: gateway }));
  expect([...entries.keys()]).toEqual(["a/pods/gateway:fd00::1/"]);
  expect([...parseSnapshot(entries).allocations.values()]).toEqual([gateway]);
});

test("what is written is read again", () => {
  const address = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }).map((v4) => [formatAddress(v4)]),
    fc.uint8Array({ minLength: 16, maxLength: 16 }).map((v6) => [formatAddress(v6)]),
    fc
      .tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
      .map((both) => both.map(formatAddress)),
  );
  const port = fc.integer({ min: 1, max: 65_535 });
  const portMapping = fc.record({
    hostPort: port,
    containerPort: port,
    protocol: fc.constantFrom("tcp" as const, "udp" as const, "sctp" as const),
    hostIp: fc.oneof(
      fc.constant(""),
      address.map((texts) => texts[0] as string),
    ),
  });
  const arbitrary: fc.Arbitrary<AllocationRecord> = fc.record({
    attachment: fc.record({
      network: fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}$/),
      containerId: fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}$/),
      ifname: fc.stringMatching(/^[^/:\s]{1,15}$/),
    }),
    pod: fc.option(fc.record({ namespace: fc.string(), name: fc.string(), uid: fc.string() }), { nil: undefined }),
    netns: fc.string(),
    hostIfname: fc.string(),
    addresses: address,
    allocatedAtMs: fc.maxSafeNat(),
    confirmedAtMs: fc.maxSafeNat(),
    bootId: fc.uuid(),
    portMappings: fc.array(portMapping),
    aliases: fc.array(fc.stringMatching(/^[a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63}){0,2}$/)),
    extra: fc.constant({}),
  });
  fc.assert(
    fc.property(arbitrary, fc.maxSafeNat(), (some, releasedAtMs) => {
      const entries = new Map<string, string>();
      apply(entries, writesOf({ kind: "hold", record: some }));
      const key = attachmentKey(some.attachment);
      expect(parseSnapshot(entries)).toEqual({ allocations: new Map([[key, some]]), released: new Map() });
      apply(entries, writesOf({ kind: "free", record: some, releasedAtMs }));
      const release = { releasedAtMs, holder: key };
      expect(parseSnapshot(entries)).toEqual({
        allocations: new Map(),
        released: new Map(some.addresses.map((text) => [text, release])),
      });
    }),
  );
});

test("fields of a newer writer survive being read and written again", () => {
  const read = parseAllocation(KEY, json({ hostPorts: [80], site: "b" }));
  expect(read.extra).toEqual({ hostPorts: [80], site: "b" });
  const [write] = writesOf({ kind: "confirm", record: read });
  expect(JSON.parse((write as { value: string }).value)).toMatchObject({ hostPorts: [80], site: "b" });
});

test("keys of a kind that this version does not know are left alone", () => {
  expect(parseSnapshot([["h/10.244.1.1/1", "anything"]]).allocations.size).toBe(0);
});

test("a record of before confirmedAtMs was written counts as confirmed when it was made", () => {
  expect(parseAllocation(KEY, json({ confirmedAtMs: undefined })).confirmedAtMs).toBe(record.allocatedAtMs);
});

test.for<[title: string, changes: Record<string, unknown>, message: RegExp]>([
  ["no version", { v: undefined }, /v is missing/],
  ["a version that is text", { v: "1" }, /v is "1"/],
  ["version 0", { v: 0 }, /v is 0/],
  ["no network", { network: undefined }, /network is missing/],
  ["another attachment's content", { containerId: "b" }, /about another attachment, pods\/b\/eth0/],
  ["a pod that is text", { pod: "default/a" }, /pod is "default\/a"/],
  ["a pod without a name", { pod: { namespace: "d", uid: "" } }, /pod.name is missing/],
  ["no netns", { netns: null }, /netns is null/],
  ["no addresses", { addresses: [] }, /addresses is \[\]/],
  ["addresses that are text", { addresses: "10.244.1.1" }, /addresses is "10.244.1.1"/],
  ["an address that is none", { addresses: ["10.244.1.256"] }, /addresses is/],
  ["an address in another spelling", { addresses: ["fd00:0::1"] }, /addresses is/],
  ["an address that is a number", { addresses: [1] }, /addresses is \[1\]/],
  ["two addresses of a family", { addresses: ["10.0.0.1", "10.0.0.2"] }, /addresses is/],
  ["IPv6 first", { addresses: ["fd00::1", "10.0.0.1"] }, /addresses is/],
  ["a time that is text", { allocatedAtMs: "now" }, /allocatedAtMs is "now"/],
  ["a negative time", { confirmedAtMs: -1 }, /confirmedAtMs is -1/],
  ["a time with a fraction", { allocatedAtMs: 1.5 }, /allocatedAtMs is 1.5/],
  ["no boot id", { bootId: 7 }, /bootId is 7/],
  ["ports that are no list", { portMappings: {} }, /portMappings is \{\}/],
  ["a port that is no object", { portMappings: [80] }, /portMappings is \[80\]/],
  ["port 0", { portMappings: [{ ...PORT, hostPort: 0 }] }, /portMappings is .*"hostPort":0/],
  ["a port with a fraction", { portMappings: [{ ...PORT, containerPort: 1.5 }] }, /portMappings is .*1\.5/],
  ["a port of another protocol", { portMappings: [{ ...PORT, protocol: "icmp" }] }, /portMappings is .*"icmp"/],
  [
    "a port on an address in another spelling",
    { portMappings: [{ ...PORT, hostIp: "::0" }] },
    /portMappings is .*"::0"/,
  ],
  ["aliases that are text", { aliases: "db" }, /aliases is "db"/],
  ["an alias that is a number", { aliases: ["db", 7] }, /aliases is \["db",7\]/],
  ["an alias that is no name", { aliases: ["d b"] }, /aliases is \["d b"\]/],
  ["a port on no address", { portMappings: [{ ...PORT, hostIp: undefined }] }, /portMappings is/],
])("a record with %s is refused with its key and field", ([, changes, message]) => {
  const failure = failureOf(() => parseSnapshot([[KEY, json(changes)]]));
  expect(failure).toMatchObject({ code: "RECORD_INVALID", key: KEY });
  expect(failure.message).toMatch(message);
  expect(failure.message).toContain(JSON.stringify(KEY));
});

test.for([
  [KEY, "{", "it is not JSON"],
  [KEY, "[]", "it is not a JSON object"],
  [KEY, "null", "it is not a JSON object"],
  ["r/10.0.0.1", '{"v":1}', "releasedAtMs is missing"],
  ["r/10.0.0.1", '{"v":1,"releasedAtMs":1}', "holder is missing"],
  ["r/10.0.0.01", '{"v":1,"releasedAtMs":1,"holder":""}', "its key is not a canonical address"],
  ["f", "1", "it is not a JSON object"],
] as const)("%s = %s is refused: %s", ([key, value, message]) => {
  expect(failureOf(() => parseSnapshot([[key, value]])).message).toBe(`record "${key}": ${message}`);
});

test.for([
  ["f", JSON.stringify({ v: FORMAT_VERSION + 1 })],
  [KEY, JSON.stringify({ v: FORMAT_VERSION + 1, everything: "else is different" })],
  ["r/10.0.0.1", JSON.stringify({ v: 99 })],
] as const)("a newer format in %s is refused as such", ([key, value]) => {
  const failure = failureOf(() => parseSnapshot([[key, value]]));
  expect(failure).toMatchObject({ code: "RECORD_NEWER", key });
  expect(failure.message).toContain("run the program that wrote it");
});

test("an address in two allocations is a contradiction that names both", () => {
  const other = { ...record, attachment: request("b").attachment, addresses: ["fd00::1"] };
  const entries = new Map<string, string>();
  for (const one of [record, other]) apply(entries, writesOf({ kind: "hold", record: one }));
  const failure = failureOf(() => parseSnapshot(entries));
  expect(failure).toMatchObject({ code: "RECORD_CONFLICT", key: "a/pods/b/eth0" });
  expect(failure.message).toContain('address fd00::1 is held by "a/pods/a/eth0" too');
});

test("an address that is held does not count as released", () => {
  const released = '{"v":1,"releasedAtMs":1,"holder":"pods/x/eth0"}';
  expect(
    parseSnapshot([
      ["r/10.244.1.1", released],
      [KEY, json()],
    ]).released.size,
  ).toBe(0);
});

test("limits are read as they were written, a record of before has none, and ones that make no sense are refused", () => {
  const limited = { ...record, bandwidth: { ingressRate: 1_000_000, egressRate: 0 } };
  const [write] = writesOf({ kind: "confirm", record: limited });
  expect(write?.type === "put" && parseAllocation(KEY, write.value)).toEqual(limited);
  const [before] = writesOf({ kind: "confirm", record });
  expect(before?.type === "put" && before.value).not.toContain("bandwidth");
  const rate = 1_000;
  for (const wrong of [
    null,
    1,
    {},
    { ingressRate: rate },
    { ingressRate: -1, egressRate: 0 },
    { ingressRate: 1.5, egressRate: 0 },
  ]) {
    expect(failureOf(() => parseAllocation(KEY, json({ bandwidth: wrong }))).code).toBe("RECORD_INVALID");
  }
});
