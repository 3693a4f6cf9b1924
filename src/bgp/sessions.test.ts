// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { formatAddress } from "../net/address.ts";
import { formatPrefix } from "../net/prefix.ts";
import { type BgpNode, describeSession, planSessions, routerId, type Session } from "./sessions.ts";
import { node, settings } from "./testing/cluster.ts";

const NODES = [node(1), node(2), node(3)] as const;
const sha256 = (text: string) => createHash("sha256").update(text).digest();

function plan(written: object, self: BgpNode, nodes: readonly BgpNode[] = NODES): string[] {
  return planSessions(settings(written), self, nodes).sessions.map(inWords);
}

/** "172.31.0.2 as 64512 takes 10.77.2.0/24", and what is special. */
function inWords({ address, asn, accept, client, bfd }: Session): string {
  const takes = accept === "any" ? "any" : accept.map(formatPrefix).join(" ");
  return `${formatAddress(address)} as ${asn} takes ${takes}${client ? ", client" : ""}${bfd ? ", BFD" : ""}`;
}

describe("the sessions of a node", () => {
  test("in a mesh are one with each other node and family, which may announce its own subnets alone", () => {
    expect(plan({}, NODES[0])).toEqual([
      "172.31.0.2 as 64512 takes 10.77.2.0/24",
      "fd00:31::2 as 64512 takes fd00:77:2::/64",
      "172.31.0.3 as 64512 takes 10.77.3.0/24",
      "fd00:31::3 as 64512 takes fd00:77:3::/64",
    ]);
  });

  test("are of the families that both ends have", () => {
    expect(plan({}, node(1, [4]), [node(1, [4]), node(2), node(3, [6])])).toEqual([
      "172.31.0.2 as 64512 takes 10.77.2.0/24",
    ]);
  });

  test("go to all of a mesh from a node that is not in the list of nodes", () => {
    expect(plan({}, node(9, [4]), [node(1, [4])])).toEqual(["172.31.0.1 as 64512 takes 10.77.1.0/24"]);
  });

  test("are with the reflector alone, which may announce what any other node has", () => {
    expect(plan({ reflectors: ["node-2"] }, NODES[0])).toEqual([
      "172.31.0.2 as 64512 takes 10.77.2.0/24 10.77.3.0/24",
      "fd00:31::2 as 64512 takes fd00:77:2::/64 fd00:77:3::/64",
    ]);
  });

  test("of a reflector are with all, other reflectors being no clients", () => {
    const v4 = [1, 2, 3].map((number) => node(number, [4]));
    expect(plan({ reflectors: ["node-1", "node-2"], bfd: true }, v4[0] as BgpNode, v4)).toEqual([
      "172.31.0.2 as 64512 takes 10.77.2.0/24 10.77.3.0/24, BFD",
      "172.31.0.3 as 64512 takes 10.77.3.0/24, client, BFD",
    ]);
  });

  test("are with routers alone where there are some, which may announce anything", () => {
    const peers = [
      { address: "172.31.0.254", asn: 64_513 },
      { address: "fd00:31::fe", asn: 64_512, bfd: false },
    ];
    expect(plan({ peers, bfd: true }, NODES[0])).toEqual([
      "172.31.0.254 as 64513 takes any, BFD",
      "fd00:31::fe as 64512 takes any",
    ]);
  });

  test("are one where a router is a reflector among the nodes too", () => {
    const peers = [{ address: "172.31.0.2", asn: 64_513 }];
    expect(plan({ peers, reflectors: ["node-2"] }, NODES[0])).toEqual([
      "172.31.0.2 as 64513 takes any",
      "fd00:31::2 as 64512 takes fd00:77:2::/64 fd00:77:3::/64",
    ]);
  });

  test("keep their names whatever happens to the others", () => {
    const ids = (nodes: readonly BgpNode[]) =>
      planSessions(settings(), NODES[0], nodes)
        .sessions.filter((session) => session.with === "node-3")
        .map(({ id }) => id);
    expect(ids(NODES)).toEqual(["peer_172_31_0_3", "peer_fd00_31__3"]);
    expect(ids([NODES[2], NODES[0]])).toEqual(ids(NODES));
  });

  test("with a reflector that is no node are none, and it is named", () => {
    expect(planSessions(settings({ reflectors: ["node-7"] }), NODES[0], NODES)).toEqual({
      sessions: [],
      problems: ["routes.bgp.reflectors names node-7, and there is no such node"],
    });
  });
});

describe("the router ID", () => {
  test("is the configured one, or the node's IPv4 address", () => {
    expect(routerId(settings({ routerId: "192.0.2.7" }), NODES[0], NODES, sha256)).toBe("192.0.2.7");
    expect(routerId(settings(), NODES[0], NODES, sha256)).toBe("172.31.0.1");
  });

  test("of a node without IPv4 follows from its name", () => {
    const [one, two] = [node(1, [6]), node(2, [6])];
    const id = routerId(settings(), one, [one, two], sha256);
    expect(id).toMatch(/^(\d{1,3}\.){3}\d{1,3}$/);
    expect(routerId(settings(), one, [two, one], sha256)).toBe(id);
    expect(routerId(settings(), two, [one, two], sha256)).not.toBe(id);
    expect(routerId(settings(), one, [], () => new Uint8Array(32))).toBe("0.0.0.1");
  });
});

test("a session is called by its address and by the node's name, where it has one", () => {
  const { sessions } = planSessions(settings({ peers: [{ address: "fd00::9", asn: 1 }] }), NODES[0], NODES);
  expect(sessions.map(describeSession)).toEqual(["fd00::9"]);
  const [first] = planSessions(settings(), NODES[0], NODES).sessions;
  expect(first && describeSession(first)).toBe("172.31.0.2 (node-2)");
});
