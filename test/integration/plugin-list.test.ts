// SPDX-License-Identifier: Apache-2.0
//
// Other plugins before and behind ours, driven as libcni drives a list.

import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { added, newPod, QUIET, reach, SILENCE, shell, useNode, V4, V6 } from "../helpers/attachments.ts";
import { type CallOptions, Chain, hasCommand, type PluginEntry } from "../helpers/chain.ts";
import { run, startDaemon } from "../helpers/daemon.ts";
import type { FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel, inNetns, type Netns } from "../helpers/netns.ts";
import { addressesOf, type CniResult, failureOf, type Pod, resultOf } from "../helpers/plugin.ts";

/** A server in a namespace for the rest of the test, which says `greeting` to whoever connects. */
async function serve(netns: Netns, port: number, greeting: string): Promise<void> {
  const script = `require("net").createServer((s) => s.end(${JSON.stringify(greeting)}))
    .listen(${port}, "::", () => console.log("ready"))`;
  const argv = inNetns(netns.path, process.execPath, "-e", script);
  const server = await startDaemon({ argv, ready: (output) => output.includes("ready") });
  onTestFinished(() => server.stop("SIGKILL").then(() => {}));
}

/** What a server says to a connection from the namespace. */
const ask = (from: Netns, address: string, port: number) =>
  run(inNetns(from.path, "bash", "-c", `exec 3<>/dev/tcp/${address}/${port}; cat <&3`), { timeoutMs: 20_000 });

/** The newest version that Debian's plugins speak. */
const VERSION = "1.0.0";

function flatnet({ socket, journalDir }: FlatnetNode): PluginEntry {
  return { type: "flatnet", socket, journalDir };
}

/** ADD, CHECK and DEL twice, as runtimes do, with what the list's plugins make tried in between. */
async function lifeOf(
  node: FlatnetNode,
  plugins: PluginEntry[],
  options: CallOptions,
  tried: (pod: Pod, result: CniResult) => Promise<unknown>,
): Promise<void> {
  const chain = new Chain(node.netns, VERSION, "tests", plugins);
  const pod = await newPod();
  const result = await chain.add(pod, options);
  // The reference plugins may log; ours has nothing to say.
  const silences = plugins.map(({ type }) => (type === "flatnet" ? SILENCE : expect.objectContaining(QUIET)));
  await tried(pod, result);
  const checked = await chain.check(pod, options);
  // portmap's CHECK wants the rules of both families, whatever the pod has (1.1.1 of the reference plugins).
  const without = (list: unknown[]) => list.filter((_, i) => plugins[i]?.type !== "portmap");
  expect(without(checked)).toEqual(without(silences));
  expect(await chain.del(pod, options)).toEqual(silences);
  // sbr's second DEL fails for want of the link (1.1.1).
  const again = await chain.del(pod, options);
  expect(again.filter((_, i) => plugins[i]?.type === "flatnet")).toEqual([SILENCE]);
}

describe.runIf(canUseKernel())("a list of plugins", () => {
  const node = useNode("chain", [V4, V6]);
  /** What ADD says by itself. */
  const ENDS = [expect.stringMatching(/^fl/), "eth0"];

  test("with tuning behind flatnet tunes the pod", async () => {
    const tuning = { type: "tuning", sysctl: { "net.ipv4.conf.eth0.arp_ignore": "1" }, mtu: 1400 };
    await lifeOf(node(), [flatnet(node()), tuning], {}, async (pod, result) => {
      expect(result.interfaces.map(({ name }) => name)).toEqual(ENDS);
      expect(await pod.netns.ip("link", "show", "eth0")).toContain("mtu 1400");
      expect(await shell(pod.netns, "cat /proc/sys/net/ipv4/conf/eth0/arp_ignore")).toBe("1\n");
    });
  });

  test("with bandwidth behind flatnet limits the host end, which flatnet then leaves alone", async () => {
    const bandwidth = { type: "bandwidth", capabilities: { bandwidth: true } };
    const limits = { ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 8_000_000, egressBurst: 800_000 };
    await lifeOf(
      node(),
      [flatnet(node()), bandwidth],
      { capabilities: { bandwidth: limits } },
      async (_pod, result) => {
        const host = result.interfaces.find(({ name }) => name.startsWith("fl"))?.name ?? "";
        expect(await run(inNetns(node().netns.path, "tc", "qdisc", "show", "dev", host))).toContain("rate 8Mbit");
      },
    );
  });

  test("with sbr behind flatnet routes by source", async () => {
    await lifeOf(node(), [flatnet(node()), { type: "sbr" }], {}, async (pod, result) => {
      for (const address of addressesOf(result)) {
        const family = address.includes(":") ? "-6" : "-4";
        expect(await pod.netns.ip(family, "rule", "show")).toContain(`from ${address} lookup`);
      }
      const other = await added(node());
      for (const address of addressesOf(result)) await reach(other.pod.netns, address);
      await node().del(other.pod);
    });
  });

  test("with loopback before flatnet has both results", async () => {
    const loopback = { type: "loopback" };
    await lifeOf(node(), [loopback, flatnet(node())], {}, async (pod, { interfaces, ips }) => {
      expect(interfaces.map(({ name }) => name)).toEqual(["lo", ...ENDS]);
      const own = ips.filter(({ address }) => !/^(127|::1)/.test(address));
      expect(own.map((ip) => ip.interface)).toEqual([2, 2]);
      expect(interfaces[2]).toMatchObject({ name: "eth0", sandbox: pod.netns.path });
    });
  });

  const PTP: PluginEntry = { type: "ptp", ipam: { type: "host-local", subnet: "192.0.2.0/24" } };

  test("passes on what ptp says of another interface, and appends its own", async () => {
    const ipam = { ...(PTP["ipam"] as object), dataDir: join(node().directory, "host-local") };
    const before = new Chain(node().netns, VERSION, "before", [{ ...PTP, ipam }]);
    const pod = await newPod();
    const first = await before.add(pod, { env: { CNI_IFNAME: "net1" } });
    const second = resultOf(await node().add(pod, { cniVersion: VERSION, prevResult: first }));
    expect(second.interfaces.slice(0, 2)).toEqual(first.interfaces);
    expect(second.interfaces.slice(2).map(({ name }) => name)).toEqual(ENDS);
    expect(second.ips.slice(0, 1)).toEqual(first.ips);
    expect(second.ips.slice(1).map((ip) => ip.interface)).toEqual([3, 3]);
    expect(second.routes.slice(0, first.routes?.length ?? 0)).toEqual(first.routes ?? []);
    const conf = { cniVersion: VERSION, prevResult: second };
    expect(await node().run("CHECK", pod, { conf })).toEqual(SILENCE);
    expect(await node().del(pod, conf)).toEqual(SILENCE);
    await before.del(pod, { env: { CNI_IFNAME: "net1" } });
  });

  test("with ptp before flatnet, which makes the interface of that name, is refused and keeps ptp's", async () => {
    const ipam = { ...(PTP["ipam"] as object), dataDir: join(node().directory, "host-local") };
    const before = new Chain(node().netns, VERSION, "before", [{ ...PTP, ipam }]);
    const pod = await newPod();
    const first = await before.add(pod);
    expect(failureOf(await node().add(pod, { cniVersion: VERSION, prevResult: first }))).toMatchObject({ code: 101 });
    expect(await pod.netns.ip("address", "show", "eth0")).toContain("192.0.2.");
    expect(await node().del(pod)).toEqual(SILENCE);
    await before.del(pod);
  });
});

describe.runIf(canUseKernel() && hasCommand("iptables"))("a list with plugins that need iptables", () => {
  const node = useNode("chain", [V4, V6]);

  test("with portmap behind flatnet leads a port of the node to the pod", async () => {
    const portmap = { type: "portmap", capabilities: { portMappings: true }, snat: true };
    const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }];
    onTestFinished(() => shell(node().netns, "ip address delete 192.0.2.1/32 dev lo").then(() => {}));
    await shell(node().netns, "ip address add 192.0.2.1/32 dev lo");
    const other = await added(node());
    await lifeOf(node(), [flatnet(node()), portmap], { capabilities: { portMappings } }, async (pod) => {
      await serve(pod.netns, 80, "the pod");
      expect(await ask(other.pod.netns, "192.0.2.1", 8080)).toBe("the pod");
    });
    await node().del(other.pod);
  });

  test("of flatnet, tuning, portmap and bandwidth works as a whole", async () => {
    const list: PluginEntry[] = [
      flatnet(node()),
      { type: "tuning", sysctl: { "net.core.somaxconn": "512" } },
      { type: "portmap", capabilities: { portMappings: true } },
      { type: "bandwidth", capabilities: { bandwidth: true } },
    ];
    const capabilities = {
      portMappings: [{ hostPort: 8081, containerPort: 81, protocol: "tcp" }],
      bandwidth: { ingressRate: 8_000_000, ingressBurst: 800_000 },
    };
    await lifeOf(node(), list, { capabilities }, async (pod) => {
      expect(await shell(pod.netns, "cat /proc/sys/net/core/somaxconn")).toBe("512\n");
    });
  });

  test("with firewall behind flatnet lets the pod's packets through", async () => {
    await lifeOf(node(), [flatnet(node()), { type: "firewall", backend: "iptables" }], {}, async (_pod, result) => {
      const rules = await run(inNetns(node().netns.path, "iptables", "-S", "CNI-FORWARD"));
      expect(rules).toContain(addressesOf(result)[0]);
    });
  });
});
