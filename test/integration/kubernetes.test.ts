// SPDX-License-Identifier: Apache-2.0
//
// The built daemon with Kubernetes as its source of nodes: nodes in namespaces, joined by one link, and an API server that each
// of them reaches, or doesn't. What is there is read by iproute2, and asked of pods. No time is asserted.
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { CACHE_NAME, KubeCache } from "../../src/kube/cache.ts";
import { NODES } from "../../src/kube/cached-kinds.ts";
import { createFabric, type Fabric, nodeAddresses } from "../helpers/cluster/fabric.ts";
import { probe, startReceiver } from "../helpers/containerd/probe.ts";
import { Cleanup, type Daemon, run, startDaemon, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, listRoutes, NO_TRACES, parseLog } from "../helpers/flatnet-node.ts";
import { type ApiServer, writeServiceAccount } from "../helpers/kube-api/api-server.ts";
import { startDouble } from "../helpers/kube-api/double.ts";
import { type Relay, startRelay } from "../helpers/kube-api/relay.ts";
import { canUseKernel, inNetns } from "../helpers/netns.ts";
import { addressesOf, built, createPod, type Pod, resultOf } from "../helpers/plugin.ts";
import { endProcesses } from "../helpers/route-history.ts";

const PORT = 6443;
const HEALTH = "127.0.0.1:9471";
const METRICS = "127.0.0.1:9470";

/** Subnets of the n-th node, and some that it may have later. */
const subnets = (n: number) => [`10.83.${n}.0/24`, `fd00:83:${n}::/64`];
const laterSubnets = (n: number) => subnets(100 + n);

/** A node's routes when its own subnets are these, to the nodes with these numbers. */
const routesTo = (own: readonly string[], ...peers: readonly number[]) =>
  [...own.map((cidr) => `unreachable ${cidr}`), ...peers.flatMap((n) => viaNode(n, subnets(n)))].sort();

async function ourRoutes({ netns }: FlatnetNode): Promise<string[]> {
  const all = [...(await listRoutes(netns, 4)), ...(await listRoutes(netns, 6))];
  return all
    .filter(({ protocol, type, gateway }) => protocol === "70" && (type !== undefined || gateway !== undefined))
    .map(({ type, dst, gateway }) => (type === undefined ? `${dst} via ${gateway}` : `unreachable ${dst}`))
    .sort();
}

/** A node of the cluster. Its daemon is not started by itself. */
class Member {
  readonly node: FlatnetNode;
  /** Its way to the API server. */
  readonly relay: Relay;
  readonly #cleanup: Cleanup;

  constructor(node: FlatnetNode, relay: Relay, cleanup: Cleanup) {
    this.node = node;
    this.relay = relay;
    this.#cleanup = cleanup;
  }

  async expectRoutes(expected: readonly string[]): Promise<void> {
    const text = JSON.stringify(expected);
    await waitFor(async () => JSON.stringify(await ourRoutes(this.node)) === text).catch(() => {});
    expect(await ourRoutes(this.node), this.node.daemon.output()).toEqual(expected);
  }

  /** Waits until the log has a line more with this text. */
  async expectLog(text: string, count = 1): Promise<void> {
    const lines = () => this.node.log().filter(({ msg }) => msg === text);
    await waitFor(() => lines().length >= count, { timeoutMs: 20_000 }).catch(() => {});
    expect(lines(), this.node.daemon.output()).toHaveLength(count);
  }

  /** A new pod with something in it that answers. */
  async addPod(label: string): Promise<{ pod: Pod; addresses: string[]; port: number }> {
    const pod = await createPod(label, this.#cleanup);
    const addresses = addressesOf(resultOf(await this.node.add(pod)));
    const { udp: port } = await startReceiver(pod.netns.path, this.#cleanup);
    return { pod, addresses, port };
  }

  /** GET of the daemon's own HTTP servers: status, a line, and the body. */
  get(address: string, path: string): Promise<string> {
    const script = `fetch("http://${address}${path}").then(async (r) => console.log(r.status + "\\n" + (await r.text())))`;
    return run(inNetns(this.node.netns.path, process.execPath, "-e", script));
  }

  async metric(line: string): Promise<number> {
    const found = (await this.get(METRICS, "/metrics")).split("\n").find((text) => text.startsWith(`${line} `));
    return Number(found?.split(" ")[1]);
  }
}

interface Site {
  readonly api: ApiServer;
  /** The Node object, as kubelet and the controller make it. */
  register(n: number, podCIDRs?: readonly string[]): Promise<void>;
  unregister(n: number): Promise<void>;
  /** @param config further keys of the daemon's */
  join(n: number, config?: object): Promise<Member>;
}

async function newSite(): Promise<Site> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  const api = await startDouble({ tls: true });
  cleanup.add(() => api.close());
  const fabric = await createFabric("10.96.0.1", cleanup);
  return {
    api,
    register: async (n, podCIDRs = subnets(n)) => {
      const addresses = nodeAddresses(n).map((address) => ({ type: "InternalIP", address }));
      const spec = podCIDRs.length === 0 ? {} : { podCIDR: podCIDRs[0], podCIDRs };
      await api.admin.create("/api/v1/nodes", { metadata: { name: `node-${n}` }, spec, status: { addresses } });
    },
    unregister: async (n) => void (await api.admin.delete(`/api/v1/nodes/node-${n}`)),
    join: (n, config = {}) => joinSite(n, api, fabric, cleanup, config),
  };
}

async function joinSite(n: number, api: ApiServer, fabric: Fabric, cleanup: Cleanup, more: object): Promise<Member> {
  const name = `node-${n}`;
  const node = await createNode(name, cleanup, { podCidrs: [], flags: ["--node-name", name] });
  // BIRD outlives its daemon.
  cleanup.add(async () => {
    await node.stop();
    await endProcesses(node.netns);
  });
  const serviceAccountDir = join(node.directory, "serviceaccount");
  writeServiceAccount(serviceAccountDir, api);
  const kubernetes = { enabled: true, apiServer: `https://127.0.0.1:${PORT}`, serviceAccountDir };
  // JSON is YAML.
  const config = { kubernetes, metricsAddress: METRICS, healthAddress: HEALTH, ...more };
  writeFileSync(configOf(node), JSON.stringify(config));
  await fabric.join(node.netns, nodeAddresses(n));
  const relay = await startRelay({ netns: node.netns, address: "127.0.0.1", port: PORT }, api.url, cleanup);
  return new Member(node, relay, cleanup);
}

const configOf = (node: FlatnetNode) => join(node.directory, "flatnetd.yaml");
const start = ({ node }: Member) => node.start("--config", configOf(node));

/** Starts a daemon that can't serve yet. */
async function startWaiting({ node }: Member, cleanup: Cleanup): Promise<Daemon> {
  const argv = node.command(...node.flags("--config", configOf(node)));
  const daemon = await startDaemon({ argv, ready: (output) => output.includes("waiting for this node's subnets") });
  cleanup.add(() => daemon.stop());
  return daemon;
}

/** Both families, from one pod to the other, with neither address translated. */
async function expectFlat(from: { pod: Pod; addresses: string[] }, to: { addresses: string[]; port: number }) {
  const questions = to.addresses.map((address) => ({ protocol: "udp" as const, address, port: to.port }));
  const answers = await probe(from.pod.netns.path, questions);
  expect(answers).toEqual(from.addresses.map((address) => ({ local: address, seen: address })));
}

describe.runIf(canUseKernel())("a node in Kubernetes", () => {
  test("has the subnets of its Node, and routes to the other nodes, which come, change and go", async () => {
    const { api, register, unregister, join } = await newSite();
    await register(1);
    await register(2);
    const [one, two] = [await join(1), await join(2)];
    await start(one);
    await start(two);
    await one.expectRoutes(routesTo(subnets(1), 2));
    await two.expectRoutes(routesTo(subnets(2), 1));
    const [a, b] = [await one.addPod("a"), await two.addPod("b")];
    expect(a.addresses).toEqual(["10.83.1.1", "fd00:83:1::1"]);
    await expectFlat(a, b);
    await expectFlat(b, a);

    // One that has no subnets yet, gets them, moves, and goes.
    await register(3, []);
    await api.admin.patch("/api/v1/nodes/node-3", { spec: { podCIDR: subnets(3)[0], podCIDRs: subnets(3) } });
    await one.expectRoutes(routesTo(subnets(1), 2, 3));
    await two.expectRoutes(routesTo(subnets(2), 1, 3));
    const annotations = { "flatnet.dev/node-addresses": nodeAddresses(9).join(",") };
    await api.admin.patch("/api/v1/nodes/node-3", { metadata: { annotations } });
    await one.expectRoutes([...routesTo(subnets(1), 2), ...viaNode(9, subnets(3))].sort());
    await unregister(3);
    await one.expectRoutes(routesTo(subnets(1), 2));
    await two.expectRoutes(routesTo(subnets(2), 1));
    await expectFlat(a, b);

    const told = await run([built("flatnetctl"), "routes", "--json", "--socket", one.node.socket]);
    const ways: { node: string; subnet: string; state: string }[] = JSON.parse(told).routes;
    expect(ways.map(({ node, subnet, state }) => `${node} ${subnet} ${state}`).sort()).toEqual(
      [1, 2].flatMap((n) => subnets(n).map((cidr) => `node-${n} ${cidr} installed`)),
    );
    expect(await one.metric('flatnet_kube_objects{kind="nodes"}')).toBe(2);
    expect(await one.metric('flatnet_kube_lists_total{kind="nodes"}')).toBe(1);
    expect(await one.metric('flatnet_kube_errors_total{kind="nodes"}')).toBe(0);
    expect(await one.metric("flatnet_routes_synced")).toBe(1);
  });

  test("boots, adds and deletes pods and keeps its routes with the API server gone", async () => {
    const { register, unregister, join } = await newSite();
    for (const n of [1, 2, 3]) await register(n);
    const [one, two] = [await join(1), await join(2)];
    await start(one);
    await start(two);
    await one.expectRoutes(routesTo(subnets(1), 2, 3));
    const [a, b] = [await one.addPod("a"), await two.addPod("b")];
    await one.relay.stop();
    await expectFlat(a, b);

    // A whole boot: nothing is left in the kernel of what the daemon had made of nodes.
    await one.node.stop("SIGKILL");
    for (const family of ["-4", "-6"]) {
      for (const route of await one.node.netns.ip(family, "route", "show", "proto", "70").then(viaOthers)) {
        await one.node.netns.ip(family, "route", "del", ...route.split(" "));
      }
    }
    // And one that nobody knows any more, of before: it is left until it is known that nobody has it.
    const [gateway] = nodeAddresses(9);
    await one.node.netns.ip("route", "add", "10.83.9.0/24", "via", gateway, "proto", "70");
    await unregister(3);
    await start(one);
    const stale = `10.83.9.0/24 via ${gateway}`;
    await one.expectRoutes([...routesTo(subnets(1), 2, 3), stale].sort());
    await expectFlat(a, b);
    const c = await one.addPod("c");
    expect(c.addresses[0]).toMatch(/^10\.83\.1\./);
    await expectFlat(c, b);
    expect((await one.node.del(c.pod)).status).toBe(0);
    expect((await one.node.traces()).records).toHaveLength(a.addresses.length);
    expect(await one.metric("flatnet_routes_synced")).toBe(1);
    expect(await one.metric('flatnet_kube_staleness_seconds{kind="nodes"}')).toBeGreaterThan(0);
    expect(await one.metric('flatnet_kube_errors_total{kind="nodes"}')).toBeGreaterThan(0);
    expect(await one.get(HEALTH, "/readyz")).toMatch(/^200\n/);

    // Back, what changed meanwhile is made up for.
    await one.relay.start();
    await waitFor(async () => !(await ourRoutes(one.node)).includes(stale), { timeoutMs: 60_000 });
    await one.expectRoutes(routesTo(subnets(1), 2));
    await expectFlat(a, b);
  });

  test("that was never told its subnets serves nobody until it is, and says what it waits for", async () => {
    const cleanup = new Cleanup();
    const { api, register, join } = await newSite();
    onTestFinished(() => cleanup.run());
    const one = await join(1);
    await one.relay.stop();
    const daemon = await startWaiting(one, cleanup);
    expect(existsSync(one.node.socket)).toBe(false);
    expect(await one.get(HEALTH, "/livez")).toMatch(/^200\n/);
    expect(await one.get(HEALTH, "/readyz")).toMatch(/^503\n/);
    const why = () => parseLog(daemon.output()).map(({ why }) => why);
    await waitFor(() => why().some((text) => `${text}`.includes("ECONNREFUSED")));
    await one.relay.start();
    await waitFor(() => why().includes("this node, node-1, is not in Kubernetes"), { timeoutMs: 60_000 });
    await register(1, []);
    await waitFor(() => why().includes("this node, node-1, has no podCIDRs in Kubernetes"));
    expect(existsSync(one.node.socket)).toBe(false);
    await api.admin.patch("/api/v1/nodes/node-1", { spec: { podCIDR: subnets(1)[0], podCIDRs: subnets(1) } });
    expect((await one.addPod("a")).addresses).toEqual(["10.83.1.1", "fd00:83:1::1"]);
    expect(await one.get(HEALTH, "/readyz")).toMatch(/^200\n/);
    expect(await daemon.stop()).toBe(0);
  });

  test("that is made anew with other subnets gives out those, and its pods keep what they have", async () => {
    const { register, unregister, join } = await newSite();
    await register(1);
    await register(2);
    const [one, two] = [await join(1), await join(2)];
    await start(one);
    await start(two);
    const [old, there] = [await one.addPod("old"), await two.addPod("there")];
    const { pid } = one.node.daemon;
    await unregister(1);
    await register(1, laterSubnets(1));
    await one.expectLog("serving", 2);
    await one.expectRoutes(routesTo(laterSubnets(1), 2));
    await two.expectRoutes([...routesTo(subnets(2)), ...viaNode(1, laterSubnets(1))].sort());
    const [later, another] = [await one.addPod("later"), await one.addPod("another")];
    expect(later.addresses).toEqual(["10.83.101.1", "fd00:83:101::1"]);
    await expectFlat(later, there);
    await expectFlat(there, another);
    await expectFlat(old, later);
    await expectFlat(later, old);
    expect(one.node.daemon.pid).toBe(pid);
    // The subnets are remembered as the pods are: nothing changes with the next start.
    await one.node.stop("SIGKILL");
    await start(one);
    await expectFlat(old, later);
    for (const { pod } of [old, later, another]) expect((await one.node.del(pod)).status).toBe(0);
    expect(await one.node.traces()).toEqual(NO_TRACES);
  });

  test("whose subnets change again and again fails no ADD and no DEL", async () => {
    const cleanup = new Cleanup();
    const { register, unregister, join } = await newSite();
    onTestFinished(() => cleanup.run());
    await register(1);
    const one = await join(1, { egress: { masquerade: true } });
    await start(one);
    let over = false;
    const verbs = async (worker: number) => {
      const { netns } = await createPod("pod", cleanup);
      for (let i = 0; !over; i++) {
        const pod = { netns, containerId: `container-${worker}-${i}` };
        resultOf(await one.node.add(pod));
        expect((await one.node.del(pod)).status).toBe(0);
      }
    };
    const workers = Promise.all([0, 1].map(verbs));
    workers.catch(() => {});
    for (let turn = 2; turn <= 8; turn++) {
      await unregister(1);
      await register(1, subnets(50 + turn));
      await one.expectLog("serving", turn);
    }
    over = true;
    await workers;
    await waitFor(async () => JSON.stringify(await one.node.traces()) === JSON.stringify(NO_TRACES)).catch(() => {});
    expect(await one.node.traces(), one.node.daemon.output()).toEqual(NO_TRACES);
    await one.expectRoutes(routesTo(subnets(58)));
  });

  test("whose Node is deleted keeps its subnets, its pods and its routes, and so does its next daemon", async () => {
    const { register, unregister, join } = await newSite();
    await register(1);
    await register(2);
    const one = await join(1);
    await start(one);
    const a = await one.addPod("a");
    await unregister(1);
    await register(3);
    await one.expectRoutes(routesTo(subnets(1), 2, 3));
    const b = await one.addPod("b");
    await expectFlat(a, b);
    await one.node.stop();
    await start(one);
    await one.expectRoutes(routesTo(subnets(1), 2, 3));
    const c = await one.addPod("c");
    expect(c.addresses[0]).toMatch(/^10\.83\.1\./);
    await expectFlat(a, c);
    const problems = () => one.node.log().flatMap(({ problems }) => (problems as string[] | undefined) ?? []);
    await waitFor(() => problems().length > 0);
    expect(problems()[0]).toBe("this node, node-1, is not in Kubernetes any more; it keeps the subnets it had");
  });

  test("is as Kubernetes says wherever its daemon was killed, and as it last said without an API server", async () => {
    const { register, unregister, join } = await newSite();
    await register(1);
    const one = await join(1);
    const there = new Set<number>();
    let next = 2;
    for (const [turn, afterMs] of [150, 250, 350, 450, 600].entries()) {
      // Five come and up to two go, while the daemon starts and is killed.
      const argv = one.node.command(...one.node.flags("--config", configOf(one.node)));
      const daemon = await startDaemon({ argv, ready: () => true });
      const killed = sleep(afterMs).then(() => daemon.stop("SIGKILL"));
      for (let i = 0; i < 5; i++) {
        await register(next);
        there.add(next++);
      }
      for (const n of [...there].slice(0, turn)) {
        await unregister(n);
        there.delete(n);
      }
      await killed;
    }
    await start(one);
    await one.expectRoutes(routesTo(subnets(1), ...there));
    await waitFor(async () => (await nodesOnDisk(one.node)) === there.size + 1);
    await one.relay.stop();
    await one.node.stop("SIGKILL");
    await one.node.netns.ip("route", "flush", "proto", "70");
    await one.node.netns.ip("-6", "route", "flush", "proto", "70");
    await start(one);
    await one.expectRoutes(routesTo(subnets(1), ...there));
  });

  test("learns its peers' subnets by BGP and masquerades beside them, with the nodes of Kubernetes", async () => {
    const { register, unregister, join } = await newSite();
    await register(1);
    await register(2);
    const config = { routes: { mode: "bgp" }, egress: { masquerade: true } };
    const [one, two] = [await join(1, config), await join(2, config)];
    await start(one);
    await start(two);
    const byBird = async () => (await one.node.netns.ip("route", "show", "proto", "bird")).trim();
    await waitFor(async () => (await byBird()).startsWith("10.83.2.0/24 via 192.0.2.2 "), { timeoutMs: 30_000 });
    const [a, b] = [await one.addPod("a"), await two.addPod("b")];
    await expectFlat(a, b);
    const inside = () => run(one.node.netns.command("nft", "list", "set", "inet", "flatnet_egress", "inside4"));
    expect(await inside()).toContain("192.0.2.2");
    await unregister(2);
    await waitFor(async () => (await byBird()) === "", { timeoutMs: 30_000 });
    await waitFor(async () => !(await inside()).includes("192.0.2.2"));
  });
});

/** How many nodes a daemon that is killed now would leave on disk. */
async function nodesOnDisk({ stateDir }: FlatnetNode): Promise<number | undefined> {
  const copy = mkdtempSync(join(tmpdir(), "kube-db-"));
  try {
    cpSync(join(stateDir, CACHE_NAME), join(copy, CACHE_NAME), { recursive: true });
    const ignore = { warn: () => {}, error: () => {} };
    const cache = await KubeCache.open(copy, ignore);
    const restored = await cache.restore(NODES);
    await cache.close();
    return restored?.objects.size;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** The routes to subnets of the n-th node. */
const viaNode = (n: number, cidrs: readonly string[]) => cidrs.map((cidr, i) => `${cidr} via ${nodeAddresses(n)[i]}`);

const viaOthers = (text: string) =>
  text
    .split("\n")
    .filter((line) => line.includes(" via "))
    .map((line) => (line.split(" via ")[0] as string).trim());
