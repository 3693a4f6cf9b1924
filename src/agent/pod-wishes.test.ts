// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { Words } from "../kube/objects.ts";
import type { Notice } from "./event-ledger.ts";
import { AnnotationWishes } from "./pod-wishes.ts";

const POD = { namespace: "web", name: "web-0", uid: "uid-1" };
const at = (ifname: string) => ({ attachment: { network: "pods", containerId: "a", ifname }, pod: POD });

function wishes(annotations: Words | undefined) {
  const told: Notice[] = [];
  const unknown: string[] = [];
  const pod = { ...POD, nodeName: "", hostNetwork: false, addresses: [], labels: {}, ports: [], ended: false };
  const wishing = new AnnotationWishes({
    pods: { find: async () => (annotations === undefined ? undefined : { ...pod, annotations }) },
    onUnknown: ({ name }) => void unknown.push(name),
    mtuBounds: () => ({ least: 1280, most: 1500 }),
    tell: (notice) => void told.push(notice),
  });
  return { wishing, told, unknown };
}

test("annotations are wishes, with their names", async () => {
  const { wishing } = wishes({
    "flatnet.dev/addresses": "10.244.1.9",
    "flatnet.dev/pool": "db",
    "flatnet.dev/mtu": "1400",
    "kubernetes.io/egress-bandwidth": "1M",
  });
  expect(await wishing.of(at("eth0"))).toEqual({
    addresses: { value: ["10.244.1.9"], where: "annotation flatnet.dev/addresses" },
    pool: { value: "db", where: "annotation flatnet.dev/pool" },
    mtu: 1400,
    bandwidth: { ingressRate: 0, egressRate: 1_000_000 },
  });
});

test("a pod that nobody knows, or that wishes nothing, wishes nothing", async () => {
  const nothing = { addresses: undefined, pool: undefined, mtu: undefined, bandwidth: undefined };
  expect(await wishes({}).wishing.of(at("eth0"))).toEqual(nothing);
  const { wishing, unknown } = wishes(undefined);
  expect(await wishing.of(at("eth0"))).toBeUndefined();
  expect(unknown).toEqual(["web-0"]);
});

test("they are the wishes of the pod's interface in the cluster's network, and of no other", async () => {
  const { wishing } = wishes({ "flatnet.dev/addresses": "nonsense" });
  expect(await wishing.of(at("net1"))).toBeUndefined();
  expect(await wishing.of({ ...at("eth0"), pod: undefined })).toBeUndefined();
});

test.each([
  ["flatnet.dev/mtu", "1501"],
  ["flatnet.dev/mtu", "1279"],
  ["flatnet.dev/mtu", "a lot"],
  ["flatnet.dev/addresses", "nonsense"],
])("%s of %j is refused by name and value, and told to the pod's owner", async (name, value) => {
  const { wishing, told } = wishes({ [name]: value });
  const message = expect.stringMatching(`^annotation ${name} is "${value}"; it must be`);
  await expect(wishing.of(at("eth0"))).rejects.toMatchObject({ code: "IPAM_INVALID", message });
  expect(told).toEqual([
    { subject: { kind: "Pod", ...POD }, type: "Warning", reason: "NetworkAnnotationRefused", message },
  ]);
});

test("what the allocator refuses is told to the pod's owner too", () => {
  const { wishing, told } = wishes({});
  wishing.refused(at("eth0"), "annotation flatnet.dev/pool: pool is …");
  expect(told).toMatchObject([{ subject: POD, message: "annotation flatnet.dev/pool: pool is …" }]);
});
