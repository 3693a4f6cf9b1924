// SPDX-License-Identifier: Apache-2.0
import { createServer } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Check, Health, HealthError, serveHealth } from "./health.ts";
import { Loop } from "./loop.ts";

const closers: (() => Promise<unknown> | unknown)[] = [];
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(async () => {
  vi.useRealTimers();
  for (const close of closers.splice(0).reverse()) await close();
});

const good: Check = { name: "routes", problem: () => undefined };
const bad: Check = { name: "conflist", problem: async () => "it is not written" };

test("a daemon that is starting lives, and is not ready", async () => {
  const health = new Health();
  expect(await health.live()).toMatchObject({ code: 200, body: "[+]loops ok\nlivez check passed\n" });
  expect(await health.ready()).toMatchObject({
    code: 503,
    body: "[-]serving: the daemon is starting or stopping\nreadyz check failed\n",
  });
});

test("every check is named, with its reason where it failed", async () => {
  const health = new Health();
  const leave = health.enter({ live: [], ready: [good, bad] });
  expect(await health.ready()).toMatchObject({
    code: 503,
    body: "[+]routes ok\n[-]conflist: it is not written\nreadyz check failed\n",
  });
  leave();
  health.enter({ live: [], ready: [good] });
  expect(await health.ready()).toMatchObject({ code: 200 });
});

test("an agent answers in the place of who waits for it, and no longer than it runs", async () => {
  const health = new Health();
  const leaveWaiting = health.enter({ live: [], ready: [bad] });
  const leave = health.enter({ live: [], ready: [good] });
  expect(await health.ready()).toMatchObject({ code: 200, body: "[+]routes ok\nreadyz check passed\n" });
  leave();
  expect(await health.ready()).toMatchObject({ code: 503, body: expect.stringContaining("[-]conflist: ") });
  leaveWaiting();
  expect(await health.ready()).toMatchObject({ code: 503, body: expect.stringContaining("[-]serving: ") });
});

test("what only pods need is not what life needs", async () => {
  const health = new Health();
  health.enter({ live: [], ready: [bad] });
  expect(await health.live()).toMatchObject({ code: 200 });
});

test("a check that throws or never answers failed", async () => {
  const health = new Health();
  const never = new Promise<undefined>(() => {});
  const fails = () => Promise.reject(new Error("the disk is full"));
  health.enter({
    live: [
      { name: "api", problem: () => never },
      { name: "database", problem: fails },
    ],
    ready: [],
  });
  const answer = health.live();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(await answer).toMatchObject({
    code: 503,
    body: "[+]loops ok\n[-]api: no answer within 5 s\n[-]database: the disk is full\nlivez check failed\n",
  });
});

test("a loop whose pass doesn't end is death", async () => {
  let end = () => {};
  const pass = () => new Promise<void>((resolve) => (end = resolve));
  const loop = new Loop(pass, { name: "routes", settleMs: 1, intervalMs: 1e9, retryMs: 1e9, onError: () => {} });
  loop.request();
  await vi.advanceTimersByTimeAsync(100_000);
  const health = new Health();
  expect(await health.live()).toMatchObject({ code: 200 });
  await vi.advanceTimersByTimeAsync(21_000);
  expect(await health.live()).toMatchObject({
    code: 503,
    body: expect.stringContaining("[-]loops: no end for 120 s: routes"),
  });
  end();
  await loop.stop();
  expect(await health.live()).toMatchObject({ code: 200 });
});

test("it is served under three paths", async () => {
  vi.useRealTimers();
  const health = new Health();
  const { port, close } = await serveHealth(health, { host: "127.0.0.1", port: 0 }, () => {});
  closers.push(close);
  const codes = async () =>
    Promise.all(
      ["livez", "readyz", "healthz", "metrics"].map(
        async (path) => (await fetch(`http://127.0.0.1:${port}/${path}`)).status,
      ),
    );
  expect(await codes()).toEqual([200, 503, 503, 404]);
  health.enter({ live: [], ready: [good] });
  expect(await codes()).toEqual([200, 200, 200, 404]);
});

test("an address that somebody has is an error that names it", async () => {
  vi.useRealTimers();
  const other = createServer().listen(0, "127.0.0.1");
  closers.push(() => other.close());
  await new Promise((listening) => other.once("listening", listening));
  const { port } = other.address() as { port: number };
  const serving = serveHealth(new Health(), { host: "127.0.0.1", port }, () => {});
  await expect(serving).rejects.toThrow(HealthError);
  await expect(serving).rejects.toThrow(`127.0.0.1:${port}`);
});
