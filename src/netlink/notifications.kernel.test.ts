// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, run } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import { listenInNetns } from "../../test/helpers/notifications.ts";

const FLOOD = Array.from({ length: 4000 }, (_, i) => `route add 10.${i >> 8}.${i & 255}.0/24 dev lo`);

describe.runIf(canUseKernel())("notifications of the kernel", () => {
  const cleanup = new Cleanup();
  let netns: Netns;
  beforeEach(async () => {
    netns = await createNetns("events", cleanup);
  });
  afterEach(() => cleanup.run());

  test("tell of routes, links and addresses as they come and go", async () => {
    const listener = await listenInNetns(netns, cleanup);
    await netns.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1");
    await netns.ip("link", "set", "eth0", "up");
    await netns.ip("address", "add", "192.0.2.1/24", "dev", "eth0");
    await netns.ip("-6", "route", "add", "2001:db8::/64", "dev", "lo");
    await netns.ip("rule", "add", "lookup", "7");
    // RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWRULE of include/uapi/linux/rtnetlink.h.
    for (const type of [16, 20, 24, 32]) await listener.waitFor(`message ${type}`);
  });

  test("that are too many for the socket are reported as lost, and it goes on hearing", async () => {
    const listener = await listenInNetns(netns, cleanup);
    for (let round = 1; round <= 3; round++) {
      await listener.block(async () => {
        await run(["ip", "-n", netns.name, "-force", "-batch", "-"], { input: `${FLOOD.join("\n")}\n` });
        await netns.ip("route", "flush", "table", "main");
      });
      await listener.waitFor("lost", round);
      // What is told as lost has been, and nothing after it is.
      const before = listener.count("message 16");
      await netns.ip("link", "add", `eth${round}`, "type", "veth", "peer", "name", `peer${round}`);
      await listener.waitFor("message 16", before + 1);
    }
    expect(listener.count("lost")).toBeGreaterThanOrEqual(3);
  });
});
