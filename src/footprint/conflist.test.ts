// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { before, isConfiguration, isOurs, renderConflist } from "./conflist.ts";
import { partOf } from "./place.ts";

const INPUT = { socket: "/run/f.sock", journalDir: "/s/journal", chained: [] };

test("plugins of the configuration come behind flatnet, as they are", () => {
  const tuning = { type: "tuning", sysctl: { "net.core.somaxconn": "500" } };
  const { plugins } = JSON.parse(renderConflist({ ...INPUT, chained: [tuning] }));
  expect(plugins.map(({ type }: { type: string }) => type)).toEqual(["flatnet", "tuning"]);
  expect(plugins[1]).toEqual(tuning);
});

test("a list of ours is told from others and from what is no list", () => {
  expect(isOurs(renderConflist(INPUT))).toBe(true);
  for (const text of ["", "{", "null", "[]", '{"plugins":[]}', '{"plugins":[{"type":"bridge"},{"type":"flatnet"}]}']) {
    expect(isOurs(text)).toBe(false);
  }
});

test("of other networks those count that a runtime would take first", () => {
  const names = ["20-kindnet.conflist", "05-cilium.conflist", "10-Azure.conf", "00-readme.txt", "10-flatnet.conflist"];
  expect(before("10-flatnet.conflist", names)).toEqual(["05-cilium.conflist", "10-Azure.conf"]);
});

test("runtimes pass over a file under way", () => {
  expect(isConfiguration("10-flatnet.conflist")).toBe(true);
  expect(isConfiguration(partOf("10-flatnet.conflist"))).toBe(false);
});
