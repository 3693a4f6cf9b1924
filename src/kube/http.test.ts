// SPDX-License-Identifier: Apache-2.0
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import type { Access, Connection } from "./access.ts";
import { KubeHttp } from "./http.ts";

const OPEN: Access = {
  ...{ url: new URL("http://127.0.0.1"), ca: undefined, cert: undefined, key: undefined, token: undefined },
  ...{ serverName: undefined, insecure: false },
};

async function serve(onRequest: RequestListener, access: Partial<Access> = {}) {
  const server = createServer(onRequest);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const url = new URL(`http://127.0.0.1:${port}${access.url?.pathname ?? ""}`);
  const connection: Connection = { server: url.origin, access: async () => ({ ...OPEN, ...access, url }) };
  const http = new KubeHttp(connection, { userAgent: "flatnetd/test", answerTimeoutMs: 300 });
  onTestFinished(() => {
    http.close();
    server.closeAllConnections();
    server.close();
  });
  return http;
}

const GET = { method: "GET", path: "/api/v1/nodes" } as const;
const refusal =
  (status: number, body: string, headers = {}) =>
  (_: IncomingMessage, response: import("node:http").ServerResponse) => {
    response.writeHead(status, headers).end(body);
  };

test("an answer is read as JSON, and asked for with path, query and who asks", async () => {
  const http = await serve((request, response) => {
    response.end(JSON.stringify({ url: request.url, agent: request.headers["user-agent"] }));
  });
  const query = { limit: "5", continue: undefined, labelSelector: "a=b,c" };
  expect(await http.json({ ...GET, query })).toEqual({
    url: "/api/v1/nodes?limit=5&labelSelector=a%3Db%2Cc",
    agent: "flatnetd/test",
  });
});

test("a server behind a path is asked behind it", async () => {
  const http = await serve((request, response) => response.end(JSON.stringify(request.url)), {
    url: new URL("http://x/k8s/clusters/one/"),
  });
  expect(await http.json(GET)).toBe("/k8s/clusters/one/api/v1/nodes");
});

test("an answer that is no success is an error with the API's own words", async () => {
  const status = {
    kind: "Status",
    message: 'nodes is forbidden: User "x" cannot list',
    reason: "Forbidden",
    code: 403,
  };
  const http = await serve(refusal(403, JSON.stringify(status)));
  await expect(http.json(GET)).rejects.toMatchObject({
    code: "KUBE_FORBIDDEN",
    status: 403,
    reason: "Forbidden",
    message: 'GET /api/v1/nodes: nodes is forbidden: User "x" cannot list',
  });
});

test.each([
  [400, "KUBE_REFUSED"],
  [404, "KUBE_NOT_FOUND"],
  [409, "KUBE_CONFLICT"],
  [410, "KUBE_GONE"],
  [429, "KUBE_BUSY"],
  [502, "KUBE_SERVER"],
  [301, "KUBE_PROTOCOL"],
])("status %i of whoever answers is %s", async (status, code) => {
  const http = await serve(refusal(status, "<html>", { "retry-after": "7" }));
  await expect(http.json(GET)).rejects.toMatchObject({ code, status, retryAfterMs: 7000 });
});

test("what isn't JSON is said to be none", async () => {
  await expect((await serve(refusal(200, "<html>"))).json(GET)).rejects.toMatchObject({ code: "KUBE_PROTOCOL" });
});

test("an answer without an end is given up", async () => {
  const piece = Buffer.alloc(1024 * 1024, " ");
  const http = await serve((_, response) => {
    const more = (): void => {
      while (response.write(piece) && !response.destroyed);
    };
    response.on("drain", more);
    more();
  });
  await expect(http.json(GET)).rejects.toMatchObject({
    code: "KUBE_PROTOCOL",
    message: expect.stringContaining("more than"),
  });
});

test.each<[string, RequestListener]>([
  ["never comes", () => {}],
  ["stops in the middle", (_, response) => response.write('{"a":')],
])("an answer that %s is waited for no longer than told", async (_, onRequest) => {
  await expect((await serve(onRequest)).json(GET)).rejects.toMatchObject({ code: "KUBE_TIMEOUT" });
});

test("an answer that comes drop by drop ends at the deadline of the whole", async () => {
  const http = await serve((_, response) => {
    const drip = setInterval(() => response.write(" "), 20);
    response.on("close", () => clearInterval(drip));
  });
  await expect(http.json({ ...GET, timeoutMs: 200 })).rejects.toMatchObject({ code: "KUBE_TIMEOUT" });
});

test("an answer that breaks off is an error, whether its length was known or not", async () => {
  const known = await serve((_, response) => {
    response.writeHead(200, { "content-length": "100" });
    response.write("{", () => response.destroy());
  });
  const unknown = await serve((_, response) => {
    response.write("{", () => response.destroy());
  });
  for (const http of [known, unknown]) await expect(http.json(GET)).rejects.toMatchObject({ code: "KUBE_UNREACHABLE" });
});

test("whoever asks may give up, before and during the answer", async () => {
  const http = await serve(() => {});
  await expect(http.json({ ...GET, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "KUBE_CLOSED" });
  const controller = new AbortController();
  const asked = http.json({ ...GET, signal: controller.signal });
  controller.abort();
  await expect(asked).rejects.toMatchObject({ code: "KUBE_CLOSED" });
});

test("what the reader of an answer throws is what the request ends with", async () => {
  const http = await serve(refusal(200, "{}"));
  const mistake = new TypeError("not the network's fault");
  const stream = http.stream(GET, () => {
    throw mistake;
  });
  await expect(stream).rejects.toBe(mistake);
});

test("a kept connection that the server closed in between is no error", async () => {
  const http = await serve((request, response) => {
    response.end("{}", () => setTimeout(() => request.socket.resetAndDestroy(), 0));
  });
  for (let i = 0; i < 20; i++) expect(await http.json(GET)).toEqual({});
});

test("a token is never sent in the clear", async () => {
  const http = await serve((request, response) => response.end(JSON.stringify(request.headers)), { token: "secret" });
  expect(JSON.stringify(await http.json(GET))).not.toContain("secret");
});
