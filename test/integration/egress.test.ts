// SPDX-License-Identifier: Apache-2.0
//
// What leaves the cluster, seen from outside: a node with the built daemon, one pod on it, and one machine that is now a
// node of the cluster, now an exception, now neither.
import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Cleanup, run, waitFor } from "../helpers/daemon.ts";
import { type Mailbox, openMailbox, sendDatagrams } from "../helpers/datagrams.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel, createNetns, joinByCable, type Netns } from "../helpers/netns.ts";
import { addressesOf, createPod, type Pod, resultOf } from "../helpers/plugin.ts";

const NODE = ["172.30.0.1", "fd00:30::1"];
const OUTSIDE = ["172.30.0.2", "fd00:30::2"];
const CIDRS = ["10.81.1.0/24", "fd00:81:1::/64"];
const OTHER = "{ name: node-2, addresses: [172.30.0.2, 'fd00:30::2'], podCIDRs: [10.81.2.0/24, 'fd00:81:2::/64'] }";

describe.runIf(canUseKernel())("what leaves the cluster", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  let outside: Netns;
  let mailbox: Mailbox;
  let pod: Pod;
  let own: string[];

  beforeAll(async () => {
    node = await createNode("egress", cleanup, { podCidrs: CIDRS, peers: "nodes: []\n" });
    outside = await createNetns("outside", cleanup);
    const at = (netns: Netns, addresses: readonly string[]) => ({
      netns,
      ifname: "eth0",
      addresses: addresses.map((address) => `${address}/${address.includes(":") ? 64 : 24}`),
    });
    await joinByCable(at(node.netns, NODE), at(outside, OUTSIDE));
    // So that answers would come back without translation too: what is looked at is the address alone.
    for (const [i, cidr] of CIDRS.entries()) await outside.ip("route", "add", cidr, "via", NODE[i] as string);
    mailbox = await openMailbox(outside.path, cleanup);
    await node.start();
    pod = await createPod("egress", cleanup);
    own = addressesOf(resultOf(await node.add(pod)));
  });
  afterAll(() => cleanup.run());

  /** Restarts the daemon with these flags. */
  async function restart(...flags: string[]): Promise<void> {
    await node.stop();
    await node.start(...flags);
  }

  let sent = 0;

  /** The addresses that the machine outside sees the pod's new flows come from. */
  async function seenFrom(): Promise<string[]> {
    const texts = own.map(() => `packet ${++sent}`);
    await sendDatagrams(
      pod.netns.path,
      own.map((from, i) => ({ from, to: OUTSIDE[i] as string, port: mailbox.port, text: texts[i] as string })),
    );
    const of = (text: string) => mailbox.received().find((one) => one.text === text)?.from;
    await waitFor(() => texts.every((text) => of(text) !== undefined));
    return texts.map((text) => of(text) as string);
  }

  const nft = (...args: string[]) => run(node.netns.command("nft", ...args));

  test("has the pod's own addresses where nothing is said, and no table is made", async () => {
    await restart();
    expect(await seenFrom()).toEqual(own);
    expect(await nft("list", "tables")).not.toContain("egress");
  });

  test("has the node's address where it is asked for, and is counted", async () => {
    await restart("--egress-masquerade", "true");
    expect(await seenFrom()).toEqual(NODE);
    expect(await nft("list", "chain", "inet", "flatnet_egress", "egress")).toBe(`table inet flatnet_egress {
	chain egress {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @pods4 ip daddr != @inside4 counter packets 1 bytes ${28 + `packet ${sent - 1}`.length} masquerade fully-random
		ip6 saddr @pods6 ip6 daddr != @inside6 counter packets 1 bytes ${48 + `packet ${sent}`.length} masquerade fully-random
	}
}
`);
  });

  test("has the pod's own addresses to exceptions", async () => {
    const exceptions = ["172.30.0.0/24", "fd00:30::/64"].flatMap((cidr) => ["--egress-except", cidr]);
    await restart("--egress-masquerade", "true", ...exceptions);
    expect(await seenFrom()).toEqual(own);
  });

  test("follows the nodes of the cluster: a machine that becomes one sees the pod's own addresses, until it is none", async () => {
    await restart("--egress-masquerade", "true");
    onTestFinished(() => writeFileSync(node.peersFile, "nodes: []\n"));
    const elements = async () =>
      (await nft("list", "set", "inet", "flatnet_egress", "inside4")).replaceAll(/\s+/g, " ");
    writeFileSync(node.peersFile, `nodes:\n  - ${OTHER}\n`);
    await waitFor(async () => (await elements()).includes("172.30.0.2"));
    expect(await elements()).toContain("elements = { 10.81.1.0-10.81.2.255, 172.30.0.2 }");
    expect(await seenFrom()).toEqual(own);
    writeFileSync(node.peersFile, "nodes: []\n");
    await waitFor(async () => !(await elements()).includes("172.30.0.2"));
    expect(await elements()).toContain("elements = { 10.81.1.0/24 }");
    expect(await seenFrom()).toEqual(NODE);
  });

  test("is made anew when somebody takes the rules away", async () => {
    await restart("--egress-masquerade", "true");
    await nft("flush", "chain", "inet", "flatnet_egress", "egress");
    // Any change of the file is an occasion to look; without one the daemon looks every 30 seconds.
    writeFileSync(node.peersFile, "nodes: []\n# again\n");
    await waitFor(async () => (await nft("list", "ruleset")).includes("masquerade fully-random"));
    expect(await seenFrom()).toEqual(NODE);
    expect(node.log().filter(({ msg }) => String(msg).includes("were made anew"))).toHaveLength(1);
  });

  test("loses its rules when they aren't asked for any more", async () => {
    await restart("--egress-masquerade", "true");
    await restart();
    expect(await nft("list", "tables")).not.toContain("egress");
    expect(await seenFrom()).toEqual(own);
  });
});
