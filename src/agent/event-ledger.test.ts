// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Due, EventLedger, type Notice } from "./event-ledger.ts";

const START = Date.UTC(2027, 0, 15, 8);
const MINUTE = 60_000;
const HOUR = 3_600_000;

function notice(name: string, reason = "SubnetExhausted", message = "it is full"): Notice {
  return { subject: { kind: "Pod", namespace: "web", name, uid: `uid-${name}` }, type: "Warning", reason, message };
}

/** Writes all that is due. @returns what was written */
function writeAll(ledger: EventLedger, nowMs: number): Due[] {
  const written: Due[] = [];
  for (let due = ledger.due(nowMs); due !== undefined; due = ledger.due(nowMs)) {
    ledger.written(due, due.existing ?? `event-${written.length}`, nowMs);
    written.push(due);
  }
  return written;
}

test("what is told is due at once, and once", () => {
  const ledger = new EventLedger();
  expect(ledger.due(START)).toBeUndefined();
  ledger.note(notice("a"), START);
  expect(writeAll(ledger, START)).toMatchObject([
    { notice: notice("a"), existing: undefined, count: 1, firstMs: START, lastMs: START },
  ]);
  expect(ledger.due(START + HOUR)).toBeUndefined();
});

test("the same again makes the same Event's count grow, twelve times an hour at most, and says what was said last", () => {
  const ledger = new EventLedger();
  ledger.note(notice("a"), START);
  writeAll(ledger, START);
  for (let minute = 1; minute <= 4; minute++) ledger.note(notice("a", undefined, `${minute}`), START + minute * MINUTE);
  expect(writeAll(ledger, START + 4 * MINUTE)).toEqual([]);
  expect(writeAll(ledger, START + 5 * MINUTE)).toMatchObject([
    { existing: "event-0", count: 5, firstMs: START, lastMs: START + 4 * MINUTE, notice: { message: "4" } },
  ]);
});

test("another reason, and another object with the same name, are other Events", () => {
  const ledger = new EventLedger();
  const replaced = { ...notice("a"), subject: { ...notice("a").subject, uid: "another" } };
  for (const one of [notice("a"), notice("a", "StrayAddresses"), replaced]) ledger.note(one, START);
  expect(writeAll(ledger, START)).toHaveLength(3);
});

test("what happens again after the API server has forgotten it is a new Event", () => {
  const ledger = new EventLedger();
  ledger.note(notice("a"), START);
  writeAll(ledger, START);
  ledger.note(notice("a"), START + 2 * HOUR);
  expect(writeAll(ledger, START + 2 * HOUR)).toMatchObject([
    { existing: undefined, count: 1, firstMs: START + 2 * HOUR },
  ]);
});

test("an Event that somebody deleted is made anew with what was not told yet", () => {
  const ledger = new EventLedger();
  ledger.note(notice("a"), START);
  writeAll(ledger, START);
  ledger.note(notice("a"), START + HOUR / 2);
  ledger.gone(ledger.due(START + HOUR / 2) as Due);
  expect(writeAll(ledger, START + HOUR / 2)).toMatchObject([{ existing: undefined, count: 1 }]);
});

test("what is noted while it is being written isn't lost", () => {
  const ledger = new EventLedger();
  ledger.note(notice("a"), START);
  const due = ledger.due(START) as Due;
  ledger.note(notice("a"), START + 1);
  ledger.written(due, "event", START + 2);
  expect(ledger.due(START + 3)).toBeUndefined();
  expect(ledger.due(START + HOUR / 2)).toMatchObject({ existing: "event", count: 2 });
});

test("what waits too long is pushed out, the oldest first, and counted", () => {
  const ledger = new EventLedger();
  ledger.note(notice("oldest"), START);
  ledger.note(notice("oldest"), START);
  let lost = 0;
  for (let i = 0; i < 256; i++) lost += ledger.note(notice(`pod-${i}`), START + 1);
  expect(lost).toBe(2);
  expect(ledger.due(START + 2)?.notice.subject.name).toBe("pod-0");
});

test("one that can't be written is given up alone, and counted", () => {
  const ledger = new EventLedger();
  ledger.note(notice("a"), START);
  ledger.note(notice("b"), START);
  expect(ledger.dropped(ledger.due(START) as Due)).toBe(1);
  expect(writeAll(ledger, START)).toMatchObject([{ notice: notice("b") }]);
});

test("a storm of different things is written at a bounded rate", () => {
  const ledger = new EventLedger();
  for (let i = 0; i < 100; i++) ledger.note(notice(`pod-${i}`), START);
  expect(writeAll(ledger, START)).toHaveLength(25);
  expect(writeAll(ledger, START + 9_999)).toHaveLength(0);
  expect(writeAll(ledger, START + MINUTE)).toHaveLength(6);
});

test("a clock that is set back silences nothing", () => {
  const ledger = new EventLedger();
  ledger.note(notice("a"), START);
  writeAll(ledger, START);
  ledger.note(notice("a"), START - 24 * HOUR);
  expect(writeAll(ledger, START - 24 * HOUR)).toHaveLength(1);
});

test("whatever happens, everything is written, lost and counted, or waits", () => {
  const step = fc.record({ pod: fc.nat(400), afterMs: fc.nat(10 * MINUTE), write: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
      const ledger = new EventLedger();
      let [nowMs, noted, lost] = [START, 0, 0];
      const counts = new Map<string, number>();
      let closed = 0;
      const write = () => {
        for (let due = ledger.due(nowMs); due !== undefined; due = ledger.due(nowMs)) {
          if (due.existing === undefined) closed += counts.get(due.key) ?? 0;
          counts.set(due.key, due.count);
          ledger.written(due, "event", nowMs);
        }
      };
      for (const { pod, afterMs, write: now } of steps) {
        nowMs += afterMs;
        noted++;
        lost += ledger.note(notice(`${pod}`), nowMs);
        if (now) write();
      }
      for (let hour = 0; hour < 4; hour++) {
        nowMs += HOUR / 2;
        write();
      }
      const told = [...counts.values()].reduce((sum, count) => sum + count, closed);
      expect(told + lost).toBe(noted);
    }),
  );
});
