// SPDX-License-Identifier: Apache-2.0
import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, run } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import { visit } from "../../test/helpers/visit.ts";
import { doomedLinkGroup, LINK_GROUP } from "../net/names.ts";
import { NETLINK_ROUTE, Netlink } from "../netlink/event-loop.ts";
import type { Link } from "../netlink/link.ts";
import { LinkRemover } from "./link-remover.ts";
import { listLinks } from "./pod-watch.ts";

async function dumpOf(node: Netns): Promise<Link[]> {
  const netlink = visit(node, () => Netlink.open(NETLINK_ROUTE));
  try {
    return await listLinks(netlink);
  } finally {
    netlink.close();
  }
}

describe.runIf(canUseKernel())("host ends in the kernel", () => {
  const cleanup = new Cleanup();
  let node: Netns;

  beforeEach(async () => {
    node = await createNetns("remover", cleanup);
  });

  afterEach(() => cleanup.run());

  const make = (name: string, ...more: string[]) =>
    node.ip("link", "add", name, ...more, "type", "veth", "peer", "name", `p${name}`);
  const names = async () =>
    (JSON.parse(await node.ip("-j", "link", "show")) as { ifname: string }[]).map(({ ifname }) => ifname).sort();
  const start = async (doom?: () => number) => {
    const links = await dumpOf(node);
    const remover = await visit(node, () => LinkRemover.start(links, doom));
    cleanup.add(() => remover.close());
    return remover;
  };

  test("go one at a time, many at a time, and asked for twice; those that aren't there are gone", async () => {
    const many = Array.from({ length: 20 }, (_, i) => `fl${i}`);
    for (const name of ["alone", "stays", ...many]) await make(name);
    const remover = await start();
    await remover.remove("alone");
    expect(await names()).toEqual(["lo", "stays", "pstays", ...many, ...many.map((name) => `p${name}`)].sort());
    await Promise.all([...many, ...many, "never"].map((name) => remover.remove(name)));
    expect(await names()).toEqual(["lo", "pstays", "stays"]);
    await remover.remove("never");
  });

  test("go when more are asked for, one after the other, than the kernel ends meanwhile", async () => {
    const many = Array.from({ length: 200 }, (_, i) => `fl${i}`);
    const input = many.map((name) => `link add ${name} type veth peer name p${name}\n`).join("");
    await run(node.command("ip", "-batch", "-"), { input });
    const remover = await start();
    const removals: Promise<void>[] = [];
    for (const name of many) {
      removals.push(remover.remove(name));
      await setImmediate();
    }
    await Promise.all(removals);
    expect(await names()).toEqual(["lo"]);
  });

  test("go although their group has a link that can't be deleted", async () => {
    await make("fla");
    await make("flb");
    const remover = await start(() => 7);
    await node.ip("link", "set", "lo", "group", `${doomedLinkGroup(7)}`);
    await Promise.all([remover.remove("fla"), remover.remove("flb")]);
    expect(await names()).toEqual(["lo"]);
  });

  test("take no link along that somebody has in flatnet's group, or in one beside it", async () => {
    await make("fla");
    await make("flb");
    await make("other", "group", `${LINK_GROUP}`);
    await make("another", "group", `${LINK_GROUP + 1}`);
    const remover = await start();
    await Promise.all([remover.remove("fla"), remover.remove("flb")]);
    expect(await names()).toEqual(["another", "lo", "other", "panother", "pother"]);
  });

  test("go at the start when a daemon was killed between their marking and their deletion, and nobody else's do", async () => {
    const doomed = ["group", `${doomedLinkGroup(12345)}`];
    await make("fla", ...doomed);
    await make("flb", "group", `${LINK_GROUP}`);
    await make("other", ...doomed);
    await node.ip("link", "set", "lo", ...doomed);
    await start();
    expect(await names()).toEqual(["flb", "lo", "other", "pflb", "pother"]);
  });
});
