// SPDX-License-Identifier: Apache-2.0
import { statSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, joinByCable, type Netns } from "../../test/helpers/netns.ts";
import { visit } from "../../test/helpers/visit.ts";
import { type Heard, ListeningSocket, sys } from "./node.ts";
import { O_RDONLY, SysError } from "./sys.ts";

const NETLINK_ROUTE = 0;
const RTNLGRP_IPV4_IFADDR = 5;
const RTM_NEWADDR = 20;

/** What has come: each datagram's first message's type, and where from. */
function listen(socket: ListeningSocket): { type: number; nsid: number | undefined }[] {
  const all: { type: number; nsid: number | undefined }[] = [];
  for (let heard: Heard | undefined = socket.receive(); heard !== undefined; heard = socket.receive()) {
    all.push({ type: heard.bytes[4] as number, nsid: heard.nsid });
  }
  return all;
}

describe.runIf(canUseKernel())("system calls on Node", () => {
  const cleanup = new Cleanup();
  let node: Netns;
  let pod: Netns;

  beforeEach(async () => {
    node = await createNetns("sys", cleanup);
    pod = await createNetns("sys", cleanup);
  });

  afterEach(() => cleanup.run());

  test("a file's identity is the one that stat has", () => {
    const fd = sys.open(pod.path, O_RDONLY);
    try {
      expect(sys.fstat(fd).ino).toBe(BigInt(statSync(pod.path, { bigint: true }).ino));
    } finally {
      sys.close(fd);
    }
  });

  test("a visit to a namespace is over when it ends", () => {
    const here = statSync("/proc/thread-self/ns/net").ino;
    const there = visit(pod, () => statSync("/proc/thread-self/ns/net").ino);
    expect(there).toBe(statSync(pod.path).ino);
    expect(statSync("/proc/thread-self/ns/net").ino).toBe(here);
  });

  test("a call that fails names its errno", () => {
    expect(() => sys.open("/no/such/file", O_RDONLY)).toThrow(SysError);
    expect(() => sys.open("/no/such/file", O_RDONLY)).toThrow("open /no/such/file: ENOENT");
  });

  test("a listening socket hears its own namespace, and those at the other end of its links by their numbers", async () => {
    const socket = visit(node, () => ListeningSocket.open(NETLINK_ROUTE, [RTNLGRP_IPV4_IFADDR], 1 << 16));
    try {
      expect(listen(socket)).toEqual([]);
      await pod.ip("address", "add", "10.9.0.9/32", "dev", "lo");
      expect(listen(socket), "a namespace without a number").toEqual([]);
      await joinByCable(
        { netns: node, ifname: "host", addresses: ["10.9.0.1/32"] },
        { netns: pod, ifname: "eth0", addresses: ["10.9.0.2/32"] },
      );
      const [{ link_netnsid: nsid }] = JSON.parse(await node.ip("-json", "link", "show", "host"));
      expect(listen(socket)).toEqual([
        { type: RTM_NEWADDR, nsid: undefined },
        { type: RTM_NEWADDR, nsid },
      ]);
    } finally {
      socket.close();
    }
  });

  test("a listening socket says that something was lost, and goes on", async () => {
    const socket = visit(node, () => ListeningSocket.open(NETLINK_ROUTE, [RTNLGRP_IPV4_IFADDR], 2_304));
    try {
      const commands = Array.from({ length: 64 }, (_, i) => `address add 10.9.1.${i}/32 dev lo`);
      for (const command of commands) await node.ip(...command.split(" "));
      expect(() => listen(socket)).toThrow("recvmsg: ENOBUFS");
      expect(listen(socket).length).toBeGreaterThan(0);
      expect(listen(socket)).toEqual([]);
    } finally {
      socket.close();
    }
  });
});
