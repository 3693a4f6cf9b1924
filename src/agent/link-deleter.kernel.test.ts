// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import { visit } from "../../test/helpers/visit.ts";
import { deleteLink } from "../netlink/link.ts";
import { GONE, isGone, LinkDeleter, openSlowNetlink, type SlowNetlink } from "./link-deleter.ts";

describe.runIf(canUseKernel())("a link's deletion", () => {
  const cleanup = new Cleanup();
  const gates: (() => void)[] = [];
  let node: Netns;
  let pod: Netns;

  beforeEach(async () => {
    node = await createNetns("deleter", cleanup);
    pod = await createNetns("deleter-pod", cleanup);
    const peer = ["peer", "name", "eth0", "netns", pod.path];
    await node.ip("link", "add", "fla", "type", "veth", ...peer);
    await pod.ip("address", "add", "10.1.0.2/32", "dev", "eth0");
    await pod.ip("link", "set", "eth0", "up");
    await node.ip("link", "set", "fla", "up");
    await node.ip("route", "add", "10.1.0.2/32", "dev", "fla");
  });

  afterEach(() => cleanup.run());

  const links = async (netns: Netns) =>
    (JSON.parse(await netns.ip("-j", "link", "show")) as { ifname: string }[]).map(({ ifname }) => ifname);
  const routes = (netns: Netns) => netns.ip("route", "show", "table", "all", "dev", "fla").catch(() => "");

  /** A deleter whose deletions go through `around`. */
  const open = (around: (submit: SlowNetlink["submit"]) => SlowNetlink["submit"]) => {
    const deleter = visit(node, () => {
      const deleting = openSlowNetlink();
      return new LinkDeleter({ ...deleting, submit: around(deleting.submit) }, openSlowNetlink());
    });
    cleanup.add(() => {
      for (const openGate of gates.splice(0)) openGate();
      return deleter.close();
    });
    return deleter;
  };

  /** A promise, and who resolves it: the test, or its end. */
  const gate = () => {
    let open = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    gates.push(open);
    return { opened, open };
  };

  test("is over when both ends and their routes are gone, though the kernel hasn't answered yet", async () => {
    const answer = gate();
    const deleter = open((submit) => async (requests) => {
      const replies = await submit(requests);
      await answer.opened;
      return replies;
    });
    expect(await deleter.delete([deleteLink("fla")], ["fla"])).toBe(GONE);
    expect([await links(node), await links(pod), await routes(node)]).toEqual([["lo"], ["lo"], ""]);
    expect(deleter.busy).toBeDefined();
    answer.open();
    await deleter.busy;
    expect(deleter.busy).toBeUndefined();
  });

  test("isn't over while the link is there, and the next one waits for its end", async () => {
    const [begin, answer] = [gate(), gate()];
    const deleter = open((submit) => async (requests) => {
      await begin.opened;
      const replies = await submit(requests);
      await answer.opened;
      return replies;
    });
    let over = 0;
    const count = () => {
      over++;
    };
    const first = deleter.delete([deleteLink("fla")], ["fla"]).then(count);
    // So many looks find it there.
    for (let i = 0; i < 5; i++) expect([await links(node), over]).toEqual([["lo", "fla"], 0]);
    begin.open();
    await first;
    await node.ip("link", "add", "flb", "type", "veth", "peer", "name", "pflb");
    const second = deleter.delete([deleteLink("flb")], ["flb"]).then(count);
    expect([await links(node), over]).toEqual([["lo", "pflb", "flb"], 1]);
    answer.open();
    await second;
    expect([await links(node), over]).toEqual([["lo"], 2]);
  });

  test("that is refused says why, and of a link that isn't there nothing else than that", async () => {
    const deleter = open((submit) => submit);
    expect(await deleter.delete([deleteLink("lo")], ["lo"])).toMatchObject([{ errnoName: "EOPNOTSUPP" }]);
    await deleter.delete([deleteLink("fla")], ["fla"]);
    const again = await deleter.delete([deleteLink("fla")], ["fla"]);
    expect(again === GONE || again.every(isGone)).toBe(true);
    expect(await links(node)).toEqual(["lo"]);
  });

  test("whose looks fail is over with the kernel's answer", async () => {
    const deleter = visit(node, () => {
      const looking = { submit: () => Promise.reject(new Error("no looks")), close() {} };
      return new LinkDeleter(openSlowNetlink(), looking);
    });
    cleanup.add(() => deleter.close());
    expect(await deleter.delete([deleteLink("fla")], ["fla"])).toEqual([undefined]);
    expect(await links(node)).toEqual(["lo"]);
  });
});
