// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { Reply } from "../netlink/event-loop.ts";
import type { Message, Request } from "../netlink/message.ts";
import { type FlowTable, StaleFlows } from "./stale-flows.ts";

/** A kernel that deletes what it is told to, and remembers how it was told. */
class Kernel implements FlowTable {
  /** How many deletions each send had. */
  readonly sends: number[] = [];
  lists = 0;
  gate = async () => {};
  async submit(requests: readonly Request[]): Promise<Reply[]> {
    if (requests.length > 0) this.sends.push(requests.length);
    await this.gate();
    return requests.map((request) => ({ request, answers: [], error: undefined }));
  }
  async dump(): Promise<Message[]> {
    this.lists++;
    return [];
  }
}

function flowsIn(kernel: Kernel, tracked = 200_000): StaleFlows {
  const fail = (error: unknown) => {
    throw error;
  };
  return new StaleFlows(kernel, fail, async () => tracked);
}

const BOTH = ["10.77.1.2", "fd00:77:1::2"];

test("addresses that are given again cost one send for all of them, and no list", async () => {
  const kernel = new Kernel();
  await flowsIn(kernel).ofPodsNow(BOTH, false);
  // Each address as the one that begins and as the one that answers.
  expect(kernel).toMatchObject({ sends: [4], lists: 0 });
});

test("an address whose connections went after its release costs nothing when it is given again, once", async () => {
  const kernel = new Kernel();
  const flows = flowsIn(kernel);
  flows.ofPods(BOTH);
  await flows.idle();
  kernel.sends.length = 0;
  await flows.ofPodsNow(BOTH, false);
  expect(kernel.sends).toEqual([]);
  await flows.ofPodsNow(BOTH, false);
  expect(kernel.sends).toEqual([4]);
});

test("it does cost where packets to addresses that nobody has go somewhere", async () => {
  const kernel = new Kernel();
  const flows = flowsIn(kernel);
  flows.ofPods(BOTH);
  await flows.idle();
  kernel.sends.length = 0;
  await flows.ofPodsNow(BOTH, true);
  expect(kernel.sends).toEqual([4]);
});

test("an address that is given again before its former connections went keeps the new ones", async () => {
  const kernel = new Kernel();
  const gate = Promise.withResolvers<void>();
  kernel.gate = () => gate.promise;
  const flows = flowsIn(kernel);
  // Under way while the others wait for the next pass.
  flows.ofPods(["10.77.1.9"]);
  flows.ofPods(BOTH);
  const given = flows.ofPodsNow(BOTH, false);
  gate.resolve();
  await given;
  const { length } = kernel.sends;
  await flows.idle();
  expect(kernel.sends.slice(length)).toEqual([]);
});

test("nothing is sent where nothing is tracked", async () => {
  const kernel = new Kernel();
  await flowsIn(kernel, 0).ofPodsNow(BOTH, true);
  expect(kernel.sends).toEqual([]);
});

test("of many addresses that were given back at once all connections are listed once", async () => {
  const kernel = new Kernel();
  const flows = flowsIn(kernel);
  flows.ofPods(Array.from({ length: 50 }, (_, i) => `10.77.1.${i + 1}`));
  await flows.idle();
  expect(kernel).toMatchObject({ sends: [], lists: 1 });
});
