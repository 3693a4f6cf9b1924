// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Loop, type LoopOptions, stuckLoops } from "./loop.ts";

const TIMES = { name: "tests", settleMs: 50, intervalMs: 30_000, retryMs: 2_000 };

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A loop over passes that end when they are told to. */
function start(options: Partial<LoopOptions> = {}) {
  const state = { begun: 0, running: 0, most: 0, errors: [] as unknown[] };
  let settle: (() => void) | undefined;
  let reject: ((error: Error) => void) | undefined;
  const pass = () => {
    state.begun++;
    state.running++;
    state.most = Math.max(state.most, state.running);
    return new Promise<void>((resolve, fail) => {
      settle = resolve;
      reject = fail;
    }).finally(() => {
      state.running--;
    });
  };
  const loop = new Loop(pass, { ...TIMES, onError: (error) => state.errors.push(error), ...options });
  return {
    loop,
    state,
    finish: async (error?: Error) => {
      if (error === undefined) settle?.();
      else reject?.(error);
      await vi.advanceTimersByTimeAsync(0);
    },
  };
}

const wait = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("nothing runs until it is asked for", async () => {
  const { state } = start();
  await wait(1_000_000);
  expect(state.begun).toBe(0);
});

test("a pass begins once requests have settled, one for all of them", async () => {
  const { loop, state } = start();
  loop.request();
  await wait(30);
  loop.request();
  await wait(49);
  expect(state.begun).toBe(0);
  await wait(1);
  expect(state.begun).toBe(1);
});

test("requests that never settle don't put the pass off for ever", async () => {
  const { loop, state } = start();
  for (let i = 0; i < 100; i++) {
    loop.request();
    await wait(40);
  }
  expect(state.begun).toBe(1);
});

test("requests during a pass are one more pass, after it", async () => {
  const { loop, state, finish } = start();
  loop.request();
  await wait(50);
  for (let i = 0; i < 5; i++) {
    loop.request();
    await wait(1_000);
  }
  expect(state).toMatchObject({ begun: 1, running: 1 });
  await finish();
  await wait(500);
  expect(state).toMatchObject({ begun: 2, running: 1, most: 1 });
  await finish();
  await wait(TIMES.intervalMs - 1);
  expect(state.begun).toBe(2);
});

test("a pass comes at intervals that nobody asked for, counted from the end of the last", async () => {
  const { loop, state, finish } = start();
  loop.request();
  await wait(50);
  await wait(100_000);
  expect(state.begun).toBe(1);
  await finish();
  await wait(TIMES.intervalMs - 1);
  expect(state.begun).toBe(1);
  await wait(1);
  expect(state).toMatchObject({ begun: 2, most: 1 });
});

test("a request between two passes does not wait for the interval", async () => {
  const { loop, state, finish } = start();
  loop.request();
  await wait(50);
  await finish();
  await wait(1_000);
  loop.request();
  await wait(50);
  expect(state.begun).toBe(2);
});

test("a pass that fails is told and tried again sooner, until one is good", async () => {
  const { loop, state, finish } = start();
  const error = new Error("no kernel");
  loop.request();
  await wait(50);
  await finish(error);
  expect(state.errors).toEqual([error]);
  await wait(TIMES.retryMs - 1);
  expect(state.begun).toBe(1);
  await wait(1);
  expect(state.begun).toBe(2);
  await finish();
  await wait(TIMES.intervalMs - 1);
  expect(state).toMatchObject({ begun: 2, errors: [error] });
});

test("a pass that throws at once is a failed pass", async () => {
  let calls = 0;
  const errors: unknown[] = [];
  const loop = new Loop(
    () => {
      calls++;
      throw new Error("at once");
    },
    { ...TIMES, onError: (error) => errors.push(error) },
  );
  loop.request();
  await wait(50 + TIMES.retryMs);
  expect([calls, errors.length]).toEqual([2, 2]);
  await loop.stop();
});

test("stop waits for the pass that runs, and none comes after it", async () => {
  const { loop, state, finish } = start();
  loop.request();
  await wait(50);
  loop.request();
  let stopped = false;
  const stop = loop.stop().then(() => {
    stopped = true;
  });
  await wait(10_000);
  expect(stopped).toBe(false);
  await finish();
  await stop;
  loop.request();
  await wait(1_000_000);
  expect(state).toMatchObject({ begun: 1, running: 0 });
  expect(vi.getTimerCount()).toBe(0);
});

test("stop before a pass has begun means that it never does", async () => {
  const { loop, state } = start();
  loop.request();
  await loop.stop();
  await loop.stop();
  await wait(1_000_000);
  expect(state.begun).toBe(0);
});

test("a pass that fails while the loop is being stopped does not make stop fail", async () => {
  const { loop, state, finish } = start();
  loop.request();
  await wait(50);
  const stop = loop.stop();
  await finish(new Error("too late"));
  await expect(stop).resolves.toBeUndefined();
  expect(state.errors).toHaveLength(1);
});

test("a pass that took long rests before the next one that is asked for, but not for ever", async () => {
  const { loop, state, finish } = start();
  loop.request();
  await wait(50);
  await wait(100);
  loop.request();
  await finish();
  await wait(299);
  expect(state.begun).toBe(1);
  await wait(1);
  expect(state.begun).toBe(2);
  await wait(10_000);
  await finish();
  loop.request();
  await wait(499);
  expect(state.begun).toBe(2);
  await wait(1);
  expect(state.begun).toBe(3);
});

test("a pass that has no end is told by its name, and one that has ended isn't", async () => {
  const { loop, finish } = start({ name: "endless" });
  loop.request();
  await wait(50 + 999);
  expect(stuckLoops(performance.now(), 1_000)).not.toContain("endless");
  await wait(2);
  expect(stuckLoops(performance.now(), 1_000)).toContain("endless");
  await finish();
  expect(stuckLoops(performance.now(), 0)).not.toContain("endless");
  await loop.stop();
});

test("a pass that waits for other machines is never told", async () => {
  const { loop, finish } = start({ name: "patient", waitsForOthers: true });
  loop.request();
  await wait(1_000_000);
  expect(stuckLoops(performance.now(), 0)).not.toContain("patient");
  await finish();
  await loop.stop();
});
