// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import { expect, onTestFinished, test } from "vitest";
import { HandMade } from "../../test/helpers/collection.ts";
import { parseAddress } from "../net/address.ts";
import { parsePrefix } from "../net/prefix.ts";
import { CACHE_NAME, KubeCache, type Restored } from "./cache.ts";
import { encodeCached, NAMESPACES, NODES, OWN_PODS } from "./cached-kinds.ts";
import type { KubeNamespace, KubeNode, KubePod } from "./objects.ts";

const NODE: KubeNode = {
  name: "node-1",
  uid: "5f6c",
  podCIDRs: [parsePrefix("10.244.1.0/24"), parsePrefix("fd00:10:244:1::/64")],
  addresses: [parseAddress("192.0.2.1"), parseAddress("2001:db8::1")],
  annotations: { "flatnet.dev/node-addresses": "ä" },
  taints: ["node.kubernetes.io/not-ready"],
  problem: undefined,
};

const POD: KubePod = {
  namespace: "default",
  name: "web-0",
  uid: "77",
  nodeName: "node-1",
  hostNetwork: false,
  addresses: [parseAddress("10.244.1.2")],
  labels: { app: "web" },
  annotations: {},
  ports: [{ name: "http", protocol: "TCP", port: 80 }],
  ended: false,
};

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), "flatnet-kube-"));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** A cache that writes at once, and what it said. */
async function openCache(stateDir: string): Promise<{ cache: KubeCache; said: string[] }> {
  const said: string[] = [];
  const say = (_: object, message: string) => said.push(message);
  const cache = await KubeCache.open(stateDir, { warn: say, error: say }, { settleMs: 0 });
  onTestFinished(() => cache.close());
  return { cache, said };
}

/** What a daemon that starts now finds of the nodes. */
async function restoreNodes(stateDir: string): Promise<{ restored: Restored<KubeNode> | undefined; said: string[] }> {
  const { cache, said } = await openCache(stateDir);
  const restored = await cache.restore(NODES);
  await cache.close();
  return { restored, said };
}

/** A state directory whose cache has node-1 and node-2. */
async function filled(): Promise<string> {
  const stateDir = directory();
  const { cache } = await openCache(stateDir);
  const nodes = new HandMade<KubeNode>();
  cache.keep(NODES, nodes, () => "42");
  nodes.set({ "node-1": NODE, "node-2": { ...NODE, name: "node-2" } });
  await cache.close();
  return stateDir;
}

test("a new cache knows nothing, which is other than knowing of nobody", async () => {
  const stateDir = directory();
  expect(await restoreNodes(stateDir)).toEqual({ restored: undefined, said: [] });
  const { cache } = await openCache(stateDir);
  const nodes = new HandMade<KubeNode>();
  cache.keep(NODES, nodes);
  nodes.set({ "node-1": NODE });
  nodes.set({ "node-1": undefined });
  await cache.close();
  expect((await restoreNodes(stateDir)).restored?.objects).toEqual(new Map());
});

test("a kind that has no objects is known to have none", async () => {
  const stateDir = directory();
  const { cache } = await openCache(stateDir);
  const pods = new HandMade<KubePod>();
  cache.keep(OWN_PODS, pods);
  pods.trouble("nothing is known yet");
  pods.set({});
  await cache.close();
  const { cache: next } = await openCache(stateDir);
  expect((await next.restore(OWN_PODS))?.objects).toEqual(new Map());
  expect(await next.restore(NAMESPACES)).toBeUndefined();
});

test("what was kept is there again, each kind for itself, with its version and when it was confirmed", async () => {
  const stateDir = directory();
  const { cache } = await openCache(stateDir);
  const [nodes, pods, namespaces] = [new HandMade<KubeNode>(), new HandMade<KubePod>(), new HandMade<KubeNamespace>()];
  nodes.confirmedAtMs = 1000;
  cache.keep(NODES, nodes, () => "7");
  cache.keep(OWN_PODS, pods);
  cache.keep(NAMESPACES, namespaces);
  nodes.set({ "node-1": NODE });
  pods.set({ "default/web-0": POD });
  namespaces.set({ default: { name: "default", labels: {} } });
  await cache.close();

  const { cache: next } = await openCache(stateDir);
  const restored = { resourceVersion: "7", confirmedAtMs: 1000, objects: new Map([["node-1", NODE]]) };
  expect(await next.restore(NODES)).toEqual(restored);
  expect((await next.restore(OWN_PODS))?.objects).toEqual(new Map([["default/web-0", POD]]));
  expect((await next.restore(NAMESPACES))?.objects).toEqual(new Map([["default", { name: "default", labels: {} }]]));
});

test("what is gone is deleted, and what changed is as it is now", async () => {
  const stateDir = await filled();
  const { cache } = await openCache(stateDir);
  const nodes = new HandMade<KubeNode>();
  cache.keep(NODES, nodes);
  nodes.set({ "node-1": undefined, "node-2": { ...NODE, name: "node-2", podCIDRs: [] } });
  await cache.close();
  const { restored } = await restoreNodes(stateDir);
  expect(restored?.objects).toEqual(new Map([["node-2", { ...NODE, name: "node-2", podCIDRs: [] }]]));
});

test("a process that is killed leaves what had been written, and nothing torn", async () => {
  const stateDir = directory();
  const { cache } = await openCache(stateDir);
  const nodes = new HandMade<KubeNode>();
  cache.keep(NODES, nodes);
  const names = Array.from({ length: 700 }, (_, i) => `node-${i}`);
  for (const name of names) nodes.set({ [name]: { ...NODE, name } });
  await expect.poll(async () => (await cache.restore(NODES))?.objects.size).toBe(names.length);

  // As it is on disk, without the process having closed anything.
  const killed = directory();
  cpSync(stateDir, killed, { recursive: true });
  expect((await restoreNodes(killed)).restored?.objects.size).toBe(names.length);

  // And in the middle of a write, wherever that was.
  const log = readdirSync(join(stateDir, CACHE_NAME)).find((name) => name.endsWith(".log")) as string;
  const { length } = readFileSync(join(stateDir, CACHE_NAME, log));
  for (const part of [0, 0.1, 0.5, 0.9, 0.999]) {
    const torn = directory();
    cpSync(stateDir, torn, { recursive: true });
    truncateSync(join(torn, CACHE_NAME, log), Math.floor(part * length));
    const { restored, said } = await restoreNodes(torn);
    expect(said).toEqual([]);
    for (const [name, node] of restored?.objects ?? []) expect(node).toEqual({ ...NODE, name });
  }
});

test.for([
  ["a record that isn't what was written", "object/nodes/node-1", `00000000${JSON.stringify(NODE.name)}`],
  ["a record that is no JSON", "object/nodes/node-1", "x"],
  ["a newer version of the kind", "meta/nodes", encodeCached({ version: 2 })],
  ["a newer format", "format", encodeCached({ version: 2 })],
] as const)("%s is said, dropped, and learned again", async ([, key, value]) => {
  const stateDir = await filled();
  const database = new Level<string, string>(join(stateDir, CACHE_NAME));
  await database.put(key, value);
  await database.close();
  const { restored, said } = await restoreNodes(stateDir);
  expect(restored).toBeUndefined();
  expect(said).toEqual(["what was kept of Kubernetes can't be read; it is learned again"]);
  // Only once.
  expect(await restoreNodes(stateDir)).toEqual({ restored: undefined, said: [] });
});

test("a database that LevelDB can't open is made anew", async () => {
  const stateDir = await filled();
  writeFileSync(join(stateDir, CACHE_NAME, "CURRENT"), "rubbish");
  const { restored, said } = await restoreNodes(stateDir);
  expect(restored).toBeUndefined();
  expect(said).toHaveLength(1);
  expect(await restoreNodes(stateDir)).toEqual({ restored: undefined, said: [] });
});

test("a cache that another process has is refused with that one's pid and command line", {
  timeout: 30_000,
}, async () => {
  const stateDir = directory();
  const script = `import { Level } from "level";
    await new Level(${JSON.stringify(join(stateDir, CACHE_NAME))}).open();
    process.stdout.write("open");
    setInterval(() => {}, 60_000);`;
  const argv = ["--input-type=module", "--eval", script];
  const holder = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void holder.kill("SIGKILL"));
  await once(holder.stdout, "data");
  await expect(openCache(stateDir)).rejects.toMatchObject({
    code: "KUBE_CACHE_LOCKED",
    message: expect.stringContaining(`${join(stateDir, CACHE_NAME)}: the database is held by process ${holder.pid} (`),
  });
});

test("fields that an older program didn't write have their defaults, and those of a newer one do no harm", async () => {
  const stateDir = await filled();
  const database = new Level<string, string>(join(stateDir, CACHE_NAME));
  await database.put("object/nodes/node-1", encodeCached({ name: "node-1", colour: "blue" }));
  await database.close();
  const { restored } = await restoreNodes(stateDir);
  expect(restored?.objects.get("node-1")).toMatchObject({ name: "node-1", podCIDRs: [], annotations: {}, taints: [] });
});

test("a disk that takes nothing doesn't stop anybody, and is said once", async () => {
  const stateDir = directory();
  writeFileSync(join(stateDir, CACHE_NAME), "a file where the directory should be");
  const { cache, said } = await openCache(stateDir);
  expect(await cache.restore(NODES)).toBeUndefined();
  const nodes = new HandMade<KubeNode>();
  cache.keep(NODES, nodes);
  nodes.set({ "node-1": NODE });
  await cache.close();
  expect(said).toEqual(["what is learned of Kubernetes can't be kept on disk; it is tried again"]);
});
