// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddress } from "../net/address.ts";
import { parseNamespace } from "./parse-namespace.ts";
import { parsePod } from "./parse-pod.ts";

function read(parts: { spec?: object; status?: object; annotations?: object }) {
  const { annotations, ...rest } = parts;
  const pod = parsePod({
    metadata: { namespace: "web", name: "a", uid: "u1", labels: { app: "a" }, annotations },
    ...rest,
  });
  if (pod === undefined) throw new Error("no pod");
  return { ...pod, addresses: pod.addresses.map(formatAddress) };
}

test("a pod has its node, addresses, labels and the annotations that are about its network", () => {
  const pod = read({
    spec: { nodeName: "node-1", containers: [] },
    status: { phase: "Running", podIP: "10.244.1.5", podIPs: [{ ip: "10.244.1.5" }, { ip: "fd00:1::5" }] },
    annotations: { "flatnet.dev/mtu": "1400", "kubernetes.io/egress-bandwidth": "10M", "kubernetes.io/psp": "x" },
  });
  expect(pod).toMatchObject({
    namespace: "web",
    name: "a",
    uid: "u1",
    nodeName: "node-1",
    hostNetwork: false,
    addresses: ["10.244.1.5", "fd00:1::5"],
    labels: { app: "a" },
    annotations: { "flatnet.dev/mtu": "1400", "kubernetes.io/egress-bandwidth": "10M" },
    ended: false,
  });
});

test("a pod that isn't scheduled has no node and no addresses", () => {
  expect(read({ spec: { hostNetwork: true }, status: { phase: "Pending" } })).toMatchObject({
    nodeName: "",
    addresses: [],
    hostNetwork: true,
    ended: false,
  });
});

test("an address of before dual stack counts where there is no list", () => {
  expect(read({ status: { podIP: "10.244.1.5" } }).addresses).toEqual(["10.244.1.5"]);
  expect(read({ status: { podIPs: [{ ip: "?" }, { ip: "fd00:1::5" }] } }).addresses).toEqual(["fd00:1::5"]);
});

test.each([
  ["Succeeded", true],
  ["Failed", true],
  ["Unknown", false],
])("the phase %s ends a pod: %s", (phase, ended) => {
  expect(read({ status: { phase } }).ended).toBe(ended);
});

test("named ports are those of containers and sidecars, not of what runs before them", () => {
  const ports = (...list: object[]) => ({ name: "c", ports: list });
  const pod = read({
    spec: {
      containers: [
        ports(
          { name: "http", containerPort: 8080 },
          { containerPort: 9 },
          { name: "dns", containerPort: 53, protocol: "UDP" },
        ),
        ports({ name: "bad", containerPort: 70_000 }, { name: "odd", containerPort: 1, protocol: "ICMP" }),
      ],
      initContainers: [
        { ...ports({ name: "mesh", containerPort: 15_001, protocol: "TCP" }), restartPolicy: "Always" },
        ports({ name: "before", containerPort: 1 }),
      ],
    },
  });
  expect(pod.ports).toEqual([
    { name: "http", protocol: "TCP", port: 8080 },
    { name: "dns", protocol: "UDP", port: 53 },
    { name: "mesh", protocol: "TCP", port: 15_001 },
  ]);
});

test("what has no name is no pod and no namespace, and nothing that JSON can say makes a parser throw", () => {
  expect(parsePod({ metadata: { name: "a" } })).toBeUndefined();
  expect(parseNamespace({ metadata: {} })).toBeUndefined();
  const part = fc.jsonValue({ maxDepth: 4 });
  const shaped = fc.record({
    metadata: fc.record({ name: fc.constant("n"), namespace: fc.constant("m"), annotations: part, labels: part }),
    spec: fc.oneof(part, fc.record({ containers: part, initContainers: part })),
    status: fc.oneof(part, fc.record({ podIPs: part, podIP: part })),
  });
  fc.assert(fc.property(part, (raw) => void [parsePod(raw), parseNamespace(raw)]));
  fc.assert(
    fc.property(shaped, (raw) => {
      expect(parsePod(raw)?.name).toBe("n");
    }),
  );
});

test("a namespace has its labels, those that are words", () => {
  const raw = { metadata: { name: "web", labels: { team: "a", odd: 1 } } };
  expect(parseNamespace(raw)).toEqual({ name: "web", labels: { team: "a" } });
});
