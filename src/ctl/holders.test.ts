// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { holdersTable, toJson } from "./holders.ts";
import { allocation, gateway } from "./testing/fixtures.ts";

const ID = "0123456789abcdef".repeat(4);
const attachment = { network: "flatnet", containerId: ID, ifname: "eth0" };

test("holders stand in the order of their addresses, with what people ask for", () => {
  const portMappings = [
    { hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: "" },
    { hostPort: 53, containerPort: 53, protocol: "udp", hostIp: "fd00::1" },
  ];
  const allocations = [
    allocation(["10.0.0.10"], "", { attachment: { ...attachment, containerId: "by-hand" } }),
    allocation(["10.0.0.9", "fd00::9"], "default/web", { attachment, portMappings, allocatedAtMs: 60_000n }),
    gateway("10.0.0.1"),
  ];
  expect(holdersTable(allocations, 180_000)).toEqual([
    "ADDRESS    POD                 CONTAINER     AGE  PORTS",
    "10.0.0.1   gateway of bridged  -             3m",
    "10.0.0.9   default/web         0123456789ab  2m   8080>80/tcp,[fd00::1]:53>53/udp",
    "fd00::9",
    "10.0.0.10  -                   by-hand       3m",
  ]);
});

test("interfaces are told when not all are eth0", () => {
  const allocations = [allocation(["10.0.0.9"], "default/web", { attachment: { ...attachment, ifname: "net1" } })];
  expect(holdersTable(allocations, 0)).toEqual([
    "ADDRESS   POD          CONTAINER     IF    AGE  PORTS",
    "10.0.0.9  default/web  0123456789ab  net1  0s",
  ]);
});

test("for a terminal, names of pods are cut in their middle so that the lines fit", () => {
  const allocations = [allocation(["10.0.0.9"], `default/${"workload-".repeat(6)}abcde`, { attachment })];
  const [, line = ""] = holdersTable(allocations, 0, 60);
  expect(line.length).toBeLessThanOrEqual(60);
  expect(line).toMatch(/^10\.0\.0\.9 {2}default\/workload\S*…\S*-abcde {2}0123456789ab {2}0s$/);
});

test("nobody is no table", () => {
  expect(holdersTable([], 0)).toEqual([]);
});

test("for programs a holder has its key, its pod or null, and the time in ISO 8601", () => {
  expect(toJson(allocation(["10.0.0.9"], "", { attachment }))).toEqual({
    ...attachment,
    pod: null,
    netns: "/run/netns/a",
    hostIfname: "fl0123456789a",
    addresses: ["10.0.0.9"],
    allocatedAt: "1970-01-01T00:00:00.000Z",
    portMappings: [],
  });
});
