// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { entriesOf, entryId, type PortMapping, type PortRecord } from "./entries.ts";
import { HostPortError } from "./errors.ts";

const V4 = "10.77.1.2";
const V6 = "fd00:77:1::2";

function record(mapping: Partial<PortMapping>, addresses = [V4, V6]): PortRecord {
  const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: "", ...mapping }];
  return { attachment: { network: "n", containerId: "c", ifname: "eth0" }, addresses, portMappings };
}

/** The sets that a mapping is in, in order. */
function setsOf(mapping: Partial<PortMapping>, addresses?: string[]): string[] {
  return entriesOf(record(mapping, addresses)).map(({ set }) => set);
}

describe("a hostPort", () => {
  test("without an address is one of every address of the node, in each family that the pod has", () => {
    expect(setsOf({})).toEqual(["hostport4", "hostport6", "hairpin4", "hairpin6"]);
    expect(setsOf({}, [V4])).toEqual(["hostport4", "hairpin4"]);
    expect(setsOf({}, [V6])).toEqual(["hostport6", "hairpin6"]);
  });

  test.each([
    ["0.0.0.0", ["hostport4", "hairpin4"]],
    ["::", ["hostport6", "hairpin6"]],
    ["192.0.2.1", ["hostport4_on", "hairpin4"]],
    ["2001:db8::1", ["hostport6_on", "hairpin6"]],
    ["127.0.0.1", ["hostport4_on", "hairpin4"]],
  ])("on %s is one of that family", (hostIp, sets) => {
    expect(setsOf({ hostIp })).toEqual(sets);
  });

  test.each([
    ["tcp", 6],
    ["udp", 17],
    ["sctp", 132],
  ])("of %s is protocol %d, port and address in network order", (protocol, number) => {
    const [entry] = entriesOf(record({ protocol, hostPort: 0x1234, containerPort: 0x5678 }));
    expect([...(entry?.key ?? [])]).toEqual([number, 0, 0, 0, 0x12, 0x34, 0, 0]);
    expect([...(entry?.data ?? [])]).toEqual([10, 77, 1, 2, 0x56, 0x78, 0, 0]);
  });

  test.each([
    [{ protocol: "icmp" }, "hostPort 8080/icmp: the protocol is none of tcp, udp, sctp"],
    [{ hostPort: 0 }, "hostPort 0/tcp: 0 is no port"],
    [{ containerPort: 65_536 }, "hostPort 8080/tcp: 65536 is no port"],
    [{ hostIp: "node" }, 'hostPort 8080/tcp on node: "node" is not an IP address'],
    [{ hostIp: "fe80::7" }, "hostPort 8080/tcp on fe80::7: no packet to a link-local address is forwarded to a pod"],
    [{ hostIp: "::1" }, "hostPort 8080/tcp on ::1: no packet from ::1 can leave the node; 127.0.0.1 can be used"],
  ])("that can't be is refused with its own words: %j", (mapping, message) => {
    expect(() => entriesOf(record(mapping))).toThrow(new HostPortError("HOSTPORT_INVALID", message));
  });

  test("on an address of a family that the pod doesn't have is refused", () => {
    const message = "hostPort 8080/tcp on 2001:db8::1: the pod has no IPv6 address, only 10.77.1.2";
    expect(() => entriesOf(record({ hostIp: "2001:db8::1" }, [V4]))).toThrow(
      new HostPortError("HOSTPORT_INVALID", message),
    );
  });
});

test("a pod without hostPorts has no entries", () => {
  expect(entriesOf({ ...record({}), portMappings: [] })).toEqual([]);
});

test("entries differ in their names when they differ in set or key", () => {
  const mappings = [{}, { hostPort: 8081 }, { protocol: "udp" }, { hostIp: "192.0.2.1" }, { hostIp: "2001:db8::1" }];
  const ports = mappings.flatMap((mapping) => entriesOf(record(mapping)).filter(({ port }) => port !== undefined));
  expect(new Set(ports.map(entryId)).size).toBe(ports.length);
});
