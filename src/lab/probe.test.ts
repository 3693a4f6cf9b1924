// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { ownAddresses } from "./probe.ts";

test("an end's own addresses are those that others could use, each once", () => {
  const links = [
    { flags: ["LOOPBACK", "UP"], addr_info: [{ family: "inet", local: "127.0.0.1", scope: "host" }] },
    {},
    {
      flags: ["UP"],
      addr_info: [
        { family: "inet", local: "10.244.1.2", scope: "global" },
        { family: "inet6", local: "fd00:10:244:1:0::2", scope: "global" },
        { family: "inet6", local: "fe80::1", scope: "link" },
      ],
    },
    { flags: ["UP"], addr_info: [{ family: "inet", local: "10.244.1.2", scope: "global" }] },
  ];
  expect(ownAddresses(links)).toEqual([
    { address: "10.244.1.2", family: 4 },
    { address: "fd00:10:244:1::2", family: 6 },
  ]);
});
