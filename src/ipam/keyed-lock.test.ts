// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { KeyedLock } from "./keyed-lock.ts";

test("work on one key runs in order and alone, other keys do not wait, and a failure stops nobody", async () => {
  const lock = new KeyedLock();
  const events: string[] = [];
  const gates = new Map<string, PromiseWithResolvers<void>>();
  const work = (key: string, name: string) =>
    lock.run(key, async () => {
      events.push(`${name} begins`);
      const gate = Promise.withResolvers<void>();
      gates.set(name, gate);
      await gate.promise;
      events.push(`${name} ends`);
    });
  const first = work("k", "first");
  const second = work("k", "second");
  const other = work("l", "other");
  expect(events).toEqual(["first begins", "other begins"]);
  gates.get("other")?.resolve();
  await other;
  gates.get("first")?.reject(new Error("first fails"));
  await expect(first).rejects.toThrow("first fails");
  await new Promise((turn) => setImmediate(turn));
  expect(events.slice(2)).toEqual(["other ends", "second begins"]);
  gates.get("second")?.resolve();
  await second;
  await lock.idle();
});
