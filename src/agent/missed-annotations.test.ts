// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { HandMade } from "../../test/helpers/collection.ts";
import { type KubePod, keyOf, type Words } from "../kube/objects.ts";
import type { Notice } from "./event-ledger.ts";
import { MissedAnnotations } from "./missed-annotations.ts";

const ADDED = { namespace: "web", name: "a", uid: "1" };

function pod(annotations: Words, uid = "1"): KubePod {
  return {
    ...{ ...ADDED, uid, nodeName: "node1", hostNetwork: false, addresses: [], labels: {}, annotations },
    ...{ ports: [], ended: false },
  };
}

function missing() {
  const pods = new HandMade<KubePod>();
  const told: Notice[] = [];
  return { pods, told, missed: new MissedAnnotations(pods, (notice) => void told.push(notice)) };
}

test("who made a pod that was added without what it asks for is told, once", () => {
  const { pods, told, missed } = missing();
  missed.added(ADDED);
  pods.set({ [keyOf(ADDED)]: pod({ "flatnet.dev/mtu": "1400", "flatnet.dev/pool": "db" }) });
  pods.set({ [keyOf(ADDED)]: pod({ "flatnet.dev/mtu": "1300" }) });
  expect(told).toMatchObject([
    {
      subject: { kind: "Pod", ...ADDED },
      reason: "NetworkAnnotationMissed",
      message: expect.stringContaining("by flatnet.dev/pool, flatnet.dev/mtu: delete it"),
    },
  ]);
});

test.each([
  ["asks for nothing", pod({})],
  ["asks for limits, which are the runtime's", pod({ "kubernetes.io/egress-bandwidth": "1M" })],
  ["is another one with its name", pod({ "flatnet.dev/mtu": "1400" }, "2")],
])("nobody is told of one that %s", (_what, known) => {
  const { pods, told, missed } = missing();
  missed.added(ADDED);
  pods.set({ [keyOf(ADDED)]: known });
  expect(told).toEqual([]);
});

test("nobody is told of pods whose annotations were known, nor of any once it has ended", () => {
  const { pods, told, missed } = missing();
  pods.set({ [keyOf(ADDED)]: pod({ "flatnet.dev/mtu": "1400" }) });
  missed.added({ ...ADDED, name: "b" });
  missed.close();
  pods.set({ "web/b": { ...pod({ "flatnet.dev/mtu": "1400" }), name: "b" } });
  expect(told).toEqual([]);
});
