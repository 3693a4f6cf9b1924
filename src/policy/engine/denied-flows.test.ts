// SPDX-License-Identifier: Apache-2.0
//
// What becomes of real connections is in test/integration/policy.test.ts.
import { expect, test } from "vitest";
import type { Reply } from "../../netlink/event-loop.ts";
import type { Message, Request } from "../../netlink/message.ts";
import type { RulesetChange } from "../ruleset.ts";
import { DeniedFlows, suspectsOf } from "./denied-flows.ts";

const NOTHING: RulesetChange = {
  ...{ newSets: [], newChains: [], replacedChains: [] },
  ...{ elements: [], goneChains: [], goneSets: [] },
};

test("the pods that other rules are for now are suspects, and peers that were allowed, but none that came", () => {
  const change: RulesetChange = {
    ...NOTHING,
    elements: [
      { set: "ingress4", remove: ["10.0.0.2"], add: [{ key: "10.0.0.3", chain: "c" }] },
      { set: "pods4_aa", remove: ["10.0.0.4"], add: [{ key: "10.0.0.5" }] },
      { set: "reach4_bb", remove: ["10.0.0.6 . tcp . 80"], add: [{ key: "10.0.0.7 . tcp . 81" }] },
    ],
  };
  expect([...suspectsOf(change)].sort()).toEqual(["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6"]);
  expect([...suspectsOf(change, new Set(["10.0.0.3", "10.0.0.2"]))].sort()).toEqual(["10.0.0.4", "10.0.0.6"]);
});

/** A connection in a dump, of TCP: `to` is whom it leads to, `called` what its first packet was sent to. */
function flow({ from, called, to, port }: { from: number[]; called: number[]; to: number[]; port: number }): Message {
  const attribute = (type: number, ...value: number[]) => {
    const padding = new Array((4 - (value.length & 3)) & 3).fill(0);
    return [value.length + 4, 0, type & 0xff, type >> 8, ...value, ...padding];
  };
  const NESTED = 0x8000;
  const tuple = (type: number, source: number[], destination: number[], ports: [number, number]) =>
    attribute(
      type | NESTED,
      ...attribute(1 | NESTED, ...attribute(1, ...source), ...attribute(2, ...destination)),
      ...attribute(2 | NESTED, ...attribute(1, 6), ...attribute(2, 0, ports[0]), ...attribute(3, 0, ports[1])),
    );
  const body = [2, 0, 0, 0, ...tuple(1, from, called, [99, 80]), ...tuple(2, to, from, [port, 99])];
  return { type: 1 << 8, flags: 0, seq: 0, body: Uint8Array.from(body) };
}

const CLIENT = [10, 0, 0, 2];
const WEB = [10, 0, 0, 3];
const SERVICE = [10, 96, 0, 1];
const NODE = [192, 0, 2, 1];

function flowsOf(dump: readonly Message[], allows: (text: string) => boolean) {
  const judged: string[] = [];
  let deleted = 0;
  const netlink = {
    dump: async () => [...dump],
    submit: async (requests: readonly Request[]): Promise<Reply[]> => {
      deleted += requests.length;
      return requests.map((request) => ({ request, answers: [], error: undefined }));
    },
  };
  const flows = new DeniedFlows(netlink, {
    judge:
      () =>
      ({ source, destination, protocol, port }, hook) => {
        const text = `${source} ${destination} ${protocol} ${port} ${hook}`;
        judged.push(text);
        return allows(text);
      },
    onError: (error) => {
      throw error;
    },
    tracked: async () => dump.length,
    settleMs: 0,
    nodeAddresses: () => new Set([NODE.join(".")]),
  });
  return { flows, judged, deleted: () => deleted };
}

test("a connection is judged by whom it leads to, whatever it called", async () => {
  const dump = [flow({ from: CLIENT, called: SERVICE, to: WEB, port: 81 })];
  const { flows, judged, deleted } = flowsOf(dump, () => false);
  flows.end("all");
  await flows.idle();
  expect(judged).toEqual(["10.0.0.2 10.0.0.3 6 81 forward"]);
  expect(deleted()).toBe(1);
});

test("connections of others than the suspects are left alone, and those that are allowed", async () => {
  const dump = [
    flow({ from: CLIENT, called: WEB, to: WEB, port: 80 }),
    flow({ from: WEB, called: SERVICE, to: SERVICE, port: 80 }),
  ];
  const { flows, judged, deleted } = flowsOf(dump, () => true);
  flows.end(new Set(["10.0.0.2", "10.0.0.9", "10.0.0.10", "10.0.0.11", "10.0.0.12"]));
  await flows.idle();
  expect(judged).toEqual(["10.0.0.2 10.0.0.3 6 80 forward"]);
  expect(deleted()).toBe(0);
});

test("what goes to the node itself isn't judged, and what comes from it is as what it sends", async () => {
  const dump = [
    flow({ from: CLIENT, called: NODE, to: NODE, port: 80 }),
    flow({ from: NODE, called: WEB, to: WEB, port: 80 }),
  ];
  const { flows, judged } = flowsOf(dump, () => true);
  flows.end("all");
  await flows.idle();
  expect(judged).toEqual(["192.0.2.1 10.0.0.3 6 80 output"]);
});

test("without suspects nothing is asked of the kernel", async () => {
  const { flows, judged } = flowsOf([flow({ from: CLIENT, called: WEB, to: WEB, port: 80 })], () => false);
  flows.end(new Set());
  await flows.idle();
  expect(judged).toEqual([]);
});
