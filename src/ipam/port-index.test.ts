// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { describePort, PortIndex } from "./port-index.ts";
import type { PortMapping } from "./records.ts";

function port(hostPort: number, hostIp = "", protocol: PortMapping["protocol"] = "tcp"): PortMapping {
  return { hostPort, containerPort: 80, protocol, hostIp };
}

test.for<[held: string, wanted: string, conflict: boolean]>([
  ["", "", true],
  ["", "10.0.0.1", true],
  ["", "fd00::1", true],
  ["", "0.0.0.0", true],
  ["", "::", true],
  ["0.0.0.0", "10.0.0.1", true],
  ["0.0.0.0", "0.0.0.0", true],
  ["0.0.0.0", "::", false],
  ["0.0.0.0", "fd00::1", false],
  ["::", "fd00::1", true],
  ["::", "10.0.0.1", false],
  ["10.0.0.1", "10.0.0.1", true],
  ["10.0.0.1", "10.0.0.2", false],
  ["fd00::1", "fd00::1", true],
  ["fd00::1", "fd00::2", false],
])("a port on %j and the same port on %j: in each other's way is %j", ([held, wanted, conflict]) => {
  for (const [a, b] of [
    [held, wanted],
    [wanted, held],
  ] as const) {
    const index = new PortIndex();
    index.hold("a", [port(8080, a)]);
    expect(index.conflict("b", [port(8080, b)])).toEqual(
      conflict ? { wanted: port(8080, b), held: port(8080, a), holder: "a" } : undefined,
    );
  }
});

test("another port, another protocol and one's own ports are in nobody's way", () => {
  const index = new PortIndex();
  index.hold("a", [port(80), port(53, "10.0.0.1", "udp")]);
  expect(index.conflict("b", [port(81), port(80, "", "udp"), port(53), port(80, "", "sctp")])).toBeUndefined();
  expect(index.conflict("a", [port(80)])).toBeUndefined();
});

test("what is given back is free, and what others have on the same port stays theirs", () => {
  const index = new PortIndex();
  index.hold("a", [port(80, "10.0.0.1")]);
  index.hold("b", [port(80, "10.0.0.2")]);
  index.release("a", [port(80, "10.0.0.1")]);
  expect(index.conflict("c", [port(80, "10.0.0.1")])).toBeUndefined();
  expect(index.conflict("c", [port(80)])).toMatchObject({ holder: "b" });
});

test("a port is described for people", () => {
  expect(describePort(port(80))).toBe("tcp port 80 of every address");
  expect(describePort(port(53, "fd00::1", "udp"))).toBe("udp port 53 of fd00::1");
});

test("with any history no two attachments have one port of one address", () => {
  const mapping = fc.record({
    hostPort: fc.constantFrom(80, 81),
    containerPort: fc.constant(80),
    protocol: fc.constantFrom("tcp" as const, "udp" as const),
    hostIp: fc.constantFrom("", "0.0.0.0", "::", "10.0.0.1", "10.0.0.2", "fd00::1"),
  });
  const step = fc.record({ key: fc.constantFrom("a", "b", "c"), mappings: fc.array(mapping, { maxLength: 4 }) });
  /** The addresses of a node that a host address stands for. */
  const node = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"];
  const meant = (ip: string) =>
    node.filter((one) => ip === "" || ip === one || ip === (one.includes(":") ? "::" : "0.0.0.0"));
  const sockets = (mappings: readonly PortMapping[]) =>
    new Set(mappings.flatMap((one) => meant(one.hostIp).map((ip) => `${one.protocol} ${ip} ${one.hostPort}`)));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const index = new PortIndex();
      const held = new Map<string, readonly PortMapping[]>();
      for (const { key, mappings } of steps) {
        const others = new Set([...held].flatMap(([other, ports]) => (other === key ? [] : [...sockets(ports)])));
        const expected = [...sockets(mappings)].some((socket) => others.has(socket));
        expect(index.conflict(key, mappings) !== undefined).toBe(expected);
        if (expected) continue;
        index.release(key, held.get(key) ?? []);
        index.hold(key, mappings);
        held.set(key, mappings);
      }
    }),
  );
});
