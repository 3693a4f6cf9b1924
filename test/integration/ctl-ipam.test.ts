// SPDX-License-Identifier: Apache-2.0
//
// `flatnetctl ipam` as a person runs it, against a daemon with real attachments.

import { writeFileSync } from "node:fs";
import { createServer } from "node:http2";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LINK_GROUP } from "../../src/net/names.ts";
import { Cleanup, type Finished, runToEnd } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { built, createPod } from "../helpers/plugin.ts";

const ctl = (...args: string[]): Promise<Finished> => runToEnd([built("flatnetctl"), "ipam", ...args]);

describe.runIf(canUseKernel())("flatnetctl ipam", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;

  beforeAll(async () => {
    node = await createNode("ctl", cleanup, {
      podCidrs: ["10.79.4.0/28", "fd00:79:4::/120"],
      flags: ["--exclude", "10.79.4.10-10.79.4.11"],
    });
    await node.start();
    const [stays, goes] = [await createPod("stays", cleanup), await createPod("goes", cleanup)];
    const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }];
    const conf = { runtimeConfig: { portMappings } };
    for (const pod of [stays, goes]) expect((await node.add(pod, pod === stays ? conf : {})).status).toBe(0);
    expect((await node.del(goes)).status).toBe(0);
  });
  afterAll(async () => {
    await node.delAll();
    await cleanup.run();
  });

  test("show has each subnet's counts and picture, and who has which address", async () => {
    const { status, stdout, stderr } = await ctl("show", "--socket", node.socket);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain(
      "10.79.4.0/28: 1 used, 1 resting, 10 free of 12 addresses\n\n  10.79.4.0  -a~..... ..--...-\n",
    );
    expect(stdout).toContain("  fd00:79:4::    -a~..... ........ ........ ........\n");
    expect(stdout).toContain("\n  a  namespace tests (1)\n  ~  resting (1)\n  -  kept back\n  .  free\n");
    expect(stdout).toMatch(/\n10\.79\.4\.1 {5}tests\/t-stays-\S+ {2}t-stays-\S+ +\d+s +8080>80\/tcp\nfd00:79:4::1\n$/);
  });

  test("list has the holders only, and JSON is one document", async () => {
    const { stdout } = await ctl("list", `--socket=${node.socket}`);
    expect(stdout.split("\n")).toMatchObject(
      [/^ADDRESS /, /^10\.79\.4\.1 /, "fd00:79:4::1", ""].map((line) =>
        typeof line === "string" ? line : expect.stringMatching(line),
      ),
    );
    const shown = JSON.parse((await ctl("show", "--json", "--socket", node.socket)).stdout);
    expect(shown).toMatchObject({
      version: 1,
      subnets: [{ cidr: "10.79.4.0/28", used: 1, cooling: 1 }, { cidr: "fd00:79:4::/120" }],
      allocations: [{ network: "tests", addresses: ["10.79.4.1", "fd00:79:4::1"] }],
      resting: [{ address: "10.79.4.2" }, { address: "fd00:79:4::2" }],
    });
    expect(Date.parse(shown.resting[0].restsUntil) - Date.parse(shown.resting[0].releasedAt)).toBe(120_000);
  });

  test("history has who had an address, and who has it, at a time too", async () => {
    const socket = ["--socket", node.socket];
    const [stays, goes] = [
      await ctl("history", "10.79.4.1", ...socket),
      await ctl("history", "fd00:79:4:0::2", ...socket),
    ];
    expect(stays.stdout).toMatch(/^ADDRESS .*\n10\.79\.4\.1 {2}\S+ \S+ {2}now +tests\/t-stays-\S+ +t-stays-\S+\n$/);
    expect(goes.stdout).toMatch(
      /^ADDRESS .*\nfd00:79:4::2 {2}\S+ \S+ {2}\S+ \S+ {2}del {2}tests\/t-goes-\S+ +t-goes-\S+\n$/,
    );
    const all = JSON.parse((await ctl("history", "--json", ...socket)).stdout);
    expect(all.tenures.map(({ address }: { address: string }) => address).sort()).toEqual([
      "10.79.4.1",
      "10.79.4.2",
      "fd00:79:4::1",
      "fd00:79:4::2",
    ]);
    const [{ allocatedAt }] = all.tenures.filter(({ address }: { address: string }) => address === "10.79.4.1");
    expect((await ctl("history", "10.79.4.1", "--at", allocatedAt, ...socket)).stdout).toBe(stays.stdout);
    const before = await ctl("history", "10.79.4.1", "--at", "2020-01-01", ...socket);
    expect(before).toEqual({
      status: 0,
      stdout: "",
      stderr: "Nobody had 10.79.4.1 at 2020-01-01 00:00:00, as far as the daemon remembers.\n",
    });
    const odd = await ctl("history", "10.79.4", ...socket);
    expect(odd.status).toBe(1);
    expect(odd.stderr).toContain('address is "10.79.4"');
  });

  test("check is 0 when records and kernel agree, 1 with every difference, and 2 when it can't be known", async () => {
    const check = (...args: string[]) => ctl("check", ...args, "--socket", node.socket);
    expect(await check()).toEqual({ status: 0, stdout: "1 attachment and 1 host link agree.\n", stderr: "" });
    const link = ["flstray", "group", `${LINK_GROUP}`, "type", "veth", "peer", "name", "stray-peer"];
    await node.netns.ip("link", "add", ...link);
    try {
      const found = await check();
      expect(found.status).toBe(1);
      expect(found.stdout).toMatch(
        /^link-unknown {2}.*flstray.*\n\n1 difference between 1 attachment and 2 host links\.\n$/,
      );
      const told = await check("--json");
      expect(told.status).toBe(1);
      expect(JSON.parse(told.stdout)).toMatchObject({ findings: [{ kind: "link-unknown", hostIfname: "flstray" }] });
    } finally {
      await node.netns.ip("link", "delete", "flstray");
    }
    expect(await ctl("check", "--socket", "/nonexistent")).toMatchObject({ status: 2, stdout: "" });
  });

  test.for<[title: string, args: () => string[], message: RegExp]>([
    [
      "no socket",
      () => ["show", "--socket", "/nonexistent"],
      /there is no daemon here: the socket \/nonexistent doesn't/,
    ],
    ["a file that is no socket", () => ["show", "--socket", aFile()], /nobody listens on|is not the daemon's socket/],
    ["an unknown option", () => ["show", "--sock"], /Unknown option '--sock'/],
    ["a word too many", () => ["list", "all"], /"all" is one word too many/],
    ["a time that is none", () => ["history", "--at", "tea"], /"tea" is no time like 14:03/],
    ["an unknown command", () => ["frobnicate"], /there is no command "frobnicate"\nusage:/],
  ])("%s is exit status 2 and says what is wrong", async ([, args, message]) => {
    const { status, stdout, stderr } = await ctl(...args());
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(message);
  });

  const aFile = () => {
    const path = join(node.directory, "file");
    writeFileSync(path, "");
    return path;
  };

  test("a daemon that doesn't know the question is told to be older", async () => {
    const socket = join(node.directory, "old.sock");
    const old = createServer().on("stream", (stream) => {
      const unimplemented = { ":status": 200, "content-type": "application/grpc", "grpc-status": "12" };
      stream.respond(unimplemented, { endStream: true });
    });
    await new Promise<void>((listening) => old.listen(socket, listening));
    try {
      const { status, stderr } = await ctl("list", "--socket", socket);
      expect(status).toBe(2);
      expect(stderr).toContain("older than this flatnetctl: it doesn't know ListAllocations");
    } finally {
      await new Promise((closed) => old.close(closed));
    }
  });
});
