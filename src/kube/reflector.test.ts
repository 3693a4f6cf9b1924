// SPDX-License-Identifier: Apache-2.0
//
// The reflector against a double of the API server over real HTTP, by a clock that the test moves.
import { expect, onTestFinished, test, vi } from "vitest";
import { type DoubleOptions, type KubeApiDouble, startDouble } from "../../test/helpers/kube-api/double.ts";
import { type Kind, targetOf } from "../../test/helpers/kube-api/kinds.ts";
import { namespaceObject, nodeObject, podObject } from "../../test/helpers/kube-api/seed.ts";
import type { Change } from "./collection.ts";
import { openConnection } from "./connection.ts";
import { KubeHttp } from "./http.ts";
import type { KubeNode } from "./objects.ts";
import { parseNode } from "./parse-node.ts";
import { Reflector, type ReflectorOptions } from "./reflector.ts";
import { NODES, podsOf } from "./resources.ts";
import { VirtualClock } from "./testing/virtual-clock.ts";

const MINUTE = 60_000;
const KIND = targetOf("/api/v1/nodes")?.kind as Kind;

interface Scene {
  readonly server: KubeApiDouble;
  readonly http: KubeHttp;
  readonly clock: VirtualClock;
  readonly nodes: Reflector<KubeNode>;
  readonly changes: Change<KubeNode>[];
  /** Names, sorted. */
  names(): string[];
  /** Waits until it is so; where it isn't and only a timer can make it so, that timer's time comes. */
  until(what: () => boolean): Promise<void>;
  verbs(): string[];
}

interface SceneOptions extends DoubleOptions {
  readonly nodes?: number;
  readonly restored?: ReflectorOptions<KubeNode>["restored"];
  readonly down?: boolean;
  /** How long an answer is waited for, in real milliseconds. */
  readonly answerTimeoutMs?: number;
}

async function setUp(scene: SceneOptions = {}): Promise<Scene> {
  const { nodes: count = 2, restored, down = false, answerTimeoutMs = 30_000, ...options } = scene;
  const server = await startDouble(options);
  for (let number = 1; number <= count; number++) server.store.create(KIND, "", nodeObject(number) as never);
  if (down) await server.stop();
  const clock = new VirtualClock();
  const http = new KubeHttp(openConnection({ apiServer: server.url }), { userAgent: "test", answerTimeoutMs });
  const nodes = new Reflector(http, NODES, { clock, restored });
  const changes: Change<KubeNode>[] = [];
  nodes.subscribe((batch) => changes.push(...batch));
  onTestFinished(async () => {
    await nodes.stop();
    http.close();
    await server.close();
  });
  nodes.start();
  const until = async (what: () => boolean) => {
    await vi.waitFor(
      () => {
        if (what()) return;
        // A wait of the backoff; what is longer is a watch's alarm, which a test rings itself.
        if ((clock.nextInMs ?? Number.POSITIVE_INFINITY) <= MINUTE) clock.advance(clock.nextInMs as number);
        throw new Error(`not yet: ${nodes.state}, ${nodes.problem ?? "no problem"}`);
      },
      { timeout: 10_000, interval: 2 },
    );
  };
  return {
    ...{ server, http, clock, nodes, changes, until },
    names: () => [...nodes.objects.keys()].sort(),
    verbs: () => server.requests.map(({ verb }) => verb),
  };
}

/** Listed, and a watch is open at both ends. */
async function synced(options?: SceneOptions): Promise<Scene> {
  const scene = await setUp(options);
  const { server, nodes, clock } = scene;
  // The one timer is then the watch's, which has begun at this end too.
  await scene.until(() => nodes.state === "synced" && server.watches.size === 1 && clock.nextInMs !== undefined);
  return scene;
}

const fresh = (number: number, name?: string) => parseNode(nodeObject(number, name)) as KubeNode;

test("nothing is known before the first list, and then everything is", async () => {
  const { nodes, server, names, until } = await setUp({ down: true });
  await until(() => nodes.problem !== undefined);
  expect(nodes).toMatchObject({ state: "unknown", confirmedAtMs: undefined });
  expect(nodes.problem).toMatch(/the nodes can't be read from the API server: GET \/api\/v1\/nodes: .*ECONNREFUSED/);
  await server.start();
  await until(() => nodes.state === "synced");
  expect(names()).toEqual(["node-1", "node-2"]);
  expect(nodes.problem).toBeUndefined();
});

test("what happens afterwards is heard of, with what was before and is now", async () => {
  const { server, changes, names, until } = await synced();
  changes.length = 0;
  await server.admin.create("/api/v1/nodes", nodeObject(3));
  await server.admin.patch("/api/v1/nodes/node-1", { metadata: { annotations: { "flatnet.dev/x": "b" } } });
  await server.admin.delete("/api/v1/nodes/node-2");
  await until(() => changes.length === 3);
  expect(
    changes.map(({ key, before, after }) => [
      key,
      before?.annotations["flatnet.dev/x"],
      after?.annotations["flatnet.dev/x"],
    ]),
  ).toEqual([
    ["node-3", undefined, undefined],
    ["node-1", undefined, "b"],
    ["node-2", undefined, undefined],
  ]);
  expect(changes.map(({ before, after }) => [before !== undefined, after !== undefined])).toEqual([
    [false, true],
    [true, true],
    [true, false],
  ]);
  expect(names()).toEqual(["node-1", "node-3"]);
});

test("an object that says the same as before stays the same one, in a watch and in a list", async () => {
  const { server, nodes, changes, until } = await synced();
  const before = nodes.objects.get("node-1");
  changes.length = 0;
  await server.admin.patch("/api/v1/nodes/node-1", { metadata: { annotations: { "example.com/x": "1" } } });
  server.store.compact();
  server.watches.fail(410, "Expired");
  await until(() => server.requests.filter(({ verb }) => verb === "list").length === 2);
  await until(() => server.watches.size === 1 && nodes.problem === undefined);
  expect(nodes.objects.get("node-1")).toBe(before);
  expect(changes).toEqual([]);
});

test("a node that is deleted and made again with another subnet is another one", async () => {
  const { server, changes, until } = await synced();
  changes.length = 0;
  await server.admin.delete("/api/v1/nodes/node-1");
  await server.admin.create("/api/v1/nodes", nodeObject(9, "node-1"));
  await until(() => changes.length === 2);
  expect(changes.map(({ before, after }) => [before?.podCIDRs.length, after?.podCIDRs.length])).toEqual([
    [2, undefined],
    [undefined, 2],
  ]);
});

test("one that was made again while nobody listened is another one too, and one that was deleted is gone", async () => {
  const { server, changes, names, until } = await synced();
  changes.length = 0;
  await server.stop();
  server.store.delete(KIND, "", "node-2");
  server.store.delete(KIND, "", "node-1");
  server.store.create(KIND, "", nodeObject(9, "node-1") as never);
  server.store.compact();
  await server.start();
  await until(() => changes.length === 3);
  expect(changes.map(({ key, before, after }) => `${key}${before ? " was" : ""}${after ? " is" : ""}`)).toEqual([
    "node-2 was",
    "node-1 was",
    "node-1 is",
  ]);
  expect(names()).toEqual(["node-1"]);
});

test("a connection that breaks in the middle of an event loses nothing and lists nothing again", async () => {
  const { server, names, verbs, until } = await synced();
  server.resetConnections();
  await server.admin.create("/api/v1/nodes", nodeObject(3));
  await until(() => names().length === 3);
  expect(verbs().filter((verb) => verb === "list")).toHaveLength(1);
});

test("a list that breaks off in the middle is no list", async () => {
  const { server, nodes, names, until } = await setUp({ nodes: 3, down: true });
  server.faults.cutListAfter = 400;
  await server.start();
  await until(() => nodes.state === "synced");
  expect(names()).toEqual(["node-1", "node-2", "node-3"]);
  expect(server.requests.filter(({ verb }) => verb === "list")).toHaveLength(2);
});

test("with the API server gone for an hour what was known stands, it is asked as seldom as by others, and then it goes on", async () => {
  const { server, nodes, clock, names, verbs, until } = await synced();
  const begun = clock.elapsedMs();
  await server.stop();
  await until(() => clock.elapsedMs() - begun > 60 * MINUTE);
  expect(names()).toEqual(["node-1", "node-2"]);
  expect(nodes.state).toBe("synced");
  expect(nodes.problem).toContain("can't be read");
  expect(clock.wallMs() - (nodes.confirmedAtMs as number)).toBeGreaterThan(59 * MINUTE);
  server.store.compact();
  server.store.create(KIND, "", nodeObject(3) as never);
  await server.start();
  await until(() => names().length === 3 && nodes.problem === undefined && server.watches.size === 1);
  // The watch finds its version forgotten, and a list follows.
  expect(verbs()).toEqual(["list", "watch", "watch", "list", "watch"]);
});

test("an hour of refused connections has no more tries than client-go's backoff makes", async () => {
  const { clock, until } = await setUp({ down: true });
  const begun = clock.elapsedMs();
  let tries = 0;
  let at = begun;
  await until(() => {
    if (clock.elapsedMs() !== at) tries++;
    at = clock.elapsedMs();
    return at - begun > 60 * MINUTE;
  });
  // 800 ms doubled to 30 s, each times 1.5 on average: 86 tries an hour.
  expect(tries).toBeLessThan(90);
});

test("a watch that has fallen silent is begun again from the last version, without a list", async () => {
  const { server, nodes, clock, names, verbs, until } = await synced();
  server.watches.bookmark();
  const known = nodes.resourceVersion;
  await server.admin.create("/api/v1/nodes", nodeObject(3));
  await until(() => names().length === 3 && nodes.resourceVersion !== known);
  server.faults.stalled = true;
  await server.admin.create("/api/v1/nodes", nodeObject(4));
  clock.advance(3 * MINUTE - 1);
  expect(verbs()).toEqual(["list", "watch"]);
  server.faults.stalled = false;
  clock.advance(1);
  await until(() => names().length === 4);
  expect(verbs()).toEqual(["list", "watch", "watch"]);
});

test("after an API server was set back to an older state what it has is listed, though its watches say nothing", async () => {
  const { server, clock, names, until } = await synced();
  server.watches.bookmark();
  await server.admin.create("/api/v1/nodes", nodeObject(3));
  await until(() => names().length === 3);
  server.resetConnections();
  server.store.delete(KIND, "", "node-3");
  server.store.create(KIND, "", nodeObject(4) as never);
  server.store.setBack(10);
  await until(() => {
    if ((clock.nextInMs ?? 0) > MINUTE) clock.advance(3 * MINUTE);
    return names().join() === "node-1,node-2,node-4";
  });
  expect(server.requests.find(({ status }) => status === 504)?.verb).toBe("list");
});

test("bookmarks keep a quiet watch, and say which version is known", async () => {
  const { server, nodes, clock, verbs, until } = await synced();
  for (let minute = 0; minute < 7; minute++) {
    await server.admin.request("POST", "/api/v1/namespaces", namespaceObject(`n-${minute}`));
    server.watches.bookmark();
    await until(() => nodes.resourceVersion === `${server.store.version}`);
    clock.advance(MINUTE);
  }
  expect(verbs()).toEqual(["list", "watch"]);
  expect(clock.wallMs() - (nodes.confirmedAtMs as number)).toBe(MINUTE);
});

test("an API server that never sends bookmarks isn't asked more often for it", async () => {
  const { clock, verbs, until, server } = await synced();
  clock.advance(7 * MINUTE);
  expect(server.watches.size).toBe(1);
  // Seven and a half minutes are what this watch was asked for, and half a minute more nobody expects it.
  clock.advance(MINUTE);
  await until(() => verbs().length === 3);
  expect(verbs()).toEqual(["list", "watch", "watch"]);
});

test("an API server that accepts a connection and says nothing is a problem with words", async () => {
  const { server, nodes, until } = await setUp({ down: true, answerTimeoutMs: 200 });
  server.faults.stalled = true;
  await server.start();
  await until(() => nodes.problem?.includes("no answer within 200 ms") ?? false);
  server.faults.stalled = false;
  await until(() => nodes.state === "synced" && nodes.problem === undefined);
});

test("a storm of forgotten versions makes lists at the backoff's pace", async () => {
  const { server, clock, until, nodes } = await synced();
  const begun = clock.elapsedMs();
  server.faults.fail({ verb: "watch", status: 410, reason: "Expired" });
  server.watches.fail(410, "Expired");
  await until(() => clock.elapsedMs() - begun > 10 * MINUTE);
  const lists = server.requests.filter(({ verb }) => verb === "list").length;
  // client-go waits for 1.2, 2.4, … 45 s on average between them: 17 in ten minutes.
  expect(lists).toBeLessThan(20);
  server.faults.heal();
  await until(() => server.watches.size === 1 && nodes.problem === undefined);
});

test("a server that is busy is left alone for as long as it asks", async () => {
  const { server, clock, nodes, until } = await setUp({ down: true });
  server.faults.fail({ verb: "list", times: 1, status: 429, reason: "TooManyRequests", retryAfter: 50 });
  await server.start();
  await until(() => server.requests.length === 1);
  const refused = clock.elapsedMs();
  await until(() => nodes.state === "synced");
  expect(clock.elapsedMs() - refused).toBeGreaterThanOrEqual(50_000);
});

test.each([
  [500, "InternalError"],
  [503, "ServiceUnavailable"],
  [403, "Forbidden"],
])("after a watch that is refused with %i the next one goes on from the same version", async (status, reason) => {
  const { server, nodes, names, verbs, until } = await synced();
  server.faults.fail({ verb: "watch", times: 2, status, reason });
  server.watches.end();
  await server.admin.create("/api/v1/nodes", nodeObject(3));
  await until(() => names().length === 3 && nodes.problem === undefined);
  expect(verbs().filter((verb) => verb === "list")).toHaveLength(1);
});

test("a watch that ends at its time is followed by the next at once, and a storm of them is held back", async () => {
  const { server, clock, verbs, until } = await synced();
  clock.advance(MINUTE);
  const before = clock.elapsedMs();
  server.watches.end();
  await until(() => verbs().length === 3 && server.watches.size === 1);
  expect(clock.elapsedMs()).toBe(before);
  server.watches.end();
  await until(() => verbs().length === 4);
  expect(clock.elapsedMs() - before).toBeGreaterThanOrEqual(800);
});

test("a list is one request from the API server's cache, and pages where it makes some, of one version", async () => {
  const whole = await synced({ nodes: 0 });
  expect(whole.server.requests[0]?.query).toEqual({ limit: "500", resourceVersion: "0" });
  const { names, verbs } = await synced({ nodes: 1201, pagesAlways: true });
  expect(names()).toHaveLength(1201);
  expect(verbs()).toEqual(["list", "list", "list", "watch"]);
});

test("pages whose version is forgotten between them are read again as a whole", async () => {
  const { server, nodes, names, until } = await setUp({ nodes: 700, pagesAlways: true, down: true });
  server.faults.delayMs = 20;
  await server.start();
  await until(() => server.requests.length === 1);
  server.store.compact();
  await until(() => nodes.state === "synced");
  expect(names()).toHaveLength(700);
});

test("what was restored stands until the first list, which is not older", async () => {
  const objects = [fresh(1), fresh(7)];
  const restored = { objects, resourceVersion: "1001", confirmedAtMs: 5 };
  const { server, nodes, changes, names, until } = await setUp({ restored, down: true });
  await until(() => nodes.problem !== undefined);
  expect(nodes).toMatchObject({ state: "restored", confirmedAtMs: 5 });
  expect(names()).toEqual(["node-1", "node-7"]);
  expect(changes).toEqual([]);
  await server.start();
  await until(() => nodes.state === "synced");
  expect(names()).toEqual(["node-1", "node-2"]);
  expect(server.requests[0]?.query).toMatchObject({ resourceVersion: "1001", resourceVersionMatch: "NotOlderThan" });
});

test("a version of another cluster, or of before it was set back, is given up for whatever is newest", async () => {
  const restored = { objects: [], resourceVersion: "999999" };
  const { server, names } = await synced({ restored });
  expect(names()).toEqual(["node-1", "node-2"]);
  expect(server.requests.map(({ status }) => status)).toEqual([504, 200, 200]);
});

test("an object without a name is a problem, and no reason to miss the others", async () => {
  const { server, http } = await synced();
  const picky = new Reflector(http, {
    ...NODES,
    parse: (raw) => (JSON.stringify(raw).includes("node-1") ? undefined : parseNode(raw)),
  });
  onTestFinished(() => picky.stop());
  picky.start();
  await vi.waitFor(() => expect([...picky.objects.keys()]).toEqual(["node-2"]));
  expect(picky.problem).toBe("1 of the nodes have no name");
  expect(server.watches.size).toBeGreaterThan(0);
});

test("the pods of one node are those and no others, also when one comes to it later", async () => {
  const { server, http } = await synced();
  const [first, second] = [podObject({ name: "a", nodeName: "node-1" }), podObject({ name: "b" })];
  await server.admin.create("/api/v1/namespaces/default/pods", first);
  await server.admin.create("/api/v1/namespaces/default/pods", second);
  const pods = new Reflector(http, podsOf("node-1"));
  onTestFinished(() => pods.stop());
  pods.start();
  await vi.waitFor(() => expect([...pods.objects.keys()]).toEqual(["default/a"]));
  await server.admin.patch("/api/v1/namespaces/default/pods/b", { spec: { nodeName: "node-1" } });
  await vi.waitFor(() => expect([...pods.objects.keys()]).toEqual(["default/a", "default/b"]));
});

test("once it is stopped nobody is told anything any more", async () => {
  const { server, nodes, changes } = await synced();
  changes.length = 0;
  await nodes.stop();
  await server.admin.create("/api/v1/nodes", nodeObject(3));
  await vi.waitFor(() => expect(server.watches.size).toBe(0));
  expect(changes).toEqual([]);
});
