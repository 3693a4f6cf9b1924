// SPDX-License-Identifier: Apache-2.0
import { expect, onTestFinished, test, vi } from "vitest";
import { type KubeRequest, type KubeWire, type OnData, statusError } from "./http.ts";
import type { KubeNamespace } from "./objects.ts";
import { Reflector } from "./reflector.ts";
import { NAMESPACES } from "./resources.ts";
import { VirtualClock } from "./testing/virtual-clock.ts";

/** An API server that has the API or hasn't. A watch ends when it changes. */
class Server implements KubeWire {
  status: 200 | 403 | 404 = 404;
  #watches: (() => void)[] = [];

  become(status: Server["status"]): void {
    this.status = status;
    for (const end of this.#watches.splice(0)) end();
  }

  json(): Promise<unknown> {
    throw new Error("nobody asks");
  }

  async stream({ query, signal }: KubeRequest, onData: OnData): Promise<void> {
    if (this.status !== 200) throw statusError("GET", this.status, undefined);
    if (query?.["watch"] === undefined) {
      const items = [{ metadata: { name: "a", resourceVersion: "7" } }];
      onData(
        Buffer.from(
          JSON.stringify({ kind: "NamespaceList", apiVersion: "v1", metadata: { resourceVersion: "7" }, items }),
        ),
      );
      return;
    }
    const bookmark = { type: "BOOKMARK", object: { metadata: { resourceVersion: "8" } } };
    onData(Buffer.from(`${JSON.stringify(bookmark)}\n`));
    await new Promise<void>((resolve) => {
      this.#watches.push(resolve);
      signal?.addEventListener("abort", () => resolve());
    });
  }
}

async function setUp(optional: boolean, restored?: readonly KubeNamespace[], status: Server["status"] = 404) {
  const server = new Server();
  server.status = status;
  const clock = new VirtualClock();
  const resource = optional ? { ...NAMESPACES, optional: true as const } : NAMESPACES;
  const kept = restored && { objects: restored, resourceVersion: "5" };
  const reflector = new Reflector(server, resource, { clock, restored: kept });
  onTestFinished(() => reflector.stop());
  reflector.start();
  const until = (what: () => boolean) =>
    vi.waitFor(() => {
      if (what()) return;
      if ((clock.nextInMs ?? Number.POSITIVE_INFINITY) <= 60_000) clock.advance(clock.nextInMs as number);
      throw new Error(`not yet: ${reflector.state}, ${reflector.problem ?? "no problem"}`);
    });
  return { server, clock, reflector, until };
}

test("of an API that isn't served there are no objects, until it is, and none again when it is gone", async () => {
  const { server, reflector, until } = await setUp(true);
  await until(() => reflector.state === "synced");
  expect(reflector).toMatchObject({ problem: undefined });
  expect(reflector.objects.size).toBe(0);
  server.become(200);
  await until(() => reflector.objects.has("a"));
  server.become(404);
  await until(() => reflector.objects.size === 0);
  expect(reflector).toMatchObject({ state: "synced", problem: undefined });
  server.become(200);
  await until(() => reflector.objects.has("a"));
});

test("what was known stays when an API server that has just begun doesn't know the API yet", async () => {
  const { server, clock, reflector, until } = await setUp(true, [{ name: "a", labels: {} }]);
  await vi.waitFor(() => expect(clock.nextInMs).toBeDefined());
  expect(reflector.state).toBe("restored");
  server.become(200);
  await until(() => reflector.state === "synced");
  expect([...reflector.objects.keys()]).toEqual(["a"]);
});

test.each([
  ["one that may not be read", true, 403],
  ["one that every cluster has", false, 404],
] as const)("nothing is known of %s", async (_title, optional, status) => {
  const { reflector, until } = await setUp(optional, undefined, status);
  await until(() => reflector.problem !== undefined);
  expect(reflector.state).toBe("unknown");
});
