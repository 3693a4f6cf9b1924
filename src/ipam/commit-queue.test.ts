// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { CommitQueue } from "./commit-queue.ts";

/** A queue whose writes end when the test says so. */
function heldQueue() {
  const written: string[][] = [];
  const pending: PromiseWithResolvers<void>[] = [];
  const queue = new CommitQueue<string>((operations) => {
    written.push(operations);
    const held = Promise.withResolvers<void>();
    pending.push(held);
    return held.promise;
  });
  return { queue, written, pending };
}

async function turns() {
  for (let i = 0; i < 10; i++) await undefined;
}

test("the first writer is written at once, those that come meanwhile share the next write, in order", async () => {
  const { queue, written, pending } = heldQueue();
  const first = queue.commit(["a"]);
  const others = [queue.commit(["b", "c"]), queue.commit(["d"])];
  expect(written).toEqual([["a"]]);
  pending[0]?.resolve();
  await first;
  await turns();
  expect(written).toEqual([["a"], ["b", "c", "d"]]);
  pending[1]?.resolve();
  await Promise.all(others);
  await queue.idle();
});

test("nobody is told of success before the write has ended", async () => {
  const { queue, pending } = heldQueue();
  const told: string[] = [];
  const first = queue.commit(["a"]).then(() => told.push("a"));
  const second = queue.commit(["b"]).then(() => told.push("b"));
  await turns();
  expect(told).toEqual([]);
  pending[0]?.resolve();
  await first;
  await turns();
  expect(told).toEqual(["a"]);
  pending[1]?.resolve();
  await second;
});

test("after a failed write everybody in line and everybody later fails with its reason, and nothing more is written", async () => {
  const { queue, written, pending } = heldQueue();
  const all = ["a", "b", "c"].map((text) => queue.commit([text]));
  const outcomes = Promise.allSettled(all);
  const reason = new Error("no space left");
  pending[0]?.reject(reason);
  expect(await outcomes).toEqual(all.map(() => ({ status: "rejected", reason })));
  expect(queue.failed).toBe(true);
  await expect(queue.commit(["d"])).rejects.toBe(reason);
  expect(written).toEqual([["a"]]);
  await queue.idle();
});
