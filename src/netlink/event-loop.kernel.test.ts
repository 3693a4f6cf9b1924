// SPDX-License-Identifier: Apache-2.0
//
// The daemon's netlink against the kernel, in a namespace of its own; what it did is read by iproute2.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup } from "../../test/helpers/daemon.ts";
import { callNetlink } from "../../test/helpers/netlink.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import { parseAddress } from "../net/address.ts";
import { hostPrefix, parsePrefix, prefixBytes } from "../net/prefix.ts";
import { NETLINK_ROUTE, Netlink } from "./event-loop.ts";
import { decodeLink, deleteLink, dumpLinks, getLink, setLinkUp } from "./link.ts";
import {
  addRoute,
  decodeRoute,
  deleteRoute,
  describeRoute,
  dumpRoutes,
  lookUpRoute,
  type Route,
  replaceRoute,
} from "./route.ts";

const PROTOCOL = 70;

function route(cidr: string, via: string | undefined, priority?: number): Route {
  const { family, length } = parsePrefix(cidr);
  return {
    family,
    destination: prefixBytes(parsePrefix(cidr)),
    length,
    protocol: PROTOCOL,
    ...(via === undefined ? { kind: "unreachable" } : { kind: "unicast", gateway: parseAddress(via) }),
    ...(priority === undefined ? {} : { priority }),
  };
}

describe.runIf(canUseKernel())("netlink in a namespace", () => {
  const cleanup = new Cleanup();
  let netns: Netns;
  beforeEach(async () => {
    netns = await createNetns("netlink", cleanup);
    await netns.ip("link", "add", "eth0", "mtu", "1450", "group", "26220", "type", "veth", "peer", "name", "eth1");
    for (const name of ["eth0", "eth1"]) await netns.ip("link", "set", name, "up", "alias", `the ${name}`);
    await netns.ip("address", "add", "172.18.0.1/24", "dev", "eth0");
    await netns.ip("address", "add", "fd00:18::1/64", "dev", "eth0", "nodad");
  });
  afterEach(() => cleanup.run());

  const submit = async (...requests: Parameters<typeof addRoute>[0][] | ReturnType<typeof addRoute>[]) => {
    const list = requests.map((it) => ("what" in it ? it : addRoute(it)));
    const { result, error } = await callNetlink(netns, { protocol: NETLINK_ROUTE, call: "submit", requests: list });
    expect(error).toBeUndefined();
    return result ?? [];
  };
  const shown = async (family: "-4" | "-6") => {
    const text = await netns.ip(family, "route", "show", "proto", String(PROTOCOL));
    return text
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "");
  };

  test("a request that is refused does not hold up the others, and says why", async () => {
    const replies = await submit(
      route("10.244.1.0/24", "172.18.0.2"),
      route("10.244.2.0/24", "203.0.113.1"),
      route("10.244.1.0/24", "172.18.0.3"),
      route("fd00:10:244:1::/64", "fd00:18::2", 1024),
    );
    expect(replies.map(({ what, error }) => [what, error?.errnoName])).toEqual([
      ["add route 10.244.1.0/24 via 172.18.0.2", undefined],
      ["add route 10.244.2.0/24 via 203.0.113.1", "ENETUNREACH"],
      ["add route 10.244.1.0/24 via 172.18.0.3", "EEXIST"],
      ["add route fd00:10:244:1::/64 via fd00:18::2", undefined],
    ]);
    expect(replies[2]?.error).toMatchObject({
      code: "NETLINK_REFUSED",
      message: "add route 10.244.1.0/24 via 172.18.0.3: EEXIST",
    });
    expect(await shown("-4")).toEqual(["10.244.1.0/24 via 172.18.0.2 dev eth0"]);
    expect(await shown("-6")).toEqual(["fd00:10:244:1::/64 via fd00:18::2 dev eth0 metric 1024 pref medium"]);
  });

  // More answers than the receive buffer holds are an overrun, and an overrun ends the process.
  test("what many ask for at once is answered, whatever has room in the socket's buffer", async () => {
    const netlink = Netlink.open(NETLINK_ROUTE);
    try {
      const asked = Array.from({ length: 20 }, () => netlink.submit(Array.from({ length: 64 }, () => getLink("lo"))));
      const replies = (await Promise.all(asked)).flat();
      const names = replies.flatMap(({ answers }) => answers.map((answer) => decodeLink(answer)?.name));
      expect(names).toEqual(Array.from({ length: 20 * 64 }, () => "lo"));
    } finally {
      netlink.close();
    }
  });

  test("more requests than one batch holds are all worked off", async () => {
    const routes = Array.from({ length: 300 }, (_, i) => route(`10.${i >> 8}.${i & 255}.0/24`, "172.18.0.2"));
    const replies = await submit(...routes);
    expect(replies.filter(({ error }) => error !== undefined)).toEqual([]);
    expect(await shown("-4")).toHaveLength(300);
  });

  test.for<[family: "-4" | "-6", via: string, other: string, cidr: string, priority: number | undefined]>([
    ["-4", "172.18.0.2", "172.18.0.3", "10.244.1.0/24", undefined],
    ["-6", "fd00:18::2", "fd00:18::3", "fd00:10:244:1::/64", 1024],
  ])(
    "%s: a route is replaced in place, whatever it was, and deleted by what it is",
    async ([family, via, other, cidr, priority]) => {
      const first = route(cidr, via, priority);
      const second = route(cidr, other, priority);
      const third = route(cidr, undefined, priority);
      await submit(first);
      for (const [next, start] of [
        [second, `${cidr} via ${other} dev eth0`],
        [third, `unreachable ${cidr}`],
        [first, `${cidr} via ${via} dev eth0`],
      ] as const) {
        expect(await submit(replaceRoute(next))).toEqual([{ what: `set route ${describeRoute(next)}`, answers: [] }]);
        const lines = await shown(family);
        expect(lines).toHaveLength(1);
        expect(lines[0]).toContain(start);
      }
      // Neither another gateway nor another protocol is what was asked to go.
      const refused = await submit(deleteRoute(second), deleteRoute({ ...first, protocol: 4 }));
      expect(refused.map(({ error }) => error?.errnoName)).toEqual(["ESRCH", "ESRCH"]);
      expect(await shown(family)).toHaveLength(1);
      expect((await submit(deleteRoute(first)))[0]?.error).toBeUndefined();
      expect(await shown(family)).toEqual([]);
    },
  );

  test("a route that was read can be deleted as it was read", async () => {
    await submit(
      route("10.244.1.0/24", "172.18.0.2"),
      route("10.244.0.0/24", undefined),
      route("fd00:10:244:1::/64", "fd00:18::2", 1024),
      route("fd00:10:244::/64", undefined, 1024),
    );
    for (const family of [4, 6] as const) {
      const dump = await callNetlink(netns, {
        protocol: NETLINK_ROUTE,
        call: "dump",
        request: dumpRoutes(family, PROTOCOL),
      });
      const routes = (dump.result ?? []).map(decodeRoute).filter((it) => it?.protocol === PROTOCOL) as Route[];
      expect(routes).toHaveLength(2);
      expect((await submit(...routes.map(deleteRoute))).map(({ error }) => error)).toEqual([undefined, undefined]);
    }
    expect([...(await shown("-4")), ...(await shown("-6"))]).toEqual([]);
  });

  test("dumps that are asked for at once are all answered", async () => {
    // More than the kernel answers in one go, so that one runs when the next is asked for.
    await submit(...Array.from({ length: 1000 }, (_, i) => route(`10.${i >> 8}.${i & 255}.0/24`, undefined)));
    const requests = [dumpRoutes(4, PROTOCOL), dumpLinks(), dumpRoutes(4, PROTOCOL)];
    const { result, error } = await callNetlink(netns, { protocol: NETLINK_ROUTE, call: "dumps", requests });
    expect(error).toBeUndefined();
    const [first, links, again] = result ?? [];
    expect(first?.map(decodeRoute).filter((it) => it?.protocol === PROTOCOL)).toHaveLength(1000);
    expect(links).toHaveLength(3);
    expect(again).toHaveLength(first?.length ?? 0);
  });

  test("links are listed as iproute2 lists them", async () => {
    const dump = await callNetlink(netns, { protocol: NETLINK_ROUTE, call: "dump", request: dumpLinks() });
    const links = (dump.result ?? []).map(decodeLink);
    const theirs = JSON.parse(await netns.ip("-json", "-details", "link", "show")) as Record<string, unknown>[];
    expect(links.map((it) => [it?.index, it?.name, it?.mtu, it?.alias])).toEqual(
      theirs.map((it) => [it["ifindex"], it["ifname"], it["mtu"], it["ifalias"]]),
    );
    const [eth0, eth1] = ["eth0", "eth1"].map((name) => links.find((it) => it?.name === name));
    expect(eth0).toMatchObject({ up: true, group: 26220, mtu: 1450, alias: "the eth0" });
    expect([eth0?.peerIndex, eth1?.peerIndex]).toEqual([eth1?.index, eth0?.index]);
  });

  test("a link is looked up, set and deleted by name, and a missing one is ENODEV", async () => {
    const [found, missing] = await submit(getLink("eth0"), getLink("nosuch"));
    const link = decodeLink(found?.answers[0] as never);
    expect(link).toMatchObject({ name: "eth0", alias: "the eth0" });
    expect(missing?.error).toMatchObject({
      errnoName: "ENODEV",
      message: expect.stringContaining("look up link nosuch: ENODEV"),
    });
    const longest = "x".repeat(255);
    const replies = await submit(
      setLinkUp(link?.index ?? 0, "eth0", longest),
      setLinkUp(link?.index ?? 0, "eth0", `${longest}x`),
    );
    expect(replies.map(({ error }) => error === undefined)).toEqual([true, false]);
    expect(await netns.ip("link", "show", "eth0")).toContain(`alias ${longest}\n`);
    const deleted = await submit(deleteLink("eth0"), deleteLink("eth0"));
    expect(deleted.map(({ error }) => error?.errnoName)).toEqual([undefined, "ENODEV"]);
    expect(await netns.ip("link", "show")).not.toContain("eth1");
  });

  test("a route is looked up as the kernel would send, and a family without a way out is refused", async () => {
    await netns.ip("route", "add", "default", "via", "172.18.0.9");
    const [v4, v6] = await submit(lookUpRoute(parseAddress("192.0.2.1")), lookUpRoute(parseAddress("2001:db8::1")));
    const found = decodeRoute(v4?.answers[0] as never);
    expect(found && hostPrefix(found.gateway as Uint8Array)).toEqual(hostPrefix(parseAddress("172.18.0.9")));
    expect(v6?.error?.errnoName).toBe("ENETUNREACH");
  });
});
