// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { type BgpNode, planSessions } from "./sessions.ts";
import { parseProtocols, SessionWatch } from "./state.ts";
import { node, settings } from "./testing/cluster.ts";

const NODES = [node(1, [4]), node(2, [4])] as const;
const { sessions } = planSessions(settings(), NODES[0] as BgpNode, NODES);

function state(info: string) {
  return [{ id: "peer_172_31_0_2", established: info === "Established", info }];
}

test("BGP's protocols are sessions, with BIRD's words about them", () => {
  const texts = [
    "device1    Device     ---        up     20:56:26.144  ",
    "peer_172_31_0_2 BGP        ---        up     20:56:26.990  Established   ",
    "peer_fd00_31__2 BGP        ---        start  20:56:26.144  Active        Socket: No route to host",
  ];
  expect(parseProtocols({ lines: texts.map((text) => ({ code: 1002, text })) })).toEqual([
    { id: "peer_172_31_0_2", established: true, info: "Established" },
    { id: "peer_fd00_31__2", established: false, info: "Active Socket: No route to host" },
  ]);
});

test("a session that comes up is news once, and so is one that goes down", () => {
  const watch = new SessionWatch();
  const news = (info: string) => watch.look(sessions, state(info)).map(({ text }) => text);
  expect(news("Connect")).toEqual([]);
  expect(news("Established")).toEqual(["BGP with 172.31.0.2 (node-2) is up"]);
  expect(news("Established")).toEqual([]);
  expect(news("Active Socket: Connection refused")).toEqual([
    "BGP with 172.31.0.2 (node-2) went down: Active Socket: Connection refused",
  ]);
});

test("a session that doesn't come up is news after a while, once, with the reason", () => {
  const watch = new SessionWatch();
  const news = Array.from({ length: 20 }, () => watch.look(sessions, state("Idle"))).flat();
  expect(news).toEqual([
    {
      level: "warn",
      text:
        "BGP with 172.31.0.2 (node-2) is not up: its address is on none of this node's links; " +
        "a router between the two has to be a peer",
    },
  ]);
});

test("a session that BIRD doesn't have is not up", () => {
  const watch = new SessionWatch();
  const news = Array.from({ length: 20 }, () => watch.look(sessions, [])).flat();
  expect(news.map(({ text }) => text)).toEqual(["BGP with 172.31.0.2 (node-2) is not up: not in BIRD"]);
});
