// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { expect, test } from "vitest";
import type { Collection } from "../kube/collection.ts";
import { type KubePod, keyOf } from "../kube/objects.ts";
import { type FetchPod, KnownPods } from "./known-pods.ts";

function pod(name: string, uid: string): KubePod {
  return {
    ...{ namespace: "web", name, uid, nodeName: "node1", hostNetwork: false, addresses: [], labels: {} },
    ...{ annotations: {}, ports: [], ended: false },
  };
}

/** What is known, what the API server has, and what was asked and logged. */
function knowing(
  pods: readonly KubePod[],
  fetchPod: FetchPod = async () => undefined,
  problem?: string,
  deadlineMs = 10_000,
) {
  const asked: string[] = [];
  const lines: { msg: string; reason: string }[] = [];
  const collection: Collection<KubePod> = {
    state: "synced",
    objects: new Map(pods.map((one) => [keyOf(one), one])),
    confirmedAtMs: 0,
    problem,
    subscribe: () => ({ close() {} }),
  };
  const known = new KnownPods({
    pods: collection,
    fetchPod: (namespace, name, signal) => {
      asked.push(name);
      return fetchPod(namespace, name, signal);
    },
    log: pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) }),
    deadlineMs,
  });
  return { known, asked, lines };
}

const wanted = (name: string, uid = "") => ({ namespace: "web", name, uid });

test("a pod that is known is found without a question, by its uid where the runtime says one", async () => {
  const { known, asked, lines } = knowing([pod("a", "1")]);
  expect(await known.find(wanted("a", "1"))).toMatchObject({ uid: "1" });
  expect(await known.find(wanted("a"))).toMatchObject({ uid: "1" });
  expect(asked).toEqual([]);
  expect(lines).toEqual([]);
});

test("a pod that is too new to be known is asked for, and so is the successor of one with the same name", async () => {
  const { known, asked } = knowing([pod("a", "old")], async (_, name) => pod(name, "new"));
  expect(await known.find(wanted("a", "new"))).toMatchObject({ uid: "new" });
  expect(await known.find(wanted("b", "new"))).toMatchObject({ name: "b" });
  expect(asked).toEqual(["a", "b"]);
});

test("an answer serves whoever else asks for the same pod, and not for its successor", async () => {
  const { known, asked } = knowing([], async (_, name) => pod(name, "1"));
  expect(await known.find(wanted("a", "1"))).toMatchObject({ uid: "1" });
  expect(await known.find(wanted("a", "1"))).toMatchObject({ uid: "1" });
  expect(asked).toEqual(["a"]);
  expect(await known.find(wanted("a", "2"))).toBeUndefined();
  expect(asked).toEqual(["a", "a"]);
});

test("the answer about another pod with that name is none", async () => {
  const { known, lines } = knowing([], async (_, name) => pod(name, "another"));
  expect(await known.find(wanted("a", "mine"))).toBeUndefined();
  await sleep(1);
  expect(lines).toMatchObject([{ reason: "the API server has no such pod" }]);
});

test("while the API server is known to be away nobody is asked, and the log says why a pod has no wishes", async () => {
  const { known, asked, lines } = knowing([], async () => pod("a", "1"), "connection refused");
  expect(await known.find(wanted("a", "1"))).toBeUndefined();
  expect(asked).toEqual([]);
  await sleep(1);
  expect(lines).toMatchObject([{ pod: "web/a", reason: "connection refused" }]);
});

test("an API server that says nothing is waited for once, and then left alone for a while", async () => {
  const { known, asked, lines } = knowing([], () => new Promise(() => {}), undefined, 20);
  expect(await known.find(wanted("a"))).toBeUndefined();
  expect(await known.find(wanted("b"))).toBeUndefined();
  expect(asked).toEqual(["a"]);
  await sleep(1);
  expect(lines.map(({ reason }) => reason)).toEqual([
    "the API server didn't answer within 20 ms",
    "the API server didn't answer a moment ago",
  ]);
});

test("a question that fails is no failure of the ADD", async () => {
  const { known } = knowing([], () => Promise.reject(new Error("403")));
  expect(await known.find(wanted("a"))).toBeUndefined();
});

test("a burst of unknown pods is a few questions at once, and every pod is found", async () => {
  let [asking, most] = [0, 0];
  const { known, asked } = knowing([], async (_, name) => {
    most = Math.max(most, ++asking);
    await sleep(0);
    asking--;
    return pod(name, "1");
  });
  const found = await Promise.all(Array.from({ length: 20 }, (_, i) => known.find(wanted(`pod-${i}`))));
  expect(found.map((one) => one?.name)).toEqual(Array.from({ length: 20 }, (_, i) => `pod-${i}`));
  expect(asked).toHaveLength(20);
  expect(most).toBe(8);
});

test("a burst that the API server doesn't answer waits together, once", async () => {
  const { known, asked } = knowing([], () => new Promise(() => {}), undefined, 20);
  const found = await Promise.all(Array.from({ length: 20 }, (_, i) => known.find(wanted(`pod-${i}`))));
  expect(found.every((one) => one === undefined)).toBe(true);
  expect(asked).toHaveLength(8);
});
