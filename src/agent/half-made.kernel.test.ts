// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import { NETLINK_ROUTE, Netlink } from "../netlink/event-loop.ts";
import { deleteLinkAt } from "../netlink/link.ts";
import { inNetns } from "../podnet/netns.ts";
import { sys } from "../sys/node.ts";
import { O_RDONLY } from "../sys/sys.ts";
import { HalfMade } from "./half-made.ts";
import { listLinks } from "./pod-watch.ts";

describe.runIf(canUseKernel())("half-made links in the kernel", () => {
  const cleanup = new Cleanup();
  let node: Netns;
  let netlink: Netlink;

  beforeEach(async () => {
    node = await createNetns("half", cleanup);
    const fd = sys.open(node.path, O_RDONLY);
    netlink = inNetns(sys, fd, node.path, () => Netlink.open(NETLINK_ROUTE));
    sys.close(fd);
    cleanup.add(() => netlink.close());
  });

  afterEach(() => cleanup.run());

  const make = (name: string, ...more: string[]) =>
    node.ip("link", "add", name, ...more, "type", "veth", "peer", "name", `${name}-p`);
  const names = async () => (await listLinks(netlink)).map(({ name }) => name).sort();

  test("go, and finished ones and other people's stay", async () => {
    const ours = ["group", "26220"];
    await make("flbegun", ...ours);
    await make("flfinished", ...ours);
    await make("fldown", ...ours);
    await make("flannel", "group", "0");
    await make("veth0", ...ours);
    for (const name of ["flfinished", "fldown"]) await node.ip("link", "set", name, "up", "alias", "flatnet:a/b");
    await node.ip("link", "set", "fldown", "down");
    const before = await names();
    const halfMade = new HalfMade({
      allocations: { list: async () => ({ allocations: [] }) },
      links: () => listLinks(netlink),
      remove: async ({ index, name }) => void (await netlink.request([deleteLinkAt(index, name)])),
      graceMs: 0,
      log: { info() {}, error() {} },
      now: () => performance.now(),
    });
    await halfMade.pass();
    expect(await names()).toEqual(before);
    await halfMade.pass();
    expect(await names()).toEqual(before.filter((name) => !name.startsWith("flbegun")));
  });

  test("that have gone by themselves, or come again, are not taken for each other", async () => {
    await make("fla", "group", "26220");
    const [first] = (await listLinks(netlink)).filter(({ name }) => name === "fla");
    await node.ip("link", "del", "fla");
    await make("fla", "group", "26220");
    await netlink.request([deleteLinkAt(first?.index ?? 0, "fla")]);
    expect(await names()).toContain("fla");
  });
});
