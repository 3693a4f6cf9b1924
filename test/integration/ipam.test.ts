// SPDX-License-Identifier: Apache-2.0
//
// The built daemon as a plugin of any kind meets it, over its socket: what it gives, what it keeps over a restart, and what
// it gives up by itself. The pods' links are made by iproute2, so this is about the daemon alone.

import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import type * as wire from "../../src/gen/flatnet/ipam/v1/ipam.ts";
import { toServiceDefinition } from "../../src/ipam/server.ts";
import { Cleanup, run, startDaemon, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, type NodeOptions } from "../helpers/flatnet-node.ts";
import { canUseKernel, createNetns, joinByCable, type Netns } from "../helpers/netns.ts";
import { built, createPod, type Pod, resultOf } from "../helpers/plugin.ts";

const SUBNETS = ["10.78.1.0/24", "fd00:78:1::/64"];

async function startNode(options: Partial<NodeOptions> = {}): Promise<{ node: FlatnetNode; cleanup: Cleanup }> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  const node = await createNode("ipam", cleanup, { podCidrs: SUBNETS, ...options });
  await node.start();
  return { node, cleanup };
}

/** One call of the daemon's contract. */
async function call<Response>(node: FlatnetNode, method: string, message: object): Promise<Response> {
  const { path, requestSerialize, responseDeserialize } = toServiceDefinition()[method] as {
    path: string;
    requestSerialize: (value: object) => Buffer;
    responseDeserialize: (bytes: Buffer) => Response;
  };
  const client = new Client(`unix:${node.socket}`, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      const deadline = Date.now() + 10_000;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, { deadline }, (error, response) =>
        error === null ? resolve(response as Response) : reject(error),
      );
    });
  } finally {
    client.close();
  }
}

function attachment(name: string): wire.Attachment {
  return { network: "tests", containerId: name, ifname: "eth0" };
}

function allocate(
  node: FlatnetNode,
  name: string,
  more: Partial<wire.AllocateRequest> = {},
): Promise<wire.AllocateResponse> {
  return call(node, "allocate", {
    attachment: attachment(name),
    pod: { namespace: "default", name: `pod-${name}`, uid: "" },
    netns: `/run/netns/${name}`,
    hostIfname: "",
    requestedAddresses: [],
    portMappings: [],
    withGateway: false,
    aliases: [],
    pool: "",
    ...more,
  });
}

async function refusalOf(promise: Promise<unknown>): Promise<{ code: status; details: string }> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown as ServiceError,
  );
  if (error === undefined) throw new Error("it was not refused");
  return { code: error.code, details: error.details };
}

async function holders(node: FlatnetNode): Promise<string[]> {
  const { allocations } = await node.allocations();
  return allocations.map((one) => one.attachment?.containerId ?? "");
}

/** Sends a datagram between two addresses of a namespace, which tracks it from then on. */
async function sendDatagram(netns: Netns, from: string, to: string): Promise<void> {
  const script = `const socket = require("node:dgram").createSocket("udp${from.includes(":") ? 6 : 4}");
    socket.bind({ address: "${from}" }, () => socket.send("x", 99, "${to}", () => socket.close()));`;
  await run(netns.command(process.execPath, "-e", script));
}

/** The connections that a namespace tracks, in words: "192.0.2.1 > 10.78.1.2". IPv6 in full, as the kernel writes it. */
async function trackedFlows(netns: Netns): Promise<string[]> {
  const text = await run(netns.command("cat", "/proc/net/nf_conntrack"));
  return [...text.matchAll(/^.*? src=(\S+) dst=(\S+)/gm)].map(([, from, to]) => `${from} > ${to}`);
}

/** A pod's namespace that may vanish before the test is over. */
interface Mortal {
  readonly name: string;
  readonly netns: Netns;
  vanish(): Promise<void>;
}

/** @param node where to put the host end of a veth pair of the attachment's own; without it there is no link */
async function addMortal(node: FlatnetNode, name: string, withLink: boolean): Promise<Mortal> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  const netns = await createNetns(name, cleanup);
  const hostIfname = withLink ? `fl${randomBytes(5).toString("hex")}` : "";
  // As with the plugin, the address is on disk before the link is made.
  await allocate(node, name, { netns: netns.path, hostIfname });
  if (withLink) {
    await node.netns.ip("link", "add", hostIfname, "type", "veth", "peer", "name", "eth0", "netns", netns.name);
  }
  return { name, netns, vanish: () => cleanup.run() };
}

describe.runIf(canUseKernel())("the daemon", () => {
  test("keeps addresses, ports and gateways over a kill, and says who has what is asked for", async () => {
    const { node } = await startNode();
    const port: wire.PortMapping = { hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: "" };
    const wish = { requestedAddresses: ["10.78.1.77"], portMappings: [port], withGateway: true };
    const first = await allocate(node, "web", wish);
    expect(first).toMatchObject({
      addresses: ["10.78.1.77", "fd00:78:1::2"],
      subnets: SUBNETS,
      gateways: ["10.78.1.1", "fd00:78:1::1"],
      existed: false,
    });
    await node.stop("SIGKILL");
    await node.start();
    expect(await allocate(node, "web", wish)).toEqual({ ...first, existed: true });
    expect(await call(node, "getAllocation", { attachment: attachment("web") })).toMatchObject({
      allocation: { addresses: first.addresses, portMappings: [port] },
    });
    expect(await refusalOf(allocate(node, "other", { requestedAddresses: ["10.78.1.77"] }))).toEqual({
      code: status.ALREADY_EXISTS,
      details: "requested address 10.78.1.77 is held by tests/web/eth0 (pod default/pod-web)",
    });
    expect(await refusalOf(allocate(node, "other", { portMappings: [{ ...port, hostIp: "127.0.0.1" }] }))).toEqual({
      code: status.ALREADY_EXISTS,
      details:
        "tcp port 8080 of 127.0.0.1 is taken: tests/web/eth0 (pod default/pod-web) has tcp port 8080 of every address",
    });
    expect(await allocate(node, "other", { withGateway: true })).toMatchObject({
      addresses: ["10.78.1.2", "fd00:78:1::3"],
      gateways: first.gateways,
    });
    expect(await holders(node)).toEqual(["gateway:10.78.1.1", "gateway:fd00:78:1::1", "other", "web"]);
  });

  test("gives an address again without a connection of whoever had it before, though it was killed before it could delete them", async () => {
    const { node } = await startNode();
    // Nothing is tracked in a namespace where no rule asks for it.
    const port: wire.PortMapping = { hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: "" };
    await allocate(node, "web", { portMappings: [port] });
    const { addresses } = await allocate(node, "first");
    await call(node, "release", { attachment: attachment("first") });
    await node.stop("SIGKILL");
    await node.netns.ip("link", "set", "lo", "up");
    for (const address of [...addresses, "192.0.2.1", "2001:db8::1"]) {
      const length = address.includes(":") ? 128 : 32;
      await node.netns.ip("address", "add", `${address}/${length}`, "dev", "lo", ...(length === 128 ? ["nodad"] : []));
    }
    const [v4 = "", v6 = ""] = addresses;
    for (const [from, to] of [
      [v4, "192.0.2.1"],
      ["192.0.2.1", v4],
      [v6, "2001:db8::1"],
      ["2001:db8::1", v6],
      ["192.0.2.1", "192.0.2.1"],
    ] as const) {
      await sendDatagram(node.netns, from, to);
    }
    await node.start();
    expect(await trackedFlows(node.netns)).toHaveLength(5);
    await allocate(node, "second", { requestedAddresses: addresses });
    expect(await trackedFlows(node.netns)).toEqual(["192.0.2.1 > 192.0.2.1"]);
  });

  test("has its routes in order when it has no peers, and then says so", async () => {
    const { node } = await startNode();
    expect(await call(node, "status", {})).toMatchObject({
      routesSynced: true,
      subnets: [{ cidr: SUBNETS[0], used: 0, free: 254 }, { cidr: SUBNETS[1] }],
    });
  });

  test("has its routes in order once there is a way to some peer: one that nobody can reach is no reason to say no", async () => {
    const peers = [
      "nodes:",
      "  - { name: node-2, podCIDRs: [10.78.2.0/24], addresses: [192.0.2.2] }",
      "  - { name: node-3, podCIDRs: [10.78.3.0/24], addresses: [198.51.100.3] }",
      "",
    ].join("\n");
    const { node, cleanup } = await startNode({ podCidrs: ["10.78.1.0/24"], peers });
    expect(await call(node, "status", {})).toMatchObject({ routesSynced: false });
    await joinByCable(
      { netns: node.netns, ifname: "uplink", addresses: ["192.0.2.1/24"] },
      { netns: await createNetns("peer", cleanup), ifname: "uplink", addresses: ["192.0.2.2/24"] },
    );
    writeFileSync(node.peersFile, peers);
    await waitFor(async () => (await call<wire.StatusResponse>(node, "status", {})).routesSynced);
  });
});

describe.runIf(canUseKernel())("the past of an address", () => {
  const history = (node: FlatnetNode, address: string, atMs = 0n) =>
    call<wire.GetHistoryResponse>(node, "getHistory", {
      address,
      fromMs: atMs,
      toMs: atMs,
      pageSize: 0,
      pageToken: "",
    });

  test("is known over a kill: who had it at which time, and how that ended", async () => {
    const { node, cleanup } = await startNode({ flags: ["--cool-down-seconds", "0"], podCidrs: ["10.78.1.0/31"] });
    const pods = [
      await createPod("first", cleanup),
      await createPod("second", cleanup),
      await createPod("third", cleanup),
    ];
    const [first, second, third] = pods as [Pod, Pod, Pod];
    const conf = { cniVersion: "1.1.0", args: { cni: { ips: ["10.78.1.1"] } } };
    resultOf(await node.add(first, conf));
    expect((await node.del(first, conf)).status).toBe(0);
    resultOf(await node.add(second, conf));
    const others = { "cni.dev/valid-attachments": [] };
    expect((await node.run("GC", second, { conf: { ...conf, ...others } })).status).toBe(0);
    resultOf(await node.add(third, conf));
    await node.stop("SIGKILL");
    await node.start();
    const { tenures } = await history(node, "10.78.1.1");
    expect(tenures.map(({ attachment, cause }) => [attachment?.containerId, cause])).toEqual([
      [third.containerId, ""],
      [second.containerId, "gc"],
      [first.containerId, "del"],
    ]);
    for (const { attachment, allocatedAtMs } of tenures) {
      const then = await history(node, "10.78.1.1", allocatedAtMs);
      expect(then.tenures.map((one) => one.attachment)).toContainEqual(attachment);
    }
    expect((await history(node, "10.78.1.1", 1n)).tenures).toEqual([]);
    expect((await history(node, "10.78.1.0")).tenures).toEqual([]);
  });

  test("is not kept where it isn't wanted", async () => {
    const { node } = await startNode({ flags: ["--history-days", "0"] });
    await allocate(node, "a");
    await call(node, "release", { attachment: attachment("a"), cause: "" });
    expect((await history(node, "")).tenures).toEqual([]);
  });
});

describe.runIf(canUseKernel())("store and kernel", () => {
  test("are compared: what agrees is no finding, and what somebody took away or made is one each", async () => {
    const { node, cleanup } = await startNode({ flags: ["--retire-after-seconds", "0", "--repair", "false"] });
    const pods = [
      await createPod("whole", cleanup),
      await createPod("linkless", cleanup),
      await createPod("bare", cleanup),
    ];
    const [whole, linkless, bare] = pods as [Pod, Pod, Pod];
    for (const pod of pods) resultOf(await node.add(pod));
    const check = () => call<wire.CheckConsistencyResponse>(node, "checkConsistency", {});
    expect(await check()).toEqual({ findings: [], attachments: 3, links: 3 });
    const { allocations } = await node.allocations();
    const of = (pod: Pod) =>
      allocations.find((one) => one.attachment?.containerId === pod.containerId) as wire.Allocation;
    await node.netns.ip("link", "del", of(linkless).hostIfname);
    await node.netns.ip("route", "del", of(bare).addresses[0] as string);
    await node.netns.ip("link", "add", "flstray", "group", `${0x666c}`, "type", "veth", "peer", "name", "stray-peer");
    const { findings } = await check();
    const told = findings.map(({ kind, attachment: who, hostIfname, address }) => {
      return [kind, who?.containerId, hostIfname, address];
    });
    expect(told.sort()).toEqual([
      ["link-missing", linkless.containerId, of(linkless).hostIfname, ""],
      ["link-unknown", undefined, "flstray", ""],
      ["route-missing", bare.containerId, of(bare).hostIfname, of(bare).addresses[0]],
    ]);
    for (const pod of pods) expect((await node.del(pod)).status).toBe(0);
    expect(findings.every(({ attachment: who }) => who?.containerId !== whole.containerId)).toBe(true);
  });
});

describe.runIf(canUseKernel())("attachments without a DEL", () => {
  const flags = ["--retire-after-seconds", "1"];
  const isGone = (node: FlatnetNode, name: string) => waitFor(async () => !(await holders(node)).includes(name));

  test("are retired when their namespace has vanished, and living ones never are", async () => {
    const { node } = await startNode({ flags });
    const living = [await addMortal(node, "veth-living", true), await addMortal(node, "path-living", false)];
    const ending = [await addMortal(node, "veth-ending", true), await addMortal(node, "path-ending", false)];
    await allocate(node, "veth-living", { netns: living[0]?.netns.path ?? "", withGateway: true });
    for (const { vanish } of ending) await vanish();
    for (const { name } of ending) await isGone(node, name);
    // By the time that a later one is given up, the living ones could have been twice.
    const last = await addMortal(node, "later", true);
    await last.vanish();
    await isGone(node, "later");
    expect(await holders(node)).toEqual([
      expect.stringContaining("gateway:"),
      expect.stringContaining("gateway:"),
      "path-living",
      "veth-living",
    ]);
    const retired = node.log().filter(({ msg }) => `${msg}`.startsWith("an attachment is retired"));
    expect(retired.map(({ containerId }) => containerId).sort()).toEqual(["later", "path-ending", "veth-ending"]);
    expect(retired[0]).toMatchObject({ network: "tests", ifname: "eth0", pod: { namespace: "default" } });
  });

  test("keep their address while a process keeps the namespace, whose path is gone", async () => {
    const { node, cleanup } = await startNode({ flags });
    const held = await addMortal(node, "held", true);
    const process = await startDaemon({ argv: held.netns.command("sleep", "1000"), ready: () => true });
    cleanup.add(() => process.stop("SIGKILL"));
    await waitFor(async () => (await held.netns.ip("netns", "pids", held.netns.name)).includes(`${process.pid}`));
    await held.vanish();
    const other = await addMortal(node, "other", true);
    await other.vanish();
    await isGone(node, "other");
    expect(await holders(node)).toEqual(["held"]);
    await process.stop("SIGKILL");
    await isGone(node, "held");
  });

  test("are retired with the built plugin's pods too, and nothing of them is left", async () => {
    const { node, cleanup } = await startNode({ flags });
    const ending = new Cleanup();
    cleanup.add(() => ending.run());
    const [living, mortal] = [await createPod("living", cleanup), await createPod("mortal", ending)];
    for (const pod of [living, mortal]) resultOf(await node.add(pod));
    await ending.run();
    await isGone(node, mortal.containerId);
    expect(await holders(node)).toEqual([living.containerId]);
    const { links, routes } = await node.traces();
    expect([links.length, routes.length]).toEqual([1, 2]);
  });

  test("are retired when their namespace's path is another's by then", async () => {
    const { node, cleanup } = await startNode({ flags });
    const [mortal, next] = [await createPod("mortal", cleanup), await createPod("next", cleanup)];
    resultOf(await node.add(mortal));
    // Made before the first one ends: a number that is free again is soon given to the next one.
    const { path } = mortal.netns;
    await run(["sh", "-c", `umount ${path} && mount --bind ${next.netns.path} ${path}`]);
    await isGone(node, mortal.containerId);
    expect(await node.traces()).toMatchObject({ links: [], routes: [], records: [] });
  });

  test("are told from living ones by their links alone, where the daemon sees no namespace", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const node = await createNode("ipam", cleanup, { podCidrs: SUBNETS, flags });
    // As in a container to which the runtime's directory isn't mounted: it is there, and empty.
    const blind = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run/netns && exec "$@"', "sh"];
    const daemon = await startDaemon({
      argv: node.netns.command(...blind, built("flatnetd"), ...node.flags()),
      ready: (output) => output.includes('"msg":"serving"'),
    });
    cleanup.add(() => daemon.stop());
    const names = ["veth-living", "path-living", "veth-ending", "later"];
    const pods = new Map<string, Mortal>();
    for (const name of names) pods.set(name, await addMortal(node, name, name !== "path-living"));
    for (const name of ["veth-ending", "later"]) {
      await pods.get(name)?.vanish();
      await isGone(node, name);
    }
    expect(await holders(node)).toEqual(["path-living", "veth-living"]);
  });

  test("are retired after a restart of the daemon that they ended during", async () => {
    const { node } = await startNode({ flags });
    const mortal = await addMortal(node, "mortal", true);
    await node.stop();
    await mortal.vanish();
    await node.start();
    await isGone(node, "mortal");
  });
});
