// SPDX-License-Identifier: Apache-2.0
import fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { SysctlChange } from "./record.ts";
import { restoreSysctls } from "./restore-sysctls.ts";

const BOOT = "b-1";
const FORWARD = "ipv4/ip_forward";
const ETH0 = "ipv4/conf/eth0/forwarding";

let root: string;
beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), "flatnet-restore-"));
  set(FORWARD, "1");
  set(ETH0, "1");
});
afterEach(() => fs.rmSync(root, { recursive: true, force: true }));

function set(sysctl: string, value: string): void {
  fs.mkdirSync(dirname(join(root, sysctl)), { recursive: true });
  fs.writeFileSync(join(root, sysctl), `${value}\n`);
}

const get = (sysctl: string) => fs.readFileSync(join(root, sysctl), "utf8").trim();

const change = (more: Partial<SysctlChange> = {}): SysctlChange => ({
  sysctl: FORWARD,
  before: "0",
  after: "1",
  bootId: BOOT,
  along: [],
  ...more,
});

test("what the daemon changed has its value again, and once more is nothing more", async () => {
  expect(await restoreSysctls([change()], BOOT, root)).toEqual([{ sysctl: FORWARD, outcome: "restored", value: "0" }]);
  expect(get(FORWARD)).toBe("0");
  expect(await restoreSysctls([change()], BOOT, root)).toEqual([{ sysctl: FORWARD, outcome: "left", value: "0" }]);
});

test("what somebody has changed since is left", async () => {
  set(FORWARD, "2");
  expect(await restoreSysctls([change()], BOOT, root)).toMatchObject([{ outcome: "left", value: "2" }]);
  expect(get(FORWARD)).toBe("2");
});

test("of an earlier boot nothing is left to restore: its value now is somebody else's", async () => {
  expect(await restoreSysctls([change({ bootId: "b-0" })], BOOT, root)).toMatchObject([{ outcome: "gone" }]);
  expect(get(FORWARD)).toBe("1");
});

test("a link that is gone has taken its sysctls with it", async () => {
  const gone = change({ sysctl: "ipv6/conf/eth9/accept_ra", before: "1", after: "2" });
  expect(await restoreSysctls([gone, change()], BOOT, root)).toMatchObject([
    { outcome: "restored" },
    { outcome: "gone" },
  ]);
});

test("what the kernel changes along gets what it had, unless somebody has set it since", async () => {
  const redirects = "ipv4/conf/all/accept_redirects";
  set(redirects, "7");
  const along = [
    { sysctl: ETH0, before: "5", after: "1" },
    { sysctl: redirects, before: "1", after: "0" },
    { sysctl: "ipv4/conf/eth9/forwarding", before: "1", after: "1" },
  ];
  await restoreSysctls([change({ along })], BOOT, root);
  expect([get(FORWARD), get(ETH0), get(redirects)]).toEqual(["0", "5", "7"]);
});

test("the last change is undone first", async () => {
  set("a", "3");
  await restoreSysctls(
    [change({ sysctl: "a", before: "1", after: "2" }), change({ sysctl: "a", before: "2", after: "3" })],
    BOOT,
    root,
  );
  expect(get("a")).toBe("1");
});

test("one that can't be written is an error that names it", async () => {
  fs.rmSync(join(root, FORWARD));
  fs.mkdirSync(join(root, FORWARD));
  await expect(restoreSysctls([change()], BOOT, root)).rejects.toMatchObject({
    code: "FOOTPRINT_SYSCTL",
    message: expect.stringContaining("net.ipv4.ip_forward"),
  });
});
