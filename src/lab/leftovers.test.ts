// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { hostEnds, podRoutes } from "./leftovers.ts";

test("host ends are told from links of other programs by the shape of their names", () => {
  const names = ["lo", "eth0", "flabcdefgh234", "flannel.1", "fl0", "flannelbridge0", "veth12345678"];
  expect(hostEnds(names.map((ifname) => ({ ifname })))).toEqual(["flabcdefgh234"]);
});

test("pods' routes are those to a single host, not those of the node", () => {
  const routes = [
    { dst: "10.244.1.2", dev: "flabcdefgh234" },
    { dst: "10.244.2.0/24", gateway: "172.18.0.12" },
    { type: "unreachable", dst: "10.244.1.0/24" },
    { dst: "fd00:10:244:1::2", dev: "flabcdefgh234" },
    { dst: "default" },
  ];
  expect(podRoutes(routes)).toEqual(["10.244.1.2", "fd00:10:244:1::2"]);
});
