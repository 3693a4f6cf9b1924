// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  expiredKeys,
  type HistoryQuery,
  HistoryWriter,
  parseHistoryKey,
  parseTenure,
  readHistory,
  type Tenure,
} from "./history.ts";
import type { AllocationRecord, Write } from "./records.ts";
import { BOOT_ID, request } from "./testing/fixtures.ts";
import { MemoryDisk, MemoryStore } from "./testing/memory-store.ts";

const ALL: HistoryQuery = {
  address: undefined,
  fromMs: 0,
  toMs: Number.MAX_SAFE_INTEGER,
  limit: 1000,
  after: undefined,
};

function record(name: string, addresses: string[], allocatedAtMs: number): AllocationRecord {
  const { requestedAddresses: _, withGateway: __, ...common } = request(name);
  return { ...common, addresses, allocatedAtMs, confirmedAtMs: allocatedAtMs, bootId: BOOT_ID, extra: {} };
}

function puts(writes: readonly Write[]): [key: string, value: string][] {
  return writes.map((write) => {
    if (write.type !== "put") throw new Error(`${write.key} is deleted`);
    return [write.key, write.value];
  });
}

test("an entry is this, byte for byte, one for each address that is given back", () => {
  const free = {
    kind: "free",
    record: record("a", ["10.0.0.1", "fd00::1"], 7),
    releasedAtMs: 1_800_000_000_000,
  } as const;
  const value =
    '{"v":1,"network":"pods","containerId":"a","ifname":"eth0",' +
    '"pod":{"namespace":"default","name":"pod-a","uid":"uid-a"},' +
    '"allocatedAtMs":7,"releasedAtMs":1800000000000,"cause":"gc"}';
  expect(new HistoryWriter(undefined).writesOf(free, "gc")).toEqual([
    { type: "put", key: "h/0001800000000000/0000000000/10.0.0.1", value },
    { type: "put", key: "h/0001800000000000/0000000001/fd00::1", value },
  ]);
  expect(parseTenure("h/0001800000000000/0000000001/fd00::1", value)).toEqual({
    ...{ address: "fd00::1", attachment: request("a").attachment, pod: request("a").pod },
    ...{ allocatedAtMs: 7, releasedAtMs: 1_800_000_000_000, cause: "gc" },
  });
});

test("nothing but the end of a tenure makes an entry", () => {
  const held = record("a", ["10.0.0.1"], 7);
  const writer = new HistoryWriter(undefined);
  expect(writer.writesOf({ kind: "hold", record: held }, "del")).toEqual([]);
  expect(writer.writesOf({ kind: "confirm", record: held }, "del")).toEqual([]);
  expect(writer.writesOf({ kind: "forget", addresses: ["10.0.0.1"] }, "del")).toEqual([]);
});

test("whatever the clock does and however often it begins anew, keys ascend and every answer is that of a full search", async () => {
  const time = fc.integer({ min: 0, max: 60 });
  const tenure = fc.record({
    address: fc.constantFrom("10.0.0.1", "10.0.0.2", "fd00::1"),
    allocatedAtMs: time,
    releasedAtMs: time,
    restart: fc.boolean(),
  });
  const question = fc.record({
    address: fc.constantFrom(undefined, "10.0.0.1", "fd00::1"),
    fromMs: time,
    length: time,
    limit: fc.integer({ min: 1, max: 5 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(tenure, { maxLength: 30 }),
      fc.array(question, { maxLength: 4 }),
      async (told, questions) => {
        const disk = new MemoryDisk();
        const truth: Tenure[] = [];
        let writer = new HistoryWriter(undefined);
        let lastKey = "";
        for (const [i, { address, allocatedAtMs, releasedAtMs, restart }] of told.entries()) {
          if (restart) writer = new HistoryWriter(lastKey === "" ? undefined : parseHistoryKey(lastKey));
          const one = record(`c${i}`, [address], allocatedAtMs);
          for (const [key, value] of puts(writer.writesOf({ kind: "free", record: one, releasedAtMs }, "del"))) {
            expect(key > lastKey).toBe(true);
            disk.entries.set(key, value);
            lastKey = key;
          }
          truth.unshift({
            address,
            attachment: one.attachment,
            pod: one.pod,
            allocatedAtMs,
            releasedAtMs,
            cause: "del",
          });
        }
        const held = [record("held", ["10.0.0.1", "fd00::1"], 30)];
        const present = held.flatMap(({ addresses, attachment, pod, allocatedAtMs }) =>
          addresses.map((address): Tenure => {
            return { address, attachment, pod, allocatedAtMs, releasedAtMs: undefined, cause: "" };
          }),
        );
        for (const { address, fromMs, length, limit } of questions) {
          const toMs = fromMs + length;
          const expected = [...present, ...truth].filter((one) => {
            const ends = [one.allocatedAtMs, one.releasedAtMs ?? Number.POSITIVE_INFINITY];
            return (address ?? one.address) === one.address && Math.min(...ends) <= toMs && Math.max(...ends) >= fromMs;
          });
          const answer: Tenure[] = [];
          let after: string | undefined;
          do {
            const query = { address, fromMs, toMs, limit, after };
            const page = await readHistory(new MemoryStore(disk), held, query);
            expect(page.tenures.length).toBeLessThanOrEqual(limit);
            answer.push(...page.tenures);
            after = page.next;
          } while (after !== undefined);
          expect(answer).toEqual(expected);
        }
      },
    ),
  );
});

test("what has ended while it was looked for is told once, and as held", async () => {
  const disk = new MemoryDisk();
  const one = record("a", ["10.0.0.1"], 1);
  for (const [key, value] of puts(
    new HistoryWriter(undefined).writesOf({ kind: "free", record: one, releasedAtMs: 2 }, "del"),
  )) {
    disk.entries.set(key, value);
  }
  const { tenures } = await readHistory(new MemoryStore(disk), [one], ALL);
  expect(tenures).toMatchObject([{ address: "10.0.0.1", releasedAtMs: undefined }]);
});

test("the oldest go when there are too many, and all of before a time", async () => {
  const disk = new MemoryDisk();
  const writer = new HistoryWriter(undefined);
  for (let ms = 1; ms <= 9; ms++) {
    const one = record(`c${ms}`, [`10.0.0.${ms}`], 0);
    for (const [key, value] of puts(writer.writesOf({ kind: "free", record: one, releasedAtMs: ms }, "del"))) {
      disk.entries.set(key, value);
    }
  }
  const expired = async (beforeMs: number, entriesMax: number) =>
    (await expiredKeys(new MemoryStore(disk), { beforeMs, entriesMax })).map((key) => parseHistoryKey(key).orderMs);
  expect(await expired(3, 100)).toEqual([2, 1]);
  expect(await expired(0, 7)).toEqual([2, 1]);
  expect(await expired(-5, 100)).toEqual([]);
  expect(await expired(Number.POSITIVE_INFINITY, 100)).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1]);
});

test.for(["h/1/2/10.0.0.1", "h/0001800000000000/0000000000/", "h/x"])("%s is no key of an entry", (key) => {
  expect(() => parseHistoryKey(key)).toThrow(`record ${JSON.stringify(key)}: its key is not that of a history entry`);
});
