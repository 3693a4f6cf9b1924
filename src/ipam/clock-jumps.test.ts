// SPDX-License-Identifier: Apache-2.0
//
// A node's clock that is years off and set right, or set wrong: a battery that is empty, a bad time server. Whatever it does,
// no address has two holders, a pod that was added last keeps what it has, and nothing is lost for good.
import fc from "fast-check";
import { expect, test } from "vitest";
import { attachmentKey } from "../net/names.ts";
import { IpamService } from "./service.ts";
import { attachment, BOOT_ID, prefixes, request } from "./testing/fixtures.ts";
import { MemoryDisk, MemoryStore } from "./testing/memory-store.ts";

const START = 1_800_000_000_000;
const YEAR_MS = 365 * 86_400_000;
const REST_MS = 120_000;
const NAMES = ["a", "b", "c"];
/** An address for each. */
const SUBNETS = ["10.0.0.0/31", "10.0.0.2/32"];

/** A node whose daemon is restarted, and what its runtime knows: who was added last, and who was deleted. */
class Node {
  readonly #disk = new MemoryDisk();
  nowMs = START;
  service = this.#open();
  readonly living = new Map<string, readonly string[]>();
  /** DELs that found no daemon, by container ID, with the time. */
  readonly #notes = new Map<string, number>();

  #open(): IpamService {
    const now = () => this.nowMs;
    const options = { subnets: prefixes(...SUBNETS), cooldownMs: REST_MS, historyMs: YEAR_MS, bootId: BOOT_ID, now };
    return new IpamService(new MemoryStore(this.#disk), this.#disk.snapshot(), options);
  }

  async add(name: string): Promise<void> {
    this.nowMs++;
    const { addresses } = await this.service.allocate(request(name));
    this.living.set(name, addresses);
  }

  async delete(name: string): Promise<void> {
    this.nowMs++;
    await this.service.release(attachment(name));
    this.living.delete(name);
  }

  noteDeletion(name: string): void {
    this.nowMs++;
    this.#notes.set(name, this.nowMs);
    this.living.delete(name);
  }

  /** The journal is worked off before anything is served. */
  async restart(): Promise<void> {
    await this.service.close();
    this.service = this.#open();
    for (const [name, atMs] of this.#notes) await this.service.release(attachment(name), atMs);
    this.#notes.clear();
  }

  /** Gives up what is gone without a DEL, as the retirer does; that looks at no wall clock. */
  async retire(): Promise<void> {
    for (const record of (await this.service.list()).allocations) {
      if (!this.living.has(record.attachment.containerId)) await this.service.retire(record);
    }
  }

  async verify(): Promise<void> {
    const { allocations } = await this.service.list();
    const held = allocations.flatMap(({ addresses }) => addresses);
    expect(new Set(held).size).toBe(held.length);
    for (const [name, addresses] of this.living) {
      const record = allocations.find((one) => attachmentKey(one.attachment) === attachmentKey(attachment(name)));
      expect({ name, addresses: record?.addresses }).toEqual({ name, addresses });
    }
  }
}

const name = fc.constantFrom(...NAMES);
const years = fc.integer({ min: -20, max: 20 }).map((count) => count * YEAR_MS);
/** With jumps of the clock in between, the one while the daemon is down included. */
const step = fc.oneof(
  fc.record({ kind: fc.constant("add" as const), name }),
  fc.record({ kind: fc.constant("delete" as const), name }),
  fc.record({ kind: fc.constant("delete while down" as const), names: fc.subarray(NAMES), jumpMs: years }),
  fc.record({ kind: fc.constant("jump" as const), jumpMs: years }),
  fc.record({ kind: fc.constant("retire" as const) }),
);

test("no jump of the clock gives an address to two, takes one from a living pod, or loses one for good", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const node = new Node();
      for (const one of steps) {
        switch (one.kind) {
          case "add":
            await node.add(one.name);
            break;
          case "delete":
            await node.delete(one.name);
            break;
          case "delete while down":
            for (const gone of one.names) node.noteDeletion(gone);
            node.nowMs = Math.max(1, node.nowMs + one.jumpMs);
            await node.restart();
            break;
          case "jump":
            node.nowMs = Math.max(1, node.nowMs + one.jumpMs);
            break;
          case "retire":
            await node.retire();
        }
        await node.verify();
      }
      // All pods end; whatever the clock says, their addresses can be given out again.
      for (const gone of NAMES) node.living.delete(gone);
      await node.retire();
      node.nowMs += REST_MS;
      for (const again of NAMES) await node.add(again);
      await node.verify();
    }),
  );
});

test.for([-10, 10])("a clock that is set by %i years ends no rest that is due after it", async (count) => {
  const node = new Node();
  await node.add("a");
  await node.delete("a");
  node.nowMs = START + count * YEAR_MS;
  await node.restart();
  const [first] = (await node.service.counts()).subnets;
  node.nowMs += REST_MS;
  const [after] = (await node.service.counts()).subnets;
  expect([first?.cooling, after?.cooling]).toEqual([count < 0 ? 1 : 0, 0]);
});
