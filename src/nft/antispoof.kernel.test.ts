// SPDX-License-Identifier: Apache-2.0
//
// The rule as nft prints it: what was meant, in another program's words.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, run, waitFor } from "../../test/helpers/daemon.ts";
import { openMailbox, sendDatagrams } from "../../test/helpers/datagrams.ts";
import { flood } from "../../test/helpers/flood.ts";
import { callNetlink } from "../../test/helpers/netlink.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import { doomedLinkGroup, LINK_GROUP, NFT_TABLE } from "../net/names.ts";
import { NETLINK_NETFILTER } from "../netlink/event-loop.ts";
import type { Request } from "../netlink/message.ts";
import { ANTISPOOF } from "./antispoof.ts";
import { BATCH_BEGIN, BATCH_END } from "./message.ts";
import { removeTable, replaceTable } from "./table.ts";

const antispoofRequests = (): Request[] => replaceTable({ name: NFT_TABLE, sets: [], chains: [ANTISPOOF] }).flat();
const removeTableRequests = (): Request[] => removeTable(NFT_TABLE);

const RULESET = `table inet flatnet {
	chain antispoof {
		type filter hook prerouting priority raw; policy accept;
		iifgroup & 65535 == 26220 fib saddr . iif oif missing counter packets 0 bytes 0 drop
	}
}
`;

describe.runIf(canUseKernel())("the anti-spoofing rule in a namespace", () => {
  const cleanup = new Cleanup();
  let netns: Netns;
  beforeEach(async () => {
    netns = await createNetns("nft", cleanup);
  });
  afterEach(() => cleanup.run());

  const nft = (...args: string[]) => run(netns.command("nft", ...args));
  const transact = (requests: readonly Request[], prefix: readonly string[] = []) =>
    callNetlink(
      netns,
      { protocol: NETLINK_NETFILTER, call: "transaction", begin: BATCH_BEGIN, requests, end: BATCH_END },
      prefix,
    );

  test("is exactly this, also when it is applied again", async () => {
    for (let pass = 0; pass < 2; pass++) {
      expect(await transact(antispoofRequests())).toEqual({ result: null });
      expect(await nft("list", "ruleset")).toBe(RULESET);
    }
  });

  test("takes the place of whatever is in the table", async () => {
    await nft("add table inet flatnet; add set inet flatnet old { type ipv4_addr; }; add chain inet flatnet old");
    await nft("add rule inet flatnet old ip saddr @old drop");
    await transact(antispoofRequests());
    expect(await nft("list", "ruleset")).toBe(RULESET);
  });

  test("leaves everybody else's tables alone, and so does its removal", async () => {
    await nft(
      "add table ip flatnet; add table inet other; add chain inet other c { type filter hook input priority 0; }",
    );
    const others = await nft("list", "ruleset");
    await transact(antispoofRequests());
    expect(await nft("list", "table", "inet", "flatnet")).toBe(RULESET);
    expect(await nft("list", "ruleset")).toContain(others);
    await transact(removeTableRequests());
    expect(await nft("list", "ruleset")).toBe(others);
  });

  test("is gone after its removal, which may come again or for nothing", async () => {
    for (const prepare of [antispoofRequests, undefined, undefined]) {
      if (prepare !== undefined) await transact(prepare());
      expect(await transact(removeTableRequests())).toEqual({ result: null });
      expect(await nft("list", "ruleset")).toBe("");
    }
  });

  test("stays as it was when a transaction fails half-way", async () => {
    await transact(antispoofRequests());
    const [make, clear] = antispoofRequests() as [Request, Request];
    const outcome = await transact([make, clear, { ...clear, what: "clear what is gone" }]);
    expect(outcome.error).toMatchObject({ code: "NETLINK_REFUSED", message: "clear what is gone: ENOENT" });
    expect(await nft("list", "ruleset")).toBe(RULESET);
  });

  test("is refused at once to a process without the right, with the kernel's reason", async () => {
    const outcome = await transact(antispoofRequests(), [
      "setpriv",
      "--bounding-set=-net_admin",
      "--inh-caps=-net_admin",
      "--",
    ]);
    expect(outcome.error).toMatchObject({ code: "NETLINK_REFUSED", errnoName: "EPERM" });
    expect(await nft("list", "ruleset")).toBe("");
  });

  /**
   * A pod on a host end of this group, which has both addresses, the last one first to be sent from. The node has a route to the foreign one,
   * only not by this link.
   */
  async function connect(group: number, addresses: { node: string; own: string; foreign: string; length: number }) {
    const { node, own, foreign, length } = addresses;
    const pod = await createNetns("nft-pod", cleanup);
    const peer = ["peer", "name", "eth0", "netns", pod.name];
    await netns.ip("link", "add", "flpod", "group", `${group}`, "type", "veth", ...peer);
    await netns.ip("link", "set", "flpod", "up");
    await pod.ip("link", "set", "eth0", "up");
    await netns.ip("address", "add", `${node}/${length}`, "dev", "lo");
    await netns.ip("route", "add", `${own}/${length}`, "dev", "flpod");
    await netns.ip("route", "add", `${foreign}/${length}`, "dev", "lo");
    for (const address of [own, foreign]) {
      await pod.ip("address", "add", `${address}/${length}`, "dev", "eth0", ...(length === 128 ? ["nodad"] : []));
    }
    await pod.ip("route", "add", `${node}/${length}`, "dev", "eth0", "src", foreign);
    // As a pod has it: nobody asks who has the address.
    const { address: mac } = JSON.parse(await netns.ip("-json", "link", "show", "flpod"))[0];
    await pod.ip("neigh", "replace", node, "lladdr", mac, "dev", "eth0", "nud", "permanent");
    return pod;
  }

  test("takes an older one's place without a packet in between", async () => {
    const node = "172.18.0.1";
    const pod = await connect(LINK_GROUP, { node, own: "10.244.1.7", foreign: "10.244.1.8", length: 32 });
    const before = "iifgroup 26220 fib saddr . iif oif missing counter drop";
    await nft(
      `add table inet flatnet; add chain inet flatnet antispoof { type filter hook prerouting priority raw; }
       add rule inet flatnet antispoof ${before}`,
    );
    const mailbox = await openMailbox(netns.path, cleanup);
    const targets = [{ address: node, port: mailbox.port, label: "x" }];
    const flooding = await flood(pod.path, { targets, intervalUs: 20 }, cleanup);
    for (let i = 0; i < 5; i++) expect(await transact(antispoofRequests())).toEqual({ result: null });
    await flooding.stop();
    const own = { from: "10.244.1.7", to: node, port: mailbox.port, text: "own" };
    await sendDatagrams(pod.path, [own]);
    await waitFor(() => mailbox.received().length > 0);
    expect(mailbox.received()).toEqual([{ from: own.from, text: own.text }]);
  });

  test.for([
    ["IPv4", "is there", LINK_GROUP, "172.18.0.1", "10.244.1.7", "10.244.1.8", 32],
    ["IPv6", "is there", LINK_GROUP, "fd00:18::1", "fd00:10:244:1::7", "fd00:10:244:1::8", 128],
    ["IPv4", "is about to be deleted", doomedLinkGroup(1), "172.18.0.1", "10.244.1.7", "10.244.1.8", 32],
    ["IPv6", "is about to be deleted", doomedLinkGroup(0x7fff), "fd00:18::1", "fd00::7", "fd00::8", 128],
  ] as const)(
    "drops an %s packet from an address without a route back to its link, which %s, and passes the pod's own",
    async (it) => {
      const [, , group, node, own, foreign, length] = it;
      const pod = await connect(group, { node, own, foreign, length });
      await transact(antispoofRequests());
      const mailbox = await openMailbox(netns.path, cleanup);
      const text = "hello";
      const datagrams = [foreign, own].map((from) => ({ from, to: node, port: mailbox.port, text }));
      await sendDatagrams(pod.path, datagrams);
      // A link keeps the order: when the second one is here the first one has met its fate.
      await waitFor(() => mailbox.received().some(({ from }) => from === own));
      expect(mailbox.received()).toEqual([{ from: own, text }]);
      // At least one: the pod's kernel itself sends a packet now and then before it has an address.
      expect(await nft("list", "table", "inet", "flatnet")).toMatch(/oif missing counter packets [1-9]/);
    },
  );
});
