// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { KubeError, type KubeErrorCode } from "./errors.ts";
import { EventWriter, type KubeEvent } from "./events.ts";
import type { KubeRequest } from "./http.ts";

const AT = Date.UTC(2027, 0, 15, 8, 0, 0, 250);
const EVENT: KubeEvent = {
  namespace: "web",
  name: "web-0.1",
  subject: { kind: "Pod", namespace: "web", name: "web-0", uid: "uid-1" },
  type: "Warning",
  reason: "NetworkAnnotationRefused",
  message: 'annotation flatnet.dev/mtu is "9"',
  count: 2,
  firstMs: AT,
  lastMs: AT + 60_000,
};

function writing(refusal?: KubeErrorCode) {
  const requests: KubeRequest[] = [];
  const wire = {
    json: async (request: KubeRequest) => {
      requests.push(request);
      if (refusal !== undefined) throw new KubeError(refusal, "no");
      return {};
    },
    stream: async () => {},
  };
  return { requests, writer: new EventWriter(wire, { component: "flatnetd", host: "node1" }) };
}

test("an Event is made in its namespace, with the object that it is about and whole seconds", async () => {
  const { requests, writer } = writing();
  expect(await writer.create(EVENT)).toBe(true);
  expect(requests).toMatchObject([
    {
      method: "POST",
      path: "/api/v1/namespaces/web/events",
      body: {
        apiVersion: "v1",
        kind: "Event",
        metadata: { namespace: "web", name: "web-0.1" },
        involvedObject: { apiVersion: "v1", kind: "Pod", namespace: "web", name: "web-0", uid: "uid-1" },
        count: 2,
        firstTimestamp: "2027-01-15T08:00:00Z",
        lastTimestamp: "2027-01-15T08:01:00Z",
        source: { component: "flatnetd", host: "node1" },
      },
    },
  ]);
});

test("one about a node names no namespace of the node's", async () => {
  const { requests, writer } = writing();
  await writer.create({ ...EVENT, subject: { kind: "Node", namespace: "", name: "node1", uid: "uid-2" } });
  expect(requests[0]?.body).toHaveProperty("involvedObject", {
    ...{ apiVersion: "v1", kind: "Node", name: "node1", uid: "uid-2" },
  });
});

test("what is there already gets its count, its last time and its message", async () => {
  const { requests, writer } = writing();
  expect(await writer.update(EVENT)).toBe(true);
  expect(requests).toMatchObject([
    {
      method: "PATCH",
      path: "/api/v1/namespaces/web/events/web-0.1",
      contentType: "application/merge-patch+json",
      body: { count: 2, lastTimestamp: "2027-01-15T08:01:00Z", message: EVENT.message },
    },
  ]);
});

test.each(["KUBE_REFUSED", "KUBE_NOT_FOUND", "KUBE_FORBIDDEN"] as const)("%s is for good", async (code) => {
  const { writer } = writing(code);
  expect(await writer.create(EVENT)).toBe(false);
  expect(await writer.update(EVENT)).toBe(false);
});

test.each(["KUBE_UNREACHABLE", "KUBE_BUSY", "KUBE_SERVER"] as const)("%s may pass", async (code) => {
  const { writer } = writing(code);
  await expect(writer.create(EVENT)).rejects.toMatchObject({ code });
  await expect(writer.update(EVENT)).rejects.toMatchObject({ code });
});
