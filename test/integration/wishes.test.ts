// SPDX-License-Identifier: Apache-2.0
//
// What a runtime and a configuration may ask for in an ADD, and what became of it.

import { describe, expect, test } from "vitest";
import {
  ALL_VERSIONS,
  added,
  check,
  differencesOf,
  newPod,
  reach,
  SILENCE,
  shell,
  useNode,
  V4,
  V6,
} from "../helpers/attachments.ts";
import { run } from "../helpers/daemon.ts";
import { NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel, inNetns } from "../helpers/netns.ts";
import { failureOf, resultOf } from "../helpers/plugin.ts";

describe.runIf(canUseKernel())("ADD", () => {
  const node = useNode("wishes", [V4, V6]);

  test.each(ALL_VERSIONS)("in %s is answered in that version, and DEL in it ends it", async (cniVersion) => {
    const pod = await newPod();
    const finished = await node().add(pod, { cniVersion });
    expect(finished).toMatchObject({ status: 0, stderr: "" });
    const result = JSON.parse(finished.stdout);
    expect(result.cniVersion).toBe(cniVersion);
    const legacy = cniVersion === "0.1.0" || cniVersion === "0.2.0";
    const inUse = (await node().traces()).records;
    const told = legacy
      ? [result.ip4.ip, result.ip6.ip]
      : result.ips.map(({ address }: { address: string }) => address);
    expect(told.map((text: string) => text.split("/")[0]).sort()).toEqual(inUse);
    if (legacy) expect(result).not.toHaveProperty("interfaces");
    expect(await node().del(pod, { cniVersion })).toEqual(SILENCE);
  });

  test.each([
    ["runtimeConfig.ips", (ips: string[]) => ({ runtimeConfig: { ips } })],
    ["args.cni.ips", (ips: string[]) => ({ args: { cni: { ips } } })],
  ])("with %s gives these addresses, with or without length", async (_where, conf) => {
    for (const ips of [["10.78.1.77", "fd00:78:1::77"], ["10.78.1.78/24", "fd00:78:1::0:78/64"], ["fd00:78:1::79"]]) {
      const it = await added(node(), conf(ips));
      const wanted = ips.map((text) => text.replace(/\/.*/, "").replace("::0:", "::"));
      expect(it.addresses).toEqual(expect.arrayContaining(wanted));
      expect(await check(node(), it, conf(ips))).toEqual(SILENCE);
      await node().del(it.pod);
    }
  });

  test("with an address that somebody has is code 11 and names the holder", async () => {
    const first = await added(node(), { runtimeConfig: { ips: ["10.78.1.90"] } });
    const failure = failureOf(await node().add(await newPod(), { runtimeConfig: { ips: ["10.78.1.90"] } }));
    expect(failure).toMatchObject({ code: 11 });
    expect(failure.details).toContain("10.78.1.90");
    expect(failure.details).toContain(first.pod.containerId);
    await node().del(first.pod);
  });

  test.each([["10.79.0.1"], ["10.78.1.0"], ["192.0.2.1/24"], ["fd00::1"]])(
    "with %s, which no subnet of the node gives, is code 7",
    async (address) => {
      const failure = failureOf(await node().add(await newPod(), { runtimeConfig: { ips: [address] } }));
      expect(failure).toMatchObject({ code: 7, details: expect.stringContaining(address.split("/")[0] ?? "") });
    },
  );

  test("with two addresses of a family is code 7, and with others than it has already too", async () => {
    const two = { runtimeConfig: { ips: ["10.78.1.70", "10.78.1.71"] } };
    expect(failureOf(await node().add(await newPod(), two))).toMatchObject({ code: 7 });
    const it = await added(node());
    // While it is up there is nothing to ask the daemon for.
    await node().netns.ip("link", "delete", it.host);
    const failure = failureOf(await node().add(it.pod, { runtimeConfig: { ips: ["10.78.1.72"] } }));
    expect(failure).toMatchObject({ code: 7, details: expect.stringContaining(it.addresses[0] ?? "") });
    await node().del(it.pod);
  });

  test("with a MAC gives it to the pod's end, and packets find it", async () => {
    const runtimeConfig = { mac: "02:11:22:33:44:55" };
    const it = await added(node(), { runtimeConfig });
    expect(it.result.interfaces[1]?.mac).toBe("02:11:22:33:44:55");
    expect(await it.pod.netns.ip("link", "show", "eth0")).toContain("02:11:22:33:44:55");
    const other = await added(node());
    for (const address of it.addresses) await reach(other.pod.netns, address);
    for (const address of other.addresses) await reach(it.pod.netns, address);
    await node().del(other.pod);
    expect(await check(node(), it, { runtimeConfig })).toEqual(SILENCE);
    await node().del(it.pod);
  });

  test("with dns says what the runtime wants over what the configuration has", async () => {
    const pod = await newPod();
    const { dns } = resultOf(
      await node().add(pod, {
        dns: { nameservers: ["192.0.2.1"], domain: "example", search: ["a.example"], options: ["ndots:2"] },
        runtimeConfig: { dns: { servers: ["192.0.2.53"], searches: ["b.example"] } },
      }),
    );
    expect(dns).toEqual({
      nameservers: ["192.0.2.53"],
      domain: "example",
      search: ["b.example"],
      options: ["ndots:2"],
    });
    await node().del(pod);
  });

  test("with aliases has the daemon keep them, until an ADD has others", async () => {
    const it = await added(node(), { runtimeConfig: { aliases: ["web_1", "DB.Prod"] } });
    expect((await node().allocations()).allocations).toMatchObject([{ aliases: ["web_1", "DB.Prod"] }]);
    await node().netns.ip("link", "delete", it.host);
    resultOf(await node().add(it.pod, { runtimeConfig: { aliases: { tests: ["db"], other: ["web"] } } }));
    expect((await node().allocations()).allocations).toMatchObject([{ aliases: ["db"] }]);
    await node().del(it.pod);
  });

  test("with an alias that is no name is code 7 and says which", async () => {
    const failure = failureOf(await node().add(await newPod(), { runtimeConfig: { aliases: ["db", "d b"] } }));
    expect(failure).toMatchObject({ code: 7, details: expect.stringContaining('runtimeConfig.aliases.1 is "d b"') });
  });

  test("makes the configuration's routes, as the kernel shows them, and CHECK knows them", async () => {
    const conf = {
      routes: [
        { dst: "192.0.2.0/24", mtu: 1300, advmss: 1200, priority: 77 },
        { dst: "198.51.100.0/24", gw: "169.254.1.1", table: 1000, scope: 200 },
        { dst: "2001:db8:1::/48", mtu: 1300, advmss: 1200, priority: 78 },
        { dst: "2001:db8:2::/48", gw: "fe80::1", table: 1000 },
      ],
    };
    const it = await added(node(), conf);
    const show = async (...args: string[]) => (await it.pod.netns.ip("-N", ...args)).replaceAll(/ +/g, " ").trim();
    expect(await show("-4", "route", "show", "192.0.2.0/24")).toBe(
      "192.0.2.0/24 via 169.254.1.1 dev eth0 proto 70 metric 77 mtu 1300 advmss 1200",
    );
    expect(await show("-4", "route", "show", "table", "1000")).toBe(
      "198.51.100.0/24 via 169.254.1.1 dev eth0 proto 70 scope 200 onlink",
    );
    expect(await show("-6", "route", "show", "2001:db8:1::/48")).toContain(
      "2001:db8:1::/48 via fe80::1 dev eth0 proto 70 metric 78 mtu 1300 advmss 1200",
    );
    expect(await show("-6", "route", "show", "table", "1000")).toContain(
      "2001:db8:2::/48 via fe80::1 dev eth0 proto 70",
    );
    expect(await show("-4", "route", "show", "default")).toContain("via 169.254.1.1");
    expect(it.result.routes).toEqual([
      { dst: "0.0.0.0/0", gw: "169.254.1.1" },
      { dst: "192.0.2.0/24", gw: "169.254.1.1", mtu: 1300, advmss: 1200, priority: 77 },
      { dst: "198.51.100.0/24", gw: "169.254.1.1", table: 1000, scope: 200 },
      { dst: "::/0", gw: "fe80::1" },
      { dst: "2001:db8:1::/48", gw: "fe80::1", mtu: 1300, advmss: 1200, priority: 78 },
      { dst: "2001:db8:2::/48", gw: "fe80::1", table: 1000 },
    ]);
    expect(await check(node(), it, conf)).toEqual(SILENCE);
    await it.pod.netns.ip("route", "delete", "198.51.100.0/24", "table", "1000");
    expect(differencesOf(await check(node(), it, conf))).toEqual([
      "the pod has no route 198.51.100.0/24 via 169.254.1.1",
    ]);
    await node().del(it.pod);
  });

  test("makes a default route of the configuration instead of its own", async () => {
    const conf = { routes: [{ dst: "0.0.0.0/0", mtu: 1400 }] };
    const it = await added(node(), conf);
    expect(await it.pod.netns.ip("-4", "-N", "route", "show", "default")).toMatch(
      /^default via 169\.254\.1\.1 dev eth0 proto 70 mtu 1400 *\n$/,
    );
    expect(await check(node(), it, conf)).toEqual(SILENCE);
    await node().del(it.pod);
  });

  test.each([
    ["a foreign next hop", { dst: "192.0.2.0/24", gw: "10.78.1.1" }, "gw is 10.78.1.1"],
    ["a next hop of the other family", { dst: "192.0.2.0/24", gw: "fe80::1" }, 'gw is "fe80::1"'],
    ["host bits", { dst: "192.0.2.1/24" }, 'dst is "192.0.2.1/24"'],
    ["a scope that allows no next hop", { dst: "192.0.2.0/24", scope: 253 }, "scope is 253"],
  ])("refuses a route with %s by code 7 and leaves nothing", async (_what, route, told) => {
    const pod = await newPod();
    const failure = failureOf(await node().add(pod, { routes: [route] }));
    expect(failure).toMatchObject({ code: 7, details: expect.stringContaining(told) });
    expect(failure.details).toContain("routes.0");
    expect(await node().traces()).toEqual(NO_TRACES);
    expect(await pod.netns.ip("-br", "link", "show")).not.toContain("eth0");
  });

  test("sets the configuration's sysctls in the pod and nowhere else", async () => {
    const path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    const before = await shell(node().netns, `cat ${path}`);
    const conf = { sysctls: { "net.ipv4.ip_unprivileged_port_start": "7", "net.ipv4.conf.eth0.arp_ignore": "1" } };
    const it = await added(node(), conf);
    expect(await shell(it.pod.netns, `cat ${path} /proc/sys/net/ipv4/conf/eth0/arp_ignore`)).toBe("7\n1\n");
    expect(await shell(node().netns, `cat ${path}`)).toBe(before);
    expect(await check(node(), it, conf)).toEqual(SILENCE);
    await node().del(it.pod);
  });

  test.each([
    ["net.ipv4.there_is_none", "1"],
    ["net.ipv4.ip_unprivileged_port_start", "words"],
  ])("with the sysctl %s=%s, which the kernel refuses, names it and leaves nothing", async (name, value) => {
    const pod = await newPod();
    const failure = failureOf(await node().add(pod, { sysctls: { [name]: value } }));
    expect(failure).toMatchObject({ code: 100 });
    expect(failure.details).toContain(name);
    expect(await node().traces()).toEqual(NO_TRACES);
    expect(await pod.netns.ip("-br", "link", "show")).not.toContain("eth0");
  });

  test("limits what the pod receives and sends, and DEL ends both", async () => {
    const runtimeConfig = { bandwidth: { ingressRate: 8_000_000, egressRate: 16_000_000 } };
    const it = await added(node(), { runtimeConfig });
    expect(await run(inNetns(node().netns.path, "tc", "qdisc", "show", "dev", it.host))).toContain("rate 8Mbit");
    expect(await run(inNetns(it.pod.netns.path, "tc", "qdisc", "show", "dev", "eth0"))).toContain("rate 16Mbit");
    await node().del(it.pod);
    expect(await run(inNetns(node().netns.path, "tc", "qdisc", "show"))).not.toContain("tbf");
  });

  test("takes null for every capability, as runtimes write it", async () => {
    const runtimeConfig = { portMappings: null, bandwidth: null, ips: null, mac: null, dns: null, aliases: null };
    const it = await added(node(), { runtimeConfig, args: null, prevResult: null, routes: null, sysctls: null });
    await node().del(it.pod);
  });
});

describe.runIf(canUseKernel())("an ADD of an attachment that is up", () => {
  const node = useNode("again", [V4, V6]);

  test("is refused and changes nothing of it, its hostPorts neither", async () => {
    const ports = (hostPort: number) => ({
      runtimeConfig: { portMappings: [{ hostPort, containerPort: 80, protocol: "tcp" }] },
    });
    const it = await added(node(), ports(8080));
    for (const conf of [ports(9090), {}]) {
      expect(failureOf(await node().add(it.pod, conf))).toMatchObject({ code: 101 });
      expect((await node().allocations()).allocations).toMatchObject([{ portMappings: [{ hostPort: 8080 }] }]);
      expect(await check(node(), it, ports(8080))).toEqual(SILENCE);
    }
    await node().del(it.pod);
  });
});

describe.runIf(canUseKernel())("a configuration that went bad after the ADD", () => {
  const node = useNode("bad", [V4]);

  test("is no reason for DEL to fail", async () => {
    const it = await added(node());
    const bad = { prevResult: "x", runtimeConfig: 7, mtu: "x", routes: 1, sysctls: [], args: [], dns: "x", ipam: 7 };
    failureOf(await node().add(await newPod(), bad));
    expect(await node().del(it.pod, bad)).toEqual(SILENCE);
    expect(await node().traces()).toEqual(NO_TRACES);
  });
});
