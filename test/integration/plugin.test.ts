// SPDX-License-Identifier: Apache-2.0
//
// The built plugin against the built daemon in real namespaces. What came of it is read by iproute2 and from files.

import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Allocation } from "../../src/gen/flatnet/ipam/v1/ipam.ts";
import { Cleanup, type Finished, run, runToEnd } from "../helpers/daemon.ts";
import { type FakeHandlers, startFakeDaemon } from "../helpers/fake-daemon.ts";
import { createNode, type FlatnetNode, listRoutes, NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel, inNetns, type Netns } from "../helpers/netns.ts";
import {
  addressesOf,
  built,
  cniEnvironment,
  createPod,
  failureOf,
  type Pod,
  pluginCommand,
  resultOf,
  runPlugin,
} from "../helpers/plugin.ts";

const V4 = "10.77.1.0/24";
const V6 = "fd00:77:1::/64";
const FAMILIES = { v4: [V4], v6: [V6], dual: [V4, V6] } as const;
/** The versions whose results name the interfaces. */
const VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
const ALL_VERSIONS = ["0.1.0", "0.2.0", ...VERSIONS] as const;
const GATEWAYS = { 4: "169.254.1.1", 6: "fe80::1" } as const;

/** The rtnetlink group, route protocol and prefix that mark what is flatnet's, as numbers an operator would see. */
const GROUP = "26220";
const PROTOCOL = "70";

/** A DEL that went well. */
const SILENCE: Finished = { status: 0, stdout: "", stderr: "" };

const familyOf = (address: string) => (address.includes(":") ? 6 : 4);
const withLength = (address: string) => `${address}/${familyOf(address) === 4 ? 32 : 128}`;

/** Makes a pod for the rest of the test. */
async function newPod(): Promise<Pod> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  return createPod("pod", cleanup);
}

/** One link as `ip -json -details address` has it. */
interface IpLink {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly group: string;
  readonly ifalias?: string;
  readonly inet6_addr_gen_mode?: string;
  readonly num_tx_queues: number;
  readonly num_rx_queues: number;
  readonly addr_info: readonly { family: string; local: string; prefixlen: number; scope: string }[];
}

async function linksOf(netns: Netns): Promise<IpLink[]> {
  return JSON.parse(await netns.ip("-json", "-details", "-N", "address"));
}

async function linkOf(netns: Netns, ifname: string): Promise<IpLink> {
  const found = (await linksOf(netns)).find((link) => link.ifname === ifname);
  if (found === undefined) throw new Error(`there is no link ${ifname}`);
  return found;
}

async function permanentNeighbours(netns: Netns, dev: string) {
  const all: { dst: string; lladdr: string }[] = JSON.parse(
    (await netns.ip("-json", "neighbour", "show", "dev", dev, "nud", "permanent")) || "[]",
  );
  return all.map(({ dst, lladdr }) => ({ dst, lladdr }));
}

describe.runIf(canUseKernel()).each(Object.entries(FAMILIES))("a node with %s subnets", (_name, podCidrs) => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    node = await createNode("node", cleanup, { podCidrs });
    await node.start();
  });

  afterEach(async () => {
    const traces = await node.traces();
    await node.delAll();
    expect(traces).toEqual(NO_TRACES);
  });

  afterAll(() => cleanup.run());

  test.each(VERSIONS)("ADD makes the pod's network and says so in %s; DEL removes all of it", async (cniVersion) => {
    const pod = await newPod();
    const finished = await node.add(pod, { cniVersion });
    const result = resultOf(finished);
    expect(finished.stderr).toBe("");
    const addresses = addressesOf(result);
    expect(addresses.map(familyOf)).toEqual(podCidrs.map(familyOf));

    // Nothing is tentative at the moment ADD is back, so this is asked first.
    for (const netns of [node.netns, pod.netns]) {
      expect(await netns.ip("-6", "address", "show", "tentative")).toBe("");
      expect(await netns.ip("-6", "address", "show", "dadfailed")).toBe("");
    }

    const [hostEnd, podEnd] = result.interfaces;
    const host = await linkOf(node.netns, hostEnd?.name ?? "");
    const eth0 = await linkOf(pod.netns, "eth0");
    const mtu = cniVersion === "1.1.0" ? { mtu: 1500 } : {};
    const version = (address: string) =>
      cniVersion.startsWith("0.") ? { version: familyOf(address) === 4 ? "4" : "6" } : {};
    expect(result).toEqual({
      cniVersion,
      interfaces: [
        { name: host.ifname, mac: host.address, ...mtu },
        { name: "eth0", mac: eth0.address, sandbox: pod.netns.path, ...mtu },
      ],
      ips: addresses.map((address) => ({
        ...version(address),
        address: withLength(address),
        gateway: GATEWAYS[familyOf(address)],
        interface: 1,
      })),
      routes: addresses.map((address) => ({
        dst: familyOf(address) === 4 ? "0.0.0.0/0" : "::/0",
        gw: GATEWAYS[familyOf(address)],
      })),
      dns: {},
    });
    expect(podEnd?.name).toBe("eth0");

    // The pod's end.
    expect(eth0).toMatchObject({ mtu: 1500, num_tx_queues: 1, num_rx_queues: 1 });
    expect(eth0.flags).toContain("UP");
    expect(eth0.address).toMatch(/^02:fe:/);
    const global = eth0.addr_info.filter(({ scope }) => scope === "0" || scope === "global");
    expect(global.map(({ local, prefixlen }) => `${local}/${prefixlen}`)).toEqual(addresses.map(withLength));
    for (const family of [4, 6] as const) {
      const defaults = (await listRoutes(pod.netns, family)).filter(({ dst }) => dst === "default");
      const expected = addresses.some((address) => familyOf(address) === family)
        ? [expect.objectContaining({ gateway: GATEWAYS[family], dev: "eth0", protocol: PROTOCOL })]
        : [];
      expect(defaults).toEqual(expected);
    }
    expect(await permanentNeighbours(pod.netns, "eth0")).toEqual(
      expect.arrayContaining(addresses.map((address) => ({ dst: GATEWAYS[familyOf(address)], lladdr: host.address }))),
    );

    // The host's end: no address at all, found by its marks.
    expect(host.ifname).toMatch(/^fl[a-z2-7]{11}$/);
    expect(host).toMatchObject({
      mtu: 1500,
      group: GROUP,
      ifalias: `flatnet:tests/${pod.netns.name}`,
      addr_info: [],
      num_tx_queues: 1,
      num_rx_queues: 1,
    });
    expect(host.flags).toContain("UP");
    expect(host.address).toMatch(/^06:fe:/);
    for (const address of addresses) {
      expect(await listRoutes(node.netns, familyOf(address))).toContainEqual(
        expect.objectContaining({ dst: address, dev: host.ifname, protocol: PROTOCOL }),
      );
    }
    expect(await permanentNeighbours(node.netns, host.ifname)).toEqual(
      expect.arrayContaining(addresses.map((dst) => ({ dst, lladdr: eth0.address }))),
    );

    // The record.
    const { allocations } = await node.allocations();
    expect(allocations).toMatchObject([
      {
        attachment: { network: "tests", containerId: pod.containerId, ifname: "eth0" },
        pod: { namespace: "tests", name: pod.netns.name, uid: `uid-${pod.netns.name}` },
        netns: pod.netns.path,
        hostIfname: host.ifname,
        addresses,
      },
    ]);

    const deleted = await node.del(pod, { cniVersion });
    expect(deleted).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(await node.traces()).toEqual(NO_TRACES);
    expect((await linksOf(pod.netns)).map(({ ifname }) => ifname)).toEqual(["lo"]);
    for (const family of [4, 6] as const) expect(await listRoutes(pod.netns, family)).toEqual([]);
  });
});

describe.runIf(canUseKernel())("a node with v4 subnets only", () => {
  test.each([68, 1000, 1279, 1280, 65_535])("gives a pod an MTU of %d", async (mtu) => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const node = await createNode("small", cleanup, { podCidrs: [V4] });
    await node.start();
    const pod = await createPod("pod", cleanup);
    const { interfaces } = resultOf(await node.add(pod, { mtu }));
    const host = await linkOf(node.netns, interfaces[0]?.name ?? "");
    expect([(await linkOf(pod.netns, "eth0")).mtu, host.mtu]).toEqual([mtu, mtu]);
    expect(host.addr_info).toEqual([]);
    expect(await node.del(pod)).toEqual(SILENCE);
    expect(await node.traces()).toEqual(NO_TRACES);
  });
});

describe.runIf(canUseKernel())("the plugin", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    node = await createNode("node", cleanup, { podCidrs: [V4, V6] });
    await node.start();
  });

  /** Every test leaves the node without a trace. */
  afterEach(async () => {
    const traces = await node.traces();
    await node.delAll();
    expect(traces).toEqual(NO_TRACES);
  });

  afterAll(() => cleanup.run());

  /** Everything of a namespace that an attachment could change. */
  async function stateOf(netns: Netns): Promise<string[]> {
    return Promise.all([
      netns.ip("-details", "address"),
      netns.ip("-4", "-N", "route", "show", "table", "all"),
      netns.ip("-6", "-N", "route", "show", "table", "all"),
      netns.ip("neighbour", "show", "nud", "permanent"),
    ]);
  }

  describe("DEL", () => {
    test("that comes twice is success and says nothing", async () => {
      const pod = await newPod();
      resultOf(await node.add(pod));
      expect(await node.del(pod)).toEqual(SILENCE);
      expect(await node.del(pod)).toEqual(SILENCE);
    });

    test("of a container nobody knows is success and says nothing", async () => {
      expect(await node.del(await newPod())).toEqual(SILENCE);
    });

    test.each(["", undefined])("with CNI_NETNS %j removes everything", async (path) => {
      const pod = await newPod();
      resultOf(await node.add(pod));
      const env: Record<string, string> = cniEnvironment("DEL", pod);
      delete env["CNI_NETNS"];
      if (path !== undefined) env["CNI_NETNS"] = path;
      expect(await runPlugin(node.netns, env, node.conf())).toEqual(SILENCE);
    });

    test("of a pod whose namespace has vanished removes everything", async () => {
      const pod = await newPod();
      resultOf(await node.add(pod));
      expect(await node.run("DEL", pod, { env: { CNI_NETNS: "/run/netns/there-is-none" } })).toEqual(SILENCE);
    });

    test("of a pod whose namespace is no namespace any more removes everything", async () => {
      const pod = await newPod();
      resultOf(await node.add(pod));
      const path = join(node.directory, "not-a-namespace");
      writeFileSync(path, "");
      expect(await node.run("DEL", pod, { env: { CNI_NETNS: path } })).toEqual(SILENCE);
    });
  });

  describe("ADD", () => {
    test("after a DEL gives an address that is not the one just released", async () => {
      const pod = await newPod();
      const first = addressesOf(resultOf(await node.add(pod)));
      await node.del(pod);
      const second = addressesOf(resultOf(await node.add(pod)));
      expect(second.filter((address) => first.includes(address))).toEqual([]);
      await node.del(pod);
    });

    test("again without a DEL is refused with code 101, and the running pod keeps all it has", async () => {
      const pod = await newPod();
      resultOf(await node.add(pod));
      const before = [await stateOf(node.netns), await stateOf(pod.netns), (await node.allocations()).allocations];
      const failure = failureOf(await node.add(pod));
      expect(failure).toMatchObject({ cniVersion: "1.1.0", code: 101 });
      expect(failure.details).toMatch(/fl[a-z2-7]{11}/);
      const after = [await stateOf(node.netns), await stateOf(pod.netns), (await node.allocations()).allocations];
      expect(after).toEqual(before);
      await node.del(pod);
    });

    test("after an ADD that got no further than the link succeeds", async () => {
      const pod = await newPod();
      const first = resultOf(await node.add(pod));
      const name = first.interfaces[0]?.name ?? "";
      await node.netns.ip("link", "delete", name);
      await node.netns.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", pod.netns.name);
      const second = resultOf(await node.add(pod));
      expect(second).toEqual(first);
      expect((await linkOf(node.netns, name)).flags).toContain("LOWER_UP");
      await node.del(pod);
    });

    test("into a pod that has such an interface is refused with code 101 and leaves nothing", async () => {
      const pod = await newPod();
      await pod.netns.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1");
      const before = await stateOf(pod.netns);
      const failure = failureOf(await node.add(pod));
      expect(failure).toMatchObject({ code: 101 });
      expect(failure.details).toContain("eth0");
      expect(failure.details).toContain(pod.netns.path);
      expect(await node.traces()).toEqual(NO_TRACES);
      expect(await stateOf(pod.netns)).toEqual(before);
    });

    test("switches IPv6 on in a pod whose runtime has switched it off", async () => {
      const pod = await newPod();
      for (const which of ["all", "default"]) {
        await run(inNetns(pod.netns.path, "sh", "-c", `echo 1 > /proc/sys/net/ipv6/conf/${which}/disable_ipv6`));
      }
      const addresses = addressesOf(resultOf(await node.add(pod)));
      const { addr_info } = await linkOf(pod.netns, "eth0");
      expect(addr_info.map(({ local }) => local)).toEqual(expect.arrayContaining(addresses));
      expect(await pod.netns.ip("-6", "address", "show", "tentative")).toBe("");
      await node.del(pod);
    });

    test("takes the longest names that Kubernetes and the daemon have", async () => {
      const pod = { ...(await newPod()), containerId: "c".repeat(253) };
      const env = {
        CNI_ARGS: `K8S_POD_NAMESPACE=${"n".repeat(63)};K8S_POD_NAME=${"p".repeat(253)}`,
        CNI_IFNAME: "i".repeat(15),
      };
      const result = resultOf(await node.run("ADD", pod, { env }));
      const { ifalias } = await linkOf(node.netns, result.interfaces[0]?.name ?? "");
      expect(ifalias).toMatch(/^flatnet:n{63}\/p{100,}$/);
      expect(await node.run("DEL", pod, { env })).toEqual(SILENCE);
    });

    test("outside Kubernetes names the container in the link's alias", async () => {
      const pod = await newPod();
      const result = resultOf(await node.run("ADD", pod, { env: { CNI_ARGS: "" } }));
      const { ifalias } = await linkOf(node.netns, result.interfaces[0]?.name ?? "");
      expect(ifalias).toBe(`flatnet:${pod.containerId}`);
      await node.del(pod);
    });

    test("gives both ends the configuration's MTU, and says so", async () => {
      const pod = await newPod();
      const { interfaces } = resultOf(await node.add(pod, { mtu: 1400 }));
      expect(interfaces.map(({ mtu }) => mtu)).toEqual([1400, 1400]);
      expect((await linkOf(pod.netns, "eth0")).mtu).toBe(1400);
      expect((await linkOf(node.netns, interfaces[0]?.name ?? "")).mtu).toBe(1400);
      await node.del(pod);
    });

    test("of sixteen pods at once gives sixteen addresses of each family", async () => {
      const pods = await Promise.all(Array.from({ length: 16 }, newPod));
      const results = (await Promise.all(pods.map((pod) => node.add(pod)))).map(resultOf);
      const addresses = results.flatMap(addressesOf);
      expect(new Set(addresses).size).toBe(32);
      expect(new Set(results.flatMap(({ interfaces }) => interfaces.map(({ mac }) => mac))).size).toBe(32);
      expect((await node.traces()).records).toEqual(addresses.sort());
      for (const finished of await Promise.all(pods.map((pod) => node.del(pod)))) expect(finished).toEqual(SILENCE);
    });

    test("whose last steps the kernel refuses reports the kernel's words and leaves nothing", async () => {
      const pod = await newPod();
      const off = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
      const set = (value: string) => run(inNetns(node.netns.path, "sh", "-c", `echo ${value} > ${off}`));
      onTestFinished(() => set("0").then(() => {}));
      await set("1");
      const failure = failureOf(await node.add(pod));
      expect(failure).toMatchObject({ code: 100, msg: "the kernel refused a step" });
      expect(failure.details).toMatch(/fl[a-z2-7]{11}.*: .*[A-Z]{4,}|IPv6/);
      expect(await node.traces()).toEqual(NO_TRACES);
      expect((await linksOf(pod.netns)).map(({ ifname }) => ifname)).toEqual(["lo"]);
    });

    test("with an MTU that IPv6 can't have is refused and leaves nothing", async () => {
      const pod = await newPod();
      const failure = failureOf(await node.add(pod, { mtu: 1000 }));
      expect(failure).toMatchObject({ code: 7, details: expect.stringContaining("mtu is 1000") });
      expect(await node.traces()).toEqual(NO_TRACES);
      expect((await linksOf(pod.netns)).map(({ ifname }) => ifname)).toEqual(["lo"]);
    });
  });

  describe("a namespace that is none", () => {
    test("a path that isn't there is refused with code 4", async () => {
      const failure = failureOf(await node.run("ADD", await newPod(), { env: { CNI_NETNS: "/run/netns/none" } }));
      expect(failure).toMatchObject({ code: 4 });
      expect(failure.details).toContain("CNI_NETNS=/run/netns/none");
    });

    test.each([
      ["a regular file", (path: string) => writeFileSync(path, "")],
      ["a directory", (path: string) => mkdirSync(path)],
      ["a FIFO", (path: string) => run(["mkfifo", path])],
      ["a namespace of another kind", (path: string) => symlinkSync("/proc/self/ns/uts", path)],
    ])("%s is refused with code 4", async (what, make) => {
      const path = join(node.directory, what.replaceAll(" ", "-"));
      await make(path);
      const failure = failureOf(await node.run("ADD", await newPod(), { env: { CNI_NETNS: path } }));
      expect(failure).toMatchObject({ code: 4 });
      expect(failure.details).toContain(`CNI_NETNS=${path}`);
    });

    test("the plugin's own is refused with code 8 before anything is touched", async () => {
      const asked = new Cleanup();
      onTestFinished(() => asked.run());
      const socket = join(node.directory, "own.sock");
      const fake = await startFakeDaemon(socket, { allocate: () => "silence" }, asked);
      const pod = await newPod();
      for (const path of [node.netns.path, "/proc/self/ns/net"]) {
        const env = { CNI_NETNS: path };
        expect(failureOf(await node.run("ADD", pod, { env, conf: { socket } }))).toMatchObject({ code: 8 });
        expect(failureOf(await node.run("DEL", pod, { env, conf: { socket } }))).toMatchObject({ code: 8 });
      }
      expect(fake).toEqual({ allocated: [], released: [] });
    });

    test("the plugin's own is taken when the caller says that it knows", async () => {
      const pod = { ...(await newPod()), netns: node.netns };
      const env = { CNI_NETNS_OVERRIDE: "1", CNI_IFNAME: "eth7" };
      const result = resultOf(await node.run("ADD", pod, { env, conf: {} }));
      const links = (await linksOf(node.netns)).map(({ ifname }) => ifname);
      expect(links).toEqual(expect.arrayContaining(["eth7", result.interfaces[0]?.name]));
      expect(await node.run("DEL", pod, { env })).toEqual(SILENCE);
      expect((await linksOf(node.netns)).map(({ ifname }) => ifname)).toEqual(["lo"]);
    });
  });

  describe("bad input", () => {
    test.each([
      ["nothing", ""],
      ["white space", " \n"],
      ["no JSON", "cniVersion: 1.1.0"],
      ["half a document", '{"cniVersion":"1.1.0"'],
      ["an array", "[]"],
      ["null", "null"],
      ["a number", "1"],
      ["2 MiB", JSON.stringify({ cniVersion: "1.1.0", name: "tests", filler: "x".repeat(2 << 20) })],
      ["bytes that are no text", "\0\u{1}\u{2}"],
    ])("stdin with %s is refused with code 6", async (_what, stdin) => {
      for (const verb of ["ADD", "DEL"]) {
        const finished = await runPlugin(node.netns, cniEnvironment(verb, await newPod()), stdin);
        expect(failureOf(finished)).toMatchObject({ code: 6, msg: expect.stringContaining("stdin") });
        expect(finished.stdout.trim().split("\n")).toHaveLength(1);
      }
    });

    test.each([
      ["CNI_CONTAINERID", ""],
      ["CNI_CONTAINERID", "a/b"],
      ["CNI_CONTAINERID", "-a"],
      ["CNI_CONTAINERID", "c".repeat(300)],
      ["CNI_IFNAME", ""],
      ["CNI_IFNAME", "."],
      ["CNI_IFNAME", "sixteen-long-nam"],
      ["CNI_IFNAME", "eth 0"],
      ["CNI_IFNAME", "a:b"],
      ["CNI_NETNS", ""],
      ["CNI_NETNS", "relative/path"],
      ["CNI_ARGS", "K8S_POD_NAME"],
      ["CNI_COMMAND", "add"],
    ])("%s=%j is refused with code 4, and named", async (name, value) => {
      const failure = failureOf(await node.run("ADD", await newPod(), { env: { [name]: value } }));
      expect(failure).toMatchObject({ cniVersion: "1.1.0", code: 4 });
      expect(failure.details).toContain(name);
      expect(failure.details).toContain(value.slice(0, 100));
    });

    test("every variable that is missing is named", async () => {
      const finished = await runPlugin(node.netns, { CNI_COMMAND: "ADD" }, node.conf());
      const failure = failureOf(finished);
      expect(failure.code).toBe(4);
      for (const name of ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"]) expect(failure.details).toContain(name);
    });

    test.each<[string, object, number]>([
      ["name", { name: undefined }, 7],
      ["name", { name: 5 }, 7],
      ["name", { name: "a b" }, 7],
      ["cniVersion", { cniVersion: 1.1 }, 7],
      ["cniVersion", { cniVersion: "0.0.1" }, 1],
      ["cniVersion", { cniVersion: "9.9.9" }, 1],
      ["socket", { socket: true }, 7],
      ["socket", { socket: "relative" }, 7],
      ["socket", { socket: `/${"s".repeat(200)}` }, 7],
      ["timeoutMs", { timeoutMs: "10s" }, 7],
      ["timeoutMs", { timeoutMs: -1 }, 7],
      ["timeoutMs", { timeoutMs: {} }, 7],
      ["connectWaitMs", { connectWaitMs: 1.5 }, 7],
      ["mtu", { mtu: "1500" }, 7],
      ["mtu", { mtu: 67 }, 7],
      ["mtu", { mtu: 70_000 }, 7],
      ["journalDir", { journalDir: [] }, 7],
      ["prevResult", { prevResult: 5 }, 7],
      ["prevResult.cniVersion", { prevResult: { cniVersion: 5 } }, 7],
      ["runtimeConfig.ips", { runtimeConfig: { ips: "10.77.1.5" } }, 7],
      ["routes.0.dst", { routes: [{ dst: "default" }] }, 7],
      ["sysctls", { sysctls: { "kernel.hostname": "x" } }, 7],
    ])(
      "a configuration whose %s is wrong is refused, and the key and its value are named: %j",
      async (key, conf, code) => {
        const failure = failureOf(await node.add(await newPod(), conf));
        expect(failure.code).toBe(code);
        expect(failure.details).toContain(key);
        const value = Object.values(conf)[0];
        if (typeof value === "string" || typeof value === "number")
          expect(failure.details).toContain(String(value).slice(0, 100));
      },
    );

    test("keys that nobody knows are ignored, as the spec wants", async () => {
      const pod = await newPod();
      resultOf(await node.add(pod, { later: { version: 9 }, runtimeConfig: {}, capabilities: {}, dns: {}, args: {} }));
      await node.del(pod);
    });

    test("VERSION answers with the versions that are supported, whatever is on stdin", async () => {
      for (const stdin of ['{"cniVersion":"0.4.0"}', "{}", ""]) {
        const finished = await runPlugin(node.netns, { CNI_COMMAND: "VERSION" }, stdin);
        expect(resultOf(finished)).toMatchObject({ supportedVersions: ALL_VERSIONS });
      }
    });
  });

  test("flatnet-ipam is the same file under another name", () => {
    expect(statSync(built("flatnet-ipam")).ino).toBe(statSync(built("flatnet")).ino);
  });

  describe("files and variables that others planted", () => {
    test("those in the current directory are not read", async () => {
      const directory = join(node.directory, "planted");
      mkdirSync(directory);
      const marker = join(directory, "foreign-code-ran");
      writeFileSync(join(directory, "evil.js"), `require("fs").writeFileSync(${JSON.stringify(marker)}, "");`);
      writeFileSync(join(directory, "package.json"), '{"type": "module", "imports": {"#x": "./evil.js"}}');
      for (const name of [".env", ".env.local", ".env.production"]) {
        writeFileSync(join(directory, name), "CNI_COMMAND=VERSION\nCNI_CONTAINERID=planted\n");
      }
      const command = ["env", `--chdir=${directory}`, ...pluginCommand(node.netns)];
      const about = await runToEnd(command, { env: {} });
      expect(about).toMatchObject({ status: 0, stdout: "" });
      const { CNI_CONTAINERID: _, ...env } = cniEnvironment("ADD", await newPod()) as Record<string, string>;
      const failure = failureOf(await runToEnd(command, { env, input: node.conf() }));
      expect(failure).toMatchObject({ code: 4, details: "CNI_CONTAINERID is missing" });
      expect(existsSync(marker)).toBe(false);
    });

    test("what a loader takes from the environment, and an engine from its arguments, is not taken", async () => {
      const directory = join(node.directory, "environment");
      mkdirSync(directory);
      const marker = join(directory, "foreign-code-ran");
      const script = join(directory, "evil.js");
      const code = `require("fs").writeFileSync(${JSON.stringify(marker)}, "");`;
      writeFileSync(script, code);
      const plugin = built("flatnet");
      // With the first a program with shared libraries says which ones, in the place of what it is for.
      for (const env of [{ LD_TRACE_LOADED_OBJECTS: "1" }, { LD_PRELOAD: join(directory, "missing.so") }, {}]) {
        for (const args of [[script], ["run", script], ["-e", code], ["--eval", code], ["--help"]]) {
          const finished = await runToEnd([plugin, ...args], { env: { ...env, CNI_COMMAND: "VERSION" }, input: "{}" });
          expect(resultOf(finished)).toMatchObject({ supportedVersions: ALL_VERSIONS });
          expect(finished.stderr).toBe("");
        }
      }
      expect(existsSync(marker)).toBe(false);
    });
  });
});

describe.runIf(canUseKernel())("a full subnet", () => {
  test.each([
    ["10.77.9.0/30", 2],
    ["10.77.9.0/31", 2],
    ["fd00:77:9::/126", 3],
  ])("%s is refused with code 11, the subnet and its counts named, and nothing is left", async (cidr) => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const node = await createNode("full", cleanup, { podCidrs: [cidr] });
    await node.start();
    const capacity = (await node.allocations()).subnets[0]?.capacity ?? 0;
    expect(capacity).toBeGreaterThan(0);
    expect(capacity).toBeLessThanOrEqual(4);
    const pods: Pod[] = [];
    for (let i = 0; i < capacity; i++) {
      const pod = await createPod("pod", cleanup);
      resultOf(await node.add(pod));
      pods.push(pod);
    }
    const before = await node.traces();
    const failure = failureOf(await node.add(await createPod("pod", cleanup)));
    expect(failure).toMatchObject({ code: 11 });
    expect(failure.details).toContain(cidr);
    expect(failure.details).toContain(`${capacity} of ${capacity}`);
    expect(await node.traces()).toEqual(before);
    for (const pod of pods) await node.del(pod);
    expect(await node.traces()).toEqual(NO_TRACES);
  });

  test("of one family leaves nothing of the other", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const node = await createNode("full", cleanup, { podCidrs: ["10.77.9.0/24", "fd00:77:9::/127"] });
    await node.start();
    const capacity = (await node.allocations()).subnets[1]?.capacity ?? 0;
    const pods: Pod[] = [];
    for (let i = 0; i < capacity; i++) {
      const pod = await createPod("pod", cleanup);
      resultOf(await node.add(pod));
      pods.push(pod);
    }
    const before = await node.traces();
    const failure = failureOf(await node.add(await createPod("pod", cleanup)));
    expect(failure.details).toContain("fd00:77:9::/127");
    expect(await node.traces()).toEqual(before);
  });
});

describe.runIf(canUseKernel())("a daemon that is away", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    node = await createNode("away", cleanup, { podCidrs: [V4, V6] });
    await node.start();
    await node.stop();
  });

  afterEach(async () => {
    await node.stop();
    expect(await node.tracesWithoutDaemon()).toEqual(NO_TRACES);
  });

  afterAll(() => cleanup.run());

  test("makes ADD fail with code 11 that names the socket, after a wait within bounds, and leaves nothing", async () => {
    const pod = await newPod();
    const failure = failureOf(await node.add(pod, { connectWaitMs: 50 }));
    expect(failure).toMatchObject({ code: 11 });
    expect(failure.details).toContain(node.socket);
    expect((await linksOf(pod.netns)).map(({ ifname }) => ifname)).toEqual(["lo"]);
  });

  test("and comes while ADD waits lets it succeed", async () => {
    const pod = await newPod();
    const added = node.add(pod, { connectWaitMs: 60_000, timeoutMs: 60_000 });
    await node.start();
    resultOf(await added);
    expect(await node.del(pod)).toEqual(SILENCE);
  });

  test("is left a note by DEL, which is success; it releases the address before it serves again", async () => {
    const pod = await newPod();
    await node.start();
    const addresses = addressesOf(resultOf(await node.add(pod)));
    await node.stop();
    for (let i = 0; i < 2; i++) {
      const deleted = await node.del(pod);
      expect(deleted).toMatchObject({ status: 0, stdout: "" });
      expect(deleted.stderr).not.toContain("not found");
    }
    const traces = await node.tracesWithoutDaemon();
    expect(traces).toMatchObject({ links: [], routes: [], records: [] });
    expect(traces.journal).toEqual([expect.stringMatching(/^[0-9a-f]{64}\.json$/)]);
    const entry = join(node.journalDir, traces.journal[0] ?? "");
    expect(statSync(entry).mode & 0o7777).toBe(0o600);
    expect(JSON.parse(readFileSync(entry, "utf8"))).toMatchObject({
      v: 1,
      network: "tests",
      containerId: pod.containerId,
      ifname: "eth0",
    });
    await node.start();
    const messages = node.log().map(({ msg }) => msg);
    expect(messages.indexOf("the plugin's journal is replayed")).toBeGreaterThanOrEqual(0);
    expect(messages.indexOf("the plugin's journal is replayed")).toBeLessThan(messages.indexOf("serving"));
    expect(await node.traces()).toEqual(NO_TRACES);
    const { subnets } = await node.allocations();
    expect(subnets.reduce((sum, { cooling }) => sum + cooling, 0)).toBeGreaterThanOrEqual(addresses.length);
  });

  test("and was never there: DEL without a journal directory to write to asks the runtime to come again", async () => {
    const pod = await newPod();
    const failure = failureOf(await node.del(pod, { journalDir: join(node.directory, "none") }));
    expect(failure).toMatchObject({ code: 11 });
    expect(failure.details).toContain(join(node.directory, "none"));
    expect(JSON.stringify(failure)).not.toContain("not found");
  });

  test("and neither is its state directory: DEL takes the link away, and there is nobody to tell", async () => {
    const pod = await newPod();
    await node.start();
    resultOf(await node.add(pod));
    await node.stop();
    const journalDir = join(node.directory, "none", "journal");
    expect(await node.del(pod, { journalDir })).toMatchObject({ status: 0, stdout: "" });
    expect((await node.tracesWithoutDaemon()).links).toEqual([]);
    expect(existsSync(dirname(journalDir))).toBe(false);
    expect(await node.del(pod, { journalDir })).toMatchObject({ status: 0, stdout: "" });
  });
});

describe.runIf(canUseKernel())("a daemon that answers otherwise", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    node = await createNode("odd", cleanup, { podCidrs: [V4] });
  });

  afterAll(() => cleanup.run());

  test.each<[string, FakeHandlers["release"]]>([
    ["does not answer in time", () => "silence"],
    ["fails", () => ({ code: status.INTERNAL, details: "the disk is full" })],
    ["is stopping", () => ({ code: status.UNAVAILABLE, details: "the daemon is stopping" })],
  ])("to a DEL: one that %s is left a note, and DEL is success", async (_what, release = () => ({ addresses: [] })) => {
    const own = new Cleanup();
    onTestFinished(() => own.run());
    const [socket, journalDir] = [join(node.directory, `${randomUUID()}.sock`), join(node.directory, randomUUID())];
    mkdirSync(journalDir);
    await startFakeDaemon(socket, { allocate: () => "silence", release }, own);
    const pod = await newPod();
    const deleted = await node.del(pod, { socket, journalDir, timeoutMs: 200 });
    expect(deleted).toMatchObject({ status: 0, stdout: "" });
    const [entry = "", ...more] = readdirSync(journalDir);
    expect(more).toEqual([]);
    expect(JSON.parse(readFileSync(join(journalDir, entry), "utf8"))).toMatchObject({ containerId: pod.containerId });
  });

  test("to a GC that it will do later is code 11, and names every attachment that is left", async () => {
    const own = new Cleanup();
    onTestFinished(() => own.run());
    const socket = join(node.directory, `${randomUUID()}.sock`);
    const allocations = ["a", "b"].map((containerId) => {
      const attachment = { network: "tests", containerId, ifname: "eth0" };
      return { ...Allocation.decode(new Uint8Array()), attachment, hostIfname: `flgone${containerId}` };
    });
    const release = () => ({ code: status.UNAVAILABLE, details: "the daemon is stopping" });
    await startFakeDaemon(socket, { allocate: () => "silence", release, allocations }, own);
    const conf = node.conf({ socket, "cni.dev/valid-attachments": [] });
    const failure = failureOf(await runPlugin(node.netns, { CNI_COMMAND: "GC", CNI_PATH: "/opt/cni/bin" }, conf));
    expect(failure).toMatchObject({ code: 11, msg: "2 of 2 attachments could not be removed" });
    for (const text of ["a/eth0", "b/eth0", "the daemon is stopping"]) expect(failure.details).toContain(text);
  });

  async function addWith(allocate: FakeHandlers["allocate"], conf: object = {}) {
    const own = new Cleanup();
    onTestFinished(() => own.run());
    const socket = join(node.directory, `${randomUUID()}.sock`);
    const fake = await startFakeDaemon(socket, { allocate }, own);
    const pod = await newPod();
    const failure = failureOf(await node.add(pod, { socket, ...conf }));
    expect((await linksOf(pod.netns)).map(({ ifname }) => ifname)).toEqual(["lo"]);
    expect(await node.tracesWithoutDaemon()).toEqual(NO_TRACES);
    return { failure, fake, pod };
  }

  test.each([
    ["INVALID_ARGUMENT", status.INVALID_ARGUMENT, 7],
    ["RESOURCE_EXHAUSTED", status.RESOURCE_EXHAUSTED, 11],
    ["INTERNAL", status.INTERNAL, 11],
    ["UNAVAILABLE", status.UNAVAILABLE, 11],
    ["UNIMPLEMENTED", status.UNIMPLEMENTED, 11],
  ])("%s becomes a CNI error with its words", async (_name, rpc, code) => {
    const details = "what the dæmon says; 100 % of it";
    const { failure } = await addWith(() => ({ code: rpc, details }), { connectWaitMs: 0 });
    expect(failure.code).toBe(code);
    expect(failure.details).toContain(details);
  });

  test.each([
    ["no address", []],
    ["an empty address", [""]],
    ["no address but words", ["nonsense"]],
    ["an address with a length", ["10.77.1.5/24"]],
    ["an IPv4-mapped address", ["::ffff:10.77.1.5"]],
    ["the unspecified address", ["0.0.0.0"]],
    ["a multicast address", ["224.0.0.1"]],
    ["a loopback address", ["::1"]],
    ["two of one family", ["10.77.1.5", "10.77.1.6"]],
    ["a link-local address", ["fe80::5"]],
    ["three", ["10.77.1.5", "fd00::5", "fd00::6"]],
  ])("%s is refused, released again, and nothing is left", async (_what, addresses) => {
    const { failure, fake, pod } = await addWith(() => ({
      addresses,
      mtu: 1500,
      existed: false,
      subnets: [],
      gateways: [],
      pool: "",
      bandwidth: undefined,
    }));
    expect(failure).toMatchObject({ code: 999, msg: "the daemon's answer makes no sense" });
    expect(failure.details).toContain(addresses.at(-1) ?? "no address");
    expect(fake.released).toEqual([pod.containerId]);
  });

  test.each([0, 1, 67, 1_000_000])("an MTU of %d is refused, released again, and nothing is left", async (mtu) => {
    const { failure, fake, pod } = await addWith(() => ({
      addresses: ["10.77.1.5"],
      mtu,
      existed: false,
      subnets: [],
      gateways: [],
      pool: "",
      bandwidth: undefined,
    }));
    expect(failure).toMatchObject({ code: 999, details: expect.stringContaining(`mtu is ${mtu},`) });
    expect(fake.released).toEqual([pod.containerId]);
  });

  test("what an earlier ADD holds is not released by one that fails", async () => {
    const { fake } = await addWith(() => ({
      addresses: ["10.77.1.5"],
      mtu: 1,
      existed: true,
      subnets: [],
      gateways: [],
      pool: "",
      bandwidth: undefined,
    }));
    expect(fake.released).toEqual([]);
  });

  test("an answer that doesn't come in time is code 11", async () => {
    const { failure } = await addWith(() => "silence", { timeoutMs: 200 });
    expect(failure).toMatchObject({ code: 11 });
    // The daemon's own clock may be the first to say so.
    expect(failure.details).toMatch(/within 200 ms|Deadline exceeded/);
  });
});
