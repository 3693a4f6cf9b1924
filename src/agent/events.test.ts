// SPDX-License-Identifier: Apache-2.0
import { pino } from "pino";
import { expect, onTestFinished, test, vi } from "vitest";
import type { KubeEvent } from "../kube/events.ts";
import type { Notice } from "./event-ledger.ts";
import { type EventSink, Events } from "./events.ts";

const NODE = { kind: "Node", namespace: "", name: "node1", uid: "uid-1" } as const;
const POD = { kind: "Pod", namespace: "web", name: "web-0", uid: "uid-2" } as const;
const FULL: Notice = { subject: NODE, type: "Warning", reason: "SubnetExhausted", message: "it is full" };

/** A clock of the test's own, and what the log says. */
function telling(sink: Partial<EventSink> = {}) {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const lines: string[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line).msg) });
  let ids = 0;
  const events = new Events({ log, now: Date.now, newId: () => `id${ids++}` });
  onTestFinished(() => events.stop());
  const created: KubeEvent[] = [];
  const updated: KubeEvent[] = [];
  const recording: EventSink = {
    create: async (event) => created.push(event) > 0,
    update: async (event) => updated.push(event) > 0,
    ...sink,
  };
  return { events, created, updated, lines, sink: recording };
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("what is told before there is an API server is written once there is one", async () => {
  const { events, created, sink } = telling();
  events.tell(FULL);
  events.tell({ ...FULL, subject: POD });
  await pass(60_000);
  expect(created).toEqual([]);
  events.connect(sink);
  await pass(1_000);
  expect(created).toMatchObject([
    { ...FULL, namespace: "default", name: "node1.id0", count: 1 },
    { ...FULL, subject: POD, namespace: "web", name: "web-0.id1", count: 1 },
  ]);
});

test("what happens again makes the count of the Event that is there grow", async () => {
  const { events, created, updated, sink } = telling();
  events.connect(sink);
  for (let minute = 0; minute < 20; minute++) {
    events.tell(FULL);
    await pass(60_000);
  }
  expect(created).toHaveLength(1);
  expect(updated.length).toBeLessThanOrEqual(4);
  await pass(600_000);
  expect(updated.at(-1)).toMatchObject({ name: created[0]?.name, count: 20, firstMs: created[0]?.firstMs });
});

test("an API server that is away is asked now and then, is one line in the log, and gets everything when it is back", async () => {
  let tries = 0;
  let away = true;
  const { events, lines, sink } = telling({
    create: async () => {
      tries++;
      if (away) throw new Error("nobody is there");
      return true;
    },
  });
  events.connect(sink);
  for (let i = 0; i < 10; i++) events.tell({ ...FULL, reason: `Reason${i}` });
  await pass(3_600_000);
  expect(tries).toBeLessThanOrEqual(3_600_000 / 15_000 + 1);
  expect(lines).toEqual(["Events can't be written now; they wait"]);
  tries = 0;
  away = false;
  await pass(20_000);
  expect(tries).toBe(10);
  expect(events.dropped).toBe(0);
});

test("an Event that was deleted meanwhile is made anew", async () => {
  const { events, created, sink } = telling({ update: async () => false });
  events.connect(sink);
  events.tell(FULL);
  await pass(600_000);
  events.tell(FULL);
  await pass(1_000);
  expect(created.map(({ name, count }) => [name, count])).toEqual([
    ["node1.id0", 1],
    ["node1.id2", 1],
  ]);
});

test("one that is refused for what it is is counted and told, and the others are written", async () => {
  const seen: string[] = [];
  const { events, lines, sink } = telling({
    create: async ({ reason }) => {
      seen.push(reason);
      return reason !== "Bad";
    },
  });
  events.connect(sink);
  for (const reason of ["Bad", "Good"]) events.tell({ ...FULL, reason });
  await pass(60_000);
  expect(seen).toEqual(["Bad", "Good"]);
  expect(events.dropped).toBe(1);
  expect(lines).toEqual(["the API server refuses an Event"]);
});

test("what is lost while the API server is away is counted", async () => {
  const { events } = telling();
  for (let i = 0; i < 300; i++) events.tell({ ...FULL, subject: { ...POD, name: `web-${i}` } });
  expect(events.dropped).toBe(44);
});

test("long messages and long names are cut to what the API takes", async () => {
  const { events, created, sink } = telling();
  events.connect(sink);
  events.tell({ ...FULL, subject: { ...POD, name: "a".repeat(253) }, message: "ä".repeat(2_000) });
  await pass(1_000);
  const [event] = created as [KubeEvent];
  expect(event.name).toMatch(/^a+\.id0$/);
  expect(event.name).toHaveLength(253);
  expect(Buffer.byteLength(event.message)).toBeLessThanOrEqual(1024);
  expect(event.message).toMatch(/^ä+…$/);
});
