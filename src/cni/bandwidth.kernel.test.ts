// SPDX-License-Identifier: Apache-2.0
//
// Limits in the kernel: what `tc` shows of them, and what CHECK's comparison makes of the kernel's own account.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, run } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import type { Message, Request } from "../netlink/message.ts";
import { getRootQdisc } from "../netlink/tc.ts";
import { type Bandwidth, bandwidthProblems, bandwidthRequests, type ShapedLink } from "../podnet/bandwidth.ts";
import { parseBandwidth } from "./bandwidth.ts";

const cleanup = new Cleanup();
let node: Netns;
let pod: Netns;
let link: ShapedLink;

/** Sends requests from a process of its own in a namespace: a process' sockets belong to where it is. */
const SENDER = `
  import { readFileSync } from "node:fs";
  import { Netlink, NETLINK_ROUTE } from ${JSON.stringify(new URL("../netlink/event-loop.ts", import.meta.url))};
  const requests = JSON.parse(readFileSync(0, "utf8"), (key, value) => (key === "body" ? Buffer.from(value, "hex") : value));
  const netlink = Netlink.open(NETLINK_ROUTE);
  const messages = await netlink.request(requests);
  netlink.close();
  console.log(JSON.stringify(messages.map((message) => ({ ...message, body: Buffer.from(message.body).toString("hex") }))));
`;

async function send(netns: Netns, requests: readonly Request[]): Promise<Message[]> {
  const input = JSON.stringify(
    requests.map((request) => ({ ...request, body: Buffer.from(request.body).toString("hex") })),
  );
  const sender = netns.command(process.execPath, "--input-type=module-typescript", "--eval", SENDER);
  return JSON.parse(await run(sender, { input }), (key, value) => (key === "body" ? Buffer.from(value, "hex") : value));
}

async function limit(bandwidth: Bandwidth): Promise<void> {
  const requests = bandwidthRequests(bandwidth, link);
  await send(node, requests.host);
  await send(pod, requests.pod);
}

async function problems(bandwidth: Bandwidth): Promise<string[]> {
  const host = await send(node, [getRootQdisc(link.hostIndex, link.hostName)]);
  return bandwidthProblems(bandwidth, link, host, await send(pod, [getRootQdisc(link.podIndex, link.podName)]));
}

function parsed(value: unknown): Bandwidth {
  const bandwidth = parseBandwidth(value);
  if (bandwidth === undefined) throw new TypeError("nothing is limited");
  return bandwidth;
}

/** The qdiscs of a link as `tc -j qdisc` has them: rates in bytes a second, sizes in bytes, `lat` in microseconds. */
async function qdiscs(netns: Netns, dev: string) {
  const all: { kind: string; root?: boolean; options: object }[] = JSON.parse(
    (await run(netns.command("tc", "-json", "qdisc", "show", "dev", dev))) || "[]",
  );
  return all.map(({ kind, root, options }) => ({ kind, root, options }));
}

const tbf = (rate: number, burst: number, lat: number) => [{ kind: "tbf", root: true, options: { rate, burst, lat } }];
const NONE = [{ kind: "noqueue", root: true, options: {} }];

async function indexOf(netns: Netns, name: string): Promise<number> {
  return JSON.parse(await netns.ip("-json", "link", "show", "dev", name))[0].ifindex;
}

describe.runIf(canUseKernel())("a pod's limits", () => {
  beforeEach(async () => {
    node = await createNetns("bw-node", cleanup);
    pod = await createNetns("bw-pod", cleanup);
    await node.ip("link", "add", "flbw", "type", "veth", "peer", "name", "eth0", "netns", pod.name);
    link = {
      hostIndex: await indexOf(node, "flbw"),
      hostName: "flbw",
      podIndex: await indexOf(pod, "eth0"),
      podName: "eth0",
      mtu: 1500,
    };
  });
  afterEach(() => cleanup.run());

  async function setUp(): Promise<void> {
    await node.ip("link", "set", "flbw", "up");
    await pod.ip("link", "set", "eth0", "up");
  }

  test("are token buckets at the roots of both ends, each as large as asked, and stay when the link comes up", async () => {
    await limit(parsed({ ingressRate: 10_000_000, ingressBurst: 800_000, egressRate: 1_000_000_000 }));
    const expected = { host: tbf(1_250_000, 100_000, 25_000), pod: tbf(125_000_000, 1_250_000, 19_194) };
    expect({ host: await qdiscs(node, "flbw"), pod: await qdiscs(pod, "eth0") }).toEqual(expected);
    await setUp();
    expect({ host: await qdiscs(node, "flbw"), pod: await qdiscs(pod, "eth0") }).toEqual(expected);
  });

  test("touch the end of a limited direction only", async () => {
    await setUp();
    await limit(parsed({ ingressRate: 1_000_000 }));
    expect(await qdiscs(node, "flbw")).toEqual(tbf(125_000, 32_768, 25_000));
    expect(await qdiscs(pod, "eth0")).toEqual(NONE);
  });

  test("let a full frame through however short the burst", async () => {
    await limit(parsed({ egressRate: 1_000_000, egressBurst: 8 }));
    expect(await qdiscs(pod, "eth0")).toEqual(tbf(125_000, 1_514, 25_000));
  });

  test("are replaced when they are set again", async () => {
    await limit(parsed({ ingressRate: 1_000_000, egressRate: 1_000_000 }));
    await limit(parsed({ ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 8_000_000, egressBurst: 800_000 }));
    expect(await qdiscs(node, "flbw")).toEqual(tbf(1_000_000, 100_000, 25_000));
    expect(await qdiscs(pod, "eth0")).toEqual(tbf(1_000_000, 100_000, 25_000));
  });

  test.each([
    { ingressRate: 8, egressRate: 1_000 },
    { ingressRate: 1_000_000, egressRate: 1_000_000_000 },
    { ingressRate: 100_000_000_000, egressRate: 34_359_738_368 },
    { ingressRate: 12_345_678, ingressBurst: 1, egressRate: 7_654_321, egressBurst: 4_294_967_294 },
    { ingressRate: 8_000, ingressBurst: 4_294_967_294, egressRate: 8, egressBurst: 4_294_967_294 },
  ])("are recognized in what the kernel tells of them: %j", async (value) => {
    const bandwidth = parsed(value);
    await limit(bandwidth);
    expect(await problems(bandwidth)).toEqual([]);
  });

  test("that were removed or changed are told", async () => {
    const bandwidth = parsed({ ingressRate: 1_000_000, egressRate: 1_000_000 });
    expect(await problems(bandwidth)).toEqual([
      "ingress limit on flbw: the root qdisc is none, not tbf",
      "egress limit on eth0: the root qdisc is none, not tbf",
    ]);
    await setUp();
    expect(await problems(bandwidth)).toEqual([
      "ingress limit on flbw: the root qdisc is noqueue, not tbf",
      "egress limit on eth0: the root qdisc is noqueue, not tbf",
    ]);
    await limit(bandwidth);
    await run(node.command("tc", "qdisc", "delete", "dev", "flbw", "root"));
    const faster = ["rate", "2mbit", "burst", "32768", "limit", "35893"];
    await run(pod.command("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", ...faster));
    expect(await problems(bandwidth)).toEqual([
      "ingress limit on flbw: the root qdisc is noqueue, not tbf",
      "egress limit on eth0: the rate is 2000000 bits a second, not 1000000",
    ]);
  });

  test("end with the link: nothing is left on either side", async () => {
    await limit(parsed({ ingressRate: 1_000_000, egressRate: 1_000_000 }));
    await node.ip("link", "delete", "flbw");
    for (const netns of [node, pod]) {
      const links: { ifname: string }[] = JSON.parse(await netns.ip("-json", "link", "show"));
      expect(links.map(({ ifname }) => ifname)).toEqual(["lo"]);
      expect(await run(netns.command("tc", "qdisc", "show"))).not.toContain("tbf");
    }
  });
});
