// SPDX-License-Identifier: Apache-2.0
import fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FootprintRecord } from "../footprint/record.ts";
import type { Family } from "../net/address.ts";
import { enableForwarding } from "./sysctls.ts";

const fail = (error: unknown) => {
  throw error;
};
const BOOT = "b-1";

let root: string;
let stateDir: string;
beforeEach(() => {
  stateDir = fs.mkdtempSync(join(tmpdir(), "flatnet-sysctls-state-"));
  root = fs.mkdtempSync(join(tmpdir(), "flatnet-sysctls-"));
  set("ipv4/ip_forward", "0");
  set("ipv4/conf/all/accept_redirects", "1");
  for (const family of ["ipv4", "ipv6"]) {
    for (const name of ["all", "default", "lo", "eth0"]) set(`${family}/conf/${name}/forwarding`, "0");
  }
  set("ipv6/conf/all/forwarding", "0");
  for (const name of ["all", "default", "lo", "eth0"]) set(`ipv6/conf/${name}/accept_ra`, "1");
});
afterEach(() => {
  for (const directory of [root, stateDir]) fs.rmSync(directory, { recursive: true, force: true });
});

function set(sysctl: string, value: string): void {
  fs.mkdirSync(dirname(join(root, sysctl)), { recursive: true });
  fs.writeFileSync(join(root, sysctl), `${value}\n`);
}

function get(sysctl: string): string {
  return fs.readFileSync(join(root, sysctl), "utf8").trim();
}

const enable = (...families: Family[]) => enableInBoot(BOOT, ...families);

/** As a daemon does that has just been started. */
async function enableInBoot(bootId: string, ...families: Family[]): Promise<string[]> {
  return enableForwarding(new Set(families), await FootprintRecord.open(stateDir, fail), bootId, root);
}

const recorded = async () => (await FootprintRecord.open(stateDir, fail)).now.sysctls;

test("IPv4 alone leaves IPv6 alone", async () => {
  expect(await enable(4)).toEqual(["ipv4/ip_forward=1"]);
  expect([get("ipv4/ip_forward"), get("ipv6/conf/all/forwarding"), get("ipv6/conf/eth0/accept_ra")]).toEqual([
    "1",
    "0",
    "1",
  ]);
});

test("IPv6 alone leaves IPv4 alone", async () => {
  await enable(6);
  expect([get("ipv4/ip_forward"), get("ipv6/conf/all/forwarding")]).toEqual(["0", "1"]);
});

test("interfaces that listen to routers go on listening, the others are left as they are", async () => {
  set("ipv6/conf/eth1/accept_ra", "0");
  set("ipv6/conf/eth2/accept_ra", "2");
  set("ipv6/conf/eth0.100/accept_ra", "1");
  expect((await enable(4, 6)).sort()).toEqual([
    "ipv4/ip_forward=1",
    "ipv6/conf/all/forwarding=1",
    "ipv6/conf/eth0.100/accept_ra=2",
    "ipv6/conf/eth0/accept_ra=2",
  ]);
  const now = ["all", "default", "lo", "eth0", "eth0.100", "eth1", "eth2"].map((name) =>
    get(`ipv6/conf/${name}/accept_ra`),
  );
  expect(now).toEqual(["1", "1", "1", "2", "2", "0", "2"]);
});

test("what is right already is not written", async () => {
  await enable(4, 6);
  // A write of ours would have no line end.
  for (const sysctl of ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]) set(sysctl, "1");
  expect(await enable(4, 6)).toEqual([]);
  for (const sysctl of ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]) {
    expect(fs.readFileSync(join(root, sysctl), "utf8")).toBe("1\n");
  }
});

test("on a node that forwards already nobody's choice about routers is touched", async () => {
  set("ipv6/conf/all/forwarding", "1");
  expect(await enable(6)).toEqual([]);
  expect(get("ipv6/conf/eth0/accept_ra")).toBe("1");
});

test("an interface that goes away meanwhile stops nothing", async () => {
  fs.mkdirSync(join(root, "ipv6/conf/veth1"));
  expect(await enable(6)).toEqual(["ipv6/conf/eth0/accept_ra=2", "ipv6/conf/all/forwarding=1"]);
});

test.for<[families: Family[], gone: string, sysctl: string]>([
  [[4], "ipv4/ip_forward", "net.ipv4.ip_forward"],
  [[6], "ipv6", "net.ipv6.conf.all.forwarding"],
])("a kernel without the family is an error that names the sysctl", async ([families, gone, sysctl]) => {
  fs.rmSync(join(root, gone), { recursive: true });
  await expect(enable(...families)).rejects.toMatchObject({
    name: "SysctlError",
    code: "SYSCTL_FAILED",
    message: expect.stringContaining(`sysctl ${sysctl}: ENOENT`),
    cause: expect.objectContaining({ code: "ENOENT" }),
  });
});

test("a sysctl that can't be written is an error that names it", async () => {
  // A directory can be opened for reading only, by root as well.
  fs.rmSync(join(root, "ipv4/ip_forward"));
  fs.mkdirSync(join(root, "ipv4/ip_forward"));
  await expect(enable(4)).rejects.toThrow("sysctl net.ipv4.ip_forward: EISDIR");
});

test("what a sysctl was is on disk, with what the kernel changes along with it", async () => {
  set("ipv4/conf/eth0/forwarding", "1");
  await enable(4, 6);
  expect(await recorded()).toEqual([
    {
      sysctl: "ipv4/ip_forward",
      before: "0",
      after: "1",
      bootId: BOOT,
      along: [
        { sysctl: "ipv4/conf/eth0/forwarding", before: "1", after: "1" },
        { sysctl: "ipv4/conf/all/accept_redirects", before: "1", after: "0" },
      ],
    },
    { sysctl: "ipv6/conf/eth0/accept_ra", before: "1", after: "2", bootId: BOOT, along: [] },
    { sysctl: "ipv6/conf/all/forwarding", before: "0", after: "1", bootId: BOOT, along: [] },
  ]);
});

test("it is on disk before it is changed: what can't be written down is not done", async () => {
  fs.rmSync(stateDir, { recursive: true });
  fs.writeFileSync(stateDir, "no directory");
  await expect(enable(4)).rejects.toThrow();
  expect(get("ipv4/ip_forward")).toBe("0");
});

test("a daemon that finds its own value keeps in mind what was before it", async () => {
  await enable(4);
  await enable(4);
  expect(await recorded()).toMatchObject([{ sysctl: "ipv4/ip_forward", before: "0", after: "1" }]);
});

test("with another boot what was before is what that boot had", async () => {
  await enable(4, 6);
  for (const sysctl of ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]) set(sysctl, "0");
  set("ipv6/conf/eth0/accept_ra", "0");
  await enableInBoot("b-2", 4, 6);
  expect((await recorded()).map(({ sysctl, bootId }) => `${sysctl} ${bootId}`)).toEqual([
    "ipv4/ip_forward b-2",
    "ipv6/conf/all/forwarding b-2",
  ]);
});
