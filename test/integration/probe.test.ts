// SPDX-License-Identifier: Apache-2.0
//
// Two nodes whose daemons ask each other whether packets arrive, and what they say when some don't.
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Cleanup, run, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { httpGet, METRICS_ADDRESS } from "../helpers/http-get.ts";
import { canUseKernel, inNetns, joinByCable } from "../helpers/netns.ts";

const NODES = [
  { addresses: ["172.29.0.1", "fd00:29::1"], podCidrs: ["10.82.1.0/24", "fd00:82:1::/64"] },
  { addresses: ["172.29.0.2", "fd00:29::2"], podCidrs: ["10.82.2.0/24", "fd00:82:2::/64"] },
] as const;
const PEERS = `nodes:${NODES.map(
  ({ addresses, podCidrs }, i) => `
  - { name: node-${i + 1}, addresses: ${JSON.stringify(addresses)}, podCIDRs: ${JSON.stringify(podCidrs)} }`,
).join("")}\n`;
const PROBE = ["--probe-seconds", "1", "--metrics-address", METRICS_ADDRESS];

describe.runIf(canUseKernel())("daemons that ask each other", () => {
  const cleanup = new Cleanup();
  const nodes: FlatnetNode[] = [];

  beforeAll(async () => {
    for (const [i, { podCidrs }] of NODES.entries()) {
      const flags = ["--node-name", `node-${i + 1}`];
      nodes.push(await createNode("probe", cleanup, { podCidrs, peers: PEERS, flags }));
      await nodes[i]?.netns.ip("link", "set", "lo", "up");
    }
    const end = (i: number) => ({
      netns: (nodes[i] as FlatnetNode).netns,
      ifname: "eth0",
      addresses: (NODES[i] as (typeof NODES)[0]).addresses.map((text) => `${text}/${text.includes(":") ? 64 : 24}`),
    });
    await joinByCable(end(0), end(1));
    for (const node of nodes) await node.start(...PROBE);
  });
  afterAll(() => cleanup.run());

  const lines = (node: FlatnetNode, msg: string) =>
    node.log().filter((line) => String(line["msg"]).includes(msg)) as { kind: string; address: string; msg: string }[];
  const [a, b] = [() => nodes[0] as FlatnetNode, () => nodes[1] as FlatnetNode];

  async function scrape(node: FlatnetNode): Promise<string[]> {
    return (await httpGet(node.netns, METRICS_ADDRESS, "/metrics")).body.split("\n");
  }

  test("hear from the node and from each of its pods' subnets", async () => {
    for (const [node, other] of [
      [a(), NODES[1]],
      [b(), NODES[0]],
    ] as const) {
      await waitFor(() => lines(node, "a peer answers").length === 4);
      const answers = lines(node, "a peer answers").map(({ kind, address }) => `${kind} ${address}`);
      const subnets = other.podCidrs.map((cidr) => cidr.replace(/\/\d+$/, ""));
      const expected = [...other.addresses.map((text) => `node ${text}`), ...subnets.map((text) => `pods ${text}`)];
      expect(answers.sort()).toEqual(expected.sort());
    }
    const metrics = await scrape(a());
    for (const kind of ["node", "pods"]) {
      for (const family of ["4", "6"]) {
        expect(metrics).toContain(`flatnet_probe_addresses{kind="${kind}",family="${family}",state="reachable"} 1`);
      }
    }
    expect(metrics.some((line) => /^flatnet_probe_round_trip_seconds_count{kind="pods"} [1-9]/.test(line))).toBe(true);
  });

  test("name the subnet that packets don't get to though its node answers, and what may be why", async () => {
    const nft = (...args: string[]) => run(b().netns.command("nft", ...args));
    await nft("add table ip tests; add chain ip tests in { type filter hook prerouting priority -350; }");
    onTestFinished(() => nft("delete table ip tests").then(() => {}));
    // What a cloud does that looks at destinations.
    await nft("add rule ip tests in ip daddr 10.82.2.0/24 drop");
    await waitFor(() => lines(a(), "rp_filter").length > 0);
    expect(lines(a(), "rp_filter")).toEqual([
      expect.objectContaining({ kind: "pods", address: "10.82.2.0", peer: "node-2" }),
    ]);
    expect(lines(b(), "does not answer")).toEqual([]);
    const before = lines(a(), "a peer answers").length;
    await nft("flush chain ip tests in");
    await waitFor(() => lines(a(), "a peer answers").length === before + 1);
    expect(lines(a(), "a peer answers").at(-1)).toMatchObject({ address: "10.82.2.0" });
  });

  test("answer nobody who is no node", async () => {
    await a().netns.ip("address", "add", "172.29.0.77/24", "dev", "eth0");
    const ask = (from: string) =>
      run(
        inNetns(
          a().netns.path,
          process.execPath,
          "-e",
          `const s = require("node:dgram").createSocket("udp4");
           s.on("message", () => { console.log("answered"); s.close(); });
           s.bind(0, "${from}", () => s.send(Buffer.from("flatnet?\\u0001".padEnd(32, "\\0")), 26220, "172.29.0.2"));
           setTimeout(() => { console.log("silence"); process.exit(); }, 1000);`,
        ),
      );
    expect((await ask("172.29.0.1")).split("\n")[0]).toBe("answered");
    expect((await ask("172.29.0.77")).split("\n")[0]).toBe("silence");
  });

  test("have addresses on lo for it, marked as ours, that go when nobody asks any more", async () => {
    const onLoopback = async () => {
      const [lo] = JSON.parse(await b().netns.ip("-json", "address", "show", "dev", "lo"));
      return (lo.addr_info as { local: string }[])
        .map(({ local }) => local)
        .filter((text) => !["127.0.0.1", "::1"].includes(text));
    };
    expect(await onLoopback()).toEqual(["10.82.2.0", "fd00:82:2::"]);
    await b().stop();
    await b().start();
    expect(await onLoopback()).toEqual([]);
    await waitFor(() => lines(a(), "does not answer").length >= 4);
  });
});
