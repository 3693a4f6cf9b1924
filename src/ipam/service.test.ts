// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { attachmentKey } from "../net/names.ts";
import type { AllocationRequest } from "./plans.ts";
import { type AllocationRecord, isGateway, type PortMapping, type Snapshot } from "./records.ts";
import { type AttachmentEffects, IpamService } from "./service.ts";
import { parseSnapshot } from "./snapshot.ts";
import type { RecordStore } from "./store.ts";
import { Store } from "./store.ts";
import { attachment, BOOT_ID, prefixes, request, temporaryDirectory } from "./testing/fixtures.ts";
import { MemoryDisk, MemoryStore } from "./testing/memory-store.ts";

const REST = 120_000;
const START = 1_800_000_000_000;
const HISTORY = 7 * 86_400_000;

const PORT: PortMapping = { hostPort: 80, containerPort: 8080, protocol: "tcp", hostIp: "" };

/** Opens what was opened before, as after a restart of the daemon. */
type Open = () => Promise<{ store: RecordStore; snapshot: Snapshot }>;

async function memory(): Promise<Open> {
  const disk = new MemoryDisk();
  return async () => ({ store: new MemoryStore(disk), snapshot: disk.snapshot() });
}

async function levelDb(): Promise<Open> {
  const dir = await temporaryDirectory();
  let last: Store | undefined;
  onTestFinished(async () => last?.close());
  return async () => {
    await last?.close();
    const opened = await Store.open(dir);
    last = opened.store;
    return opened;
  };
}

describe.each([
  ["memory", memory],
  ["LevelDB", levelDb],
] as const)("on %s", (_, newDatabase) => {
  async function started(open: Open, ...subnets: string[]) {
    const clock = { nowMs: START };
    const { store, snapshot } = await open();
    const common = { cooldownMs: REST, historyMs: HISTORY, bootId: BOOT_ID, now: () => clock.nowMs };
    const options = { subnets: prefixes(...subnets), ...common };
    return { clock, store, service: await IpamService.start(store, snapshot, options) };
  }

  test("an attachment keeps its addresses over retries and restarts, until it is released", async () => {
    const open = await newDatabase();
    const first = await started(open, "10.0.0.0/24", "fd00::/64");
    const given = await first.service.allocate(request("a"));
    expect(given).toEqual({
      addresses: ["10.0.0.1", "fd00::1"],
      subnets: ["10.0.0.0/24", "fd00::/64"],
      gateways: [],
      existed: false,
      restCutShort: false,
      pool: "default",
      takenFrom: [],
    });
    expect(await first.service.allocate(request("a"))).toEqual({ ...given, existed: true });

    const second = await started(open, "10.0.0.0/24", "fd00::/64");
    expect(await second.service.allocate(request("a"))).toEqual({ ...given, existed: true });
    expect(await second.service.allocate(request("b"))).toMatchObject({ addresses: ["10.0.0.2", "fd00::2"] });
    expect(await second.service.release(attachment("a"))).toEqual({ addresses: given.addresses, readded: false });
    expect(await second.service.release(attachment("a"))).toEqual({ addresses: [], readded: false });

    const third = await started(open, "10.0.0.0/24", "fd00::/64");
    expect((await third.service.list()).allocations).toMatchObject([{ attachment: attachment("b"), bootId: BOOT_ID }]);
    expect((await third.service.list()).subnets).toMatchObject([
      { used: 1, cooling: 1 },
      { used: 1, cooling: 1 },
    ]);
  });

  test("a hundred requests at once get a hundred addresses, and their retries the same ones", async () => {
    const open = await newDatabase();
    const { service } = await started(open, "10.0.0.0/24");
    const names = Array.from({ length: 100 }, (_, i) => `c${i}`);
    const first = await Promise.all([...names, ...names].map((name) => service.allocate(request(name))));
    expect(new Set(first.slice(0, 100).map((one) => one.addresses[0])).size).toBe(100);
    expect(first.slice(100).map((one) => one.addresses)).toEqual(first.slice(0, 100).map((one) => one.addresses));
    expect(first.map((one) => one.existed)).toEqual([...names.map(() => false), ...names.map(() => true)]);
  });

  test("requests for one attachment are served in their order", async () => {
    const open = await newDatabase();
    const { service, store } = await started(open, "10.0.0.0/24");
    const [added, deleted, readded, deletedAgain] = await Promise.all([
      service.allocate(request("a")),
      service.release(attachment("a")),
      service.allocate(request("a")),
      service.release(attachment("a")),
    ]);
    expect(added).toMatchObject({ existed: false, addresses: ["10.0.0.1"] });
    expect(deleted.addresses).toEqual(["10.0.0.1"]);
    expect(readded).toMatchObject({ existed: false, addresses: ["10.0.0.2"] });
    expect(deletedAgain.addresses).toEqual(["10.0.0.2"]);
    expect((await store.reopen()).allocations.size).toBe(0);
  });

  test("an exhausted subnet is refused by name, and an address that rests is used early rather than none", async () => {
    const open = await newDatabase();
    const { service, clock } = await started(open, "10.0.0.0/31");
    await service.allocate(request("a"));
    await service.allocate(request("b"));
    await expect(service.allocate(request("c"))).rejects.toMatchObject({
      code: "IPAM_EXHAUSTED",
      message: expect.stringContaining("no IPv4 address is left in 10.0.0.0/31 (2 of 2 in use), held by: 2 default"),
    });
    await service.release(attachment("b"));
    clock.nowMs += REST - 1;
    expect(await service.allocate(request("c"))).toMatchObject({
      addresses: ["10.0.0.1"],
      existed: false,
      restCutShort: true,
    });
  });

  test("who held an address is known after restarts, with the present holder first, and to the millisecond", async () => {
    const open = await newDatabase();
    const all = { address: "10.0.0.1", fromMs: 0, toMs: Number.MAX_SAFE_INTEGER, limit: 10, after: undefined };
    const first = await started(open, "10.0.0.0/32", "10.0.0.1/32");
    const at = (ms: number) => ({ ...all, fromMs: ms, toMs: ms });
    const want = (name: string) => request(name, { requestedAddresses: ["10.0.0.1"] });
    await first.service.allocate(want("a"));
    first.clock.nowMs += 1000;
    await first.service.release(attachment("a"));
    first.clock.nowMs += 1000;
    await first.service.allocate(want("b"));
    const { service, clock } = await started(open, "10.0.0.0/32", "10.0.0.1/32");
    clock.nowMs += 3000;
    await service.release(attachment("b"), clock.nowMs);
    await service.allocate(want("c"));
    const holders = async (query: typeof all) =>
      (await service.history(query)).tenures.map(({ attachment: { containerId } }) => containerId);
    expect((await service.history(all)).tenures).toEqual([
      { ...common("c"), allocatedAtMs: START + 3000, releasedAtMs: undefined, cause: "" },
      { ...common("b"), allocatedAtMs: START + 2000, releasedAtMs: START + 3000, cause: "journal" },
      { ...common("a"), allocatedAtMs: START, releasedAtMs: START + 1000, cause: "del" },
    ]);
    expect(await holders(at(START - 1))).toEqual([]);
    expect(await holders(at(START))).toEqual(["a"]);
    expect(await holders(at(START + 1000))).toEqual(["a"]);
    expect(await holders(at(START + 1001))).toEqual([]);
    expect(await holders(at(START + 2500))).toEqual(["b"]);
    expect(await holders(at(START + 9999))).toEqual(["c"]);
    expect(await holders({ ...all, address: "10.0.0.0" })).toEqual([]);
    expect(await holders({ ...all, fromMs: START + 1, toMs: START + 2000 })).toEqual(["b", "a"]);
    function common(name: string) {
      return { address: "10.0.0.1", attachment: attachment(name), pod: want(name).pod };
    }
  });

  test("a clock that is set back, or stands still, loses nothing of the past", async () => {
    const open = await newDatabase();
    const whole = { address: undefined, fromMs: 0, toMs: Number.MAX_SAFE_INTEGER, limit: 1000, after: undefined };
    let before: string[] = [];
    for (const [life, offsetMs] of [0, -86_400_000, 0, -1000].entries()) {
      const { service, clock } = await started(open, "10.0.0.0/31");
      clock.nowMs += offsetMs;
      for (let i = 0; i < 3; i++) {
        await service.allocate(request(`${life}-${i}`));
        await service.release(attachment(`${life}-${i}`));
        before = [`${life}-${i}`, ...before];
      }
      await service.allocate(request(`${life}-back`));
      clock.nowMs -= 500;
      await service.release(attachment(`${life}-back`));
      before = [`${life}-back`, ...before];
      const { tenures } = await service.history(whole);
      expect(tenures.map(({ attachment: { containerId } }) => containerId)).toEqual(before);
      // The tenure over which the clock was set back is found at both of its ends.
      for (const ms of [clock.nowMs, clock.nowMs + 500]) {
        const then = await service.history({ ...whole, fromMs: ms, toMs: ms });
        expect(then.tenures[0]?.attachment.containerId).toBe(`${life}-back`);
      }
      expect(await service.pruneHistory()).toBe(0);
    }
  });

  test("the past is dropped once it is old, the rest of it stays", async () => {
    const open = await newDatabase();
    const whole = { address: undefined, fromMs: 0, toMs: Number.MAX_SAFE_INTEGER, limit: 1000, after: undefined };
    const { service, clock } = await started(open, "10.0.0.0/24");
    const cycle = async (name: string) => {
      await service.allocate(request(name));
      await service.release(attachment(name));
    };
    for (let i = 0; i < 250; i++) await cycle(`old-${i}`);
    expect(await service.pruneHistory()).toBe(0);
    clock.nowMs += HISTORY;
    await cycle("young");
    clock.nowMs += 1;
    expect(await service.pruneHistory()).toBe(250);
    expect((await service.history(whole)).tenures).toMatchObject([{ attachment: attachment("young") }]);
    // The addresses' rest is another matter.
    expect((await service.counts()).subnets[0]).toMatchObject({ used: 0, free: 253 });
  });

  test("nothing is kept of the past where it is not wanted, not even of what was kept before", async () => {
    const open = await newDatabase();
    const first = await started(open, "10.0.0.0/24");
    await first.service.allocate(request("a"));
    await first.service.release(attachment("a"));
    const { store, snapshot } = await open();
    const service = await IpamService.start(store, snapshot, { subnets: prefixes("10.0.0.0/24"), bootId: BOOT_ID });
    await service.allocate(request("b"));
    await service.release(attachment("b"));
    expect(await service.pruneHistory()).toBe(1);
    const whole = { address: undefined, fromMs: 0, toMs: Number.MAX_SAFE_INTEGER, limit: 10, after: undefined };
    expect((await service.history(whole)).tenures).toEqual([]);
  });

  test("release records of a subnet that is gone leave the database once rested", async () => {
    const open = await newDatabase();
    const first = await started(open, "10.0.0.0/24");
    await first.service.allocate(request("a"));
    await first.service.release(attachment("a"));
    const { store, snapshot } = await open();
    expect(snapshot.released.size).toBe(1);
    await IpamService.start(store, snapshot, {
      subnets: prefixes("10.9.0.0/24"),
      cooldownMs: REST,
      bootId: BOOT_ID,
      now: () => START + REST,
    });
    expect((await store.reopen()).released.size).toBe(0);
  });

  test("a closed service refuses everything", async () => {
    const open = await newDatabase();
    const { service } = await started(open, "10.0.0.0/24");
    await service.close();
    await expect(service.allocate(request("a"))).rejects.toMatchObject({ code: "IPAM_CLOSED" });
    await expect(service.release(attachment("a"))).rejects.toMatchObject({ code: "IPAM_CLOSED" });
    await expect(service.list()).rejects.toMatchObject({ code: "IPAM_CLOSED" });
    await expect(service.get(attachment("a"))).rejects.toMatchObject({ code: "IPAM_CLOSED" });
    await expect(service.counts()).rejects.toMatchObject({ code: "IPAM_CLOSED" });
  });

  test("any mix of simultaneous requests and restarts agrees with a model that serves one at a time", async () => {
    const names = fc.constantFrom("a", "b", "c", "d", "e");
    const operation = fc.record({ kind: fc.constantFrom("allocate", "allocate", "release"), name: names });
    const rounds = fc.array(fc.array(operation, { maxLength: 8 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(rounds, async (all) => {
        const open = await newDatabase();
        const held = new Map<string, string>();
        for (const round of all) {
          const { service } = await started(open, "10.0.0.0/30", "fd00::/64");
          await Promise.all(
            round.map(async ({ kind, name }) => {
              if (kind === "release") {
                const { addresses } = await service.release(attachment(name));
                expect(addresses.join(" ")).toBe(held.get(name) ?? "");
                held.delete(name);
                return;
              }
              try {
                const { addresses, existed } = await service.allocate(request(name));
                expect(existed).toBe(held.has(name));
                if (existed) expect(addresses.join(" ")).toBe(held.get(name));
                held.set(name, addresses.join(" "));
              } catch (error) {
                expect(error).toMatchObject({ code: "IPAM_EXHAUSTED" });
              }
            }),
          );
          const listed = (await service.list()).allocations;
          expect(new Map(listed.map((one) => [one.attachment.containerId, one.addresses.join(" ")]))).toEqual(held);
          expect(new Set([...held.values()].flatMap((text) => text.split(" "))).size).toBe(2 * held.size);
        }
      }),
      { numRuns: newDatabase === memory ? 200 : 12 },
    );
  }, 30_000);
});

test("the list is in the order of the keys, whatever the order of the requests", async () => {
  const { service } = atOnce();
  for (const name of ["c", "a", "b"]) await service.allocate(request(name));
  await service.allocate(request("a"));
  expect((await service.list()).allocations.map((one) => one.attachment.containerId)).toEqual(["a", "b", "c"]);
});

test("one attachment can be asked for, and an unknown one is an error that names it", async () => {
  const { service } = atOnce();
  await service.allocate(request("a", { portMappings: [PORT] }));
  expect(await service.get(attachment("a"))).toMatchObject({ addresses: ["10.0.0.1"], portMappings: [PORT] });
  await expect(service.get(attachment("b"))).rejects.toMatchObject({
    code: "IPAM_UNKNOWN",
    message: "attachment pods/b/eth0 has no address",
  });
});

test.for<[title: string, wish: Partial<AllocationRequest>, code: string, message: string]>([
  [
    "an address of another attachment",
    { requestedAddresses: ["10.0.0.1"] },
    "IPAM_TAKEN",
    "requested address 10.0.0.1 is held by pods/a/eth0 (pod default/pod-a)",
  ],
  [
    "an address of the network's gateway",
    { requestedAddresses: ["10.0.0.3"] },
    "IPAM_TAKEN",
    "requested address 10.0.0.3 is held by the gateway of network pods",
  ],
  [
    "an address of no subnet",
    { requestedAddresses: ["10.0.1.1"] },
    "IPAM_OUT_OF_RANGE",
    "requested address 10.0.1.1 is in none of this node's subnets: 10.0.0.0/24",
  ],
  [
    "an address of a family without subnet",
    { requestedAddresses: ["fd00::1"] },
    "IPAM_OUT_OF_RANGE",
    "requested address fd00::1 is of a family that this node has no subnet of",
  ],
  [
    "the broadcast address",
    { requestedAddresses: ["10.0.0.255"] },
    "IPAM_OUT_OF_RANGE",
    "requested address 10.0.0.255 is not one that 10.0.0.0/24 gives out: it is reserved",
  ],
  [
    "a port of another attachment",
    { portMappings: [{ hostPort: 80, containerPort: 8080, protocol: "tcp", hostIp: "10.9.9.9" }] },
    "IPAM_TAKEN",
    "tcp port 80 of 10.9.9.9 is taken: pods/a/eth0 (pod default/pod-a) has tcp port 80 of every address",
  ],
  [
    "another address than it has",
    { requestedAddresses: ["10.0.0.9"], attachment: attachment("b") },
    "IPAM_PRECONDITION",
    "pods/b/eth0 has 10.0.0.2 already and asks for 10.0.0.9",
  ],
])("%s is refused in words, and nothing is given", async ([, wish, code, message]) => {
  const { service } = atOnce();
  await service.allocate(request("a", { portMappings: [PORT] }));
  await service.allocate(request("b", { pod: undefined }));
  await service.allocate(request("b", { pod: undefined, withGateway: true }));
  const before = await service.list();
  await expect(service.allocate(request("c", wish))).rejects.toMatchObject({ code, message });
  expect(await service.list()).toEqual(before);
});

test("an attachment and the gateway that is made for it are one synced write", async () => {
  const { service, disk } = atOnce();
  expect(await service.allocate(request("a", { withGateway: true }))).toMatchObject({
    addresses: ["10.0.0.2"],
    gateways: ["10.0.0.1"],
  });
  expect(disk.batches).toBe(1);
  expect([...disk.snapshot().allocations.keys()]).toEqual(["pods/gateway:10.0.0.1/", "pods/a/eth0"]);
});

test("networks that come at once and whose first write fails get gateways that are on disk", async () => {
  const { service, disk } = atOnce();
  disk.faults.push("before");
  const ask = () =>
    Promise.allSettled(["a", "b", "c"].map((name) => service.allocate(request(name, { withGateway: true }))));
  expect((await ask()).map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
  for (const outcome of await ask()) {
    expect(outcome).toMatchObject({ value: { gateways: ["10.0.0.1"], existed: false } });
  }
  expect(disk.snapshot().allocations.size).toBe(4);
});

test("a gateway is not retired", async () => {
  const { service } = atOnce();
  await service.allocate(request("a", { withGateway: true }));
  const [, gateway] = (await service.list()).allocations;
  expect(await service.retire(gateway as AllocationRecord)).toBe(false);
  expect((await service.list()).allocations).toHaveLength(2);
});

test("what is gone without a DEL is retired, unless it was added again since it was looked at", async () => {
  const { service, clock } = atOnce();
  await service.allocate(request("a"));
  const seen = await service.get(attachment("a"));
  clock.nowMs++;
  await service.allocate(request("a"));
  expect(await service.retire(seen)).toBe(false);
  expect(await service.retire(await service.get(attachment("a")))).toBe(true);
  expect(await service.retire(seen)).toBe(false);
  expect((await service.list()).allocations).toEqual([]);
});

test("what was added again in another boot is not retired for what was seen of it before", async () => {
  const { service, disk } = atOnce();
  await service.allocate(request("a"));
  const seen = await service.get(attachment("a"));
  // A clock without battery begins at the same time with every boot.
  const options = { subnets: prefixes("10.0.0.0/24"), bootId: "another", now: () => START };
  const next = new IpamService(new MemoryStore(disk), disk.snapshot(), options);
  await next.allocate(request("a"));
  expect(await next.retire(seen)).toBe(false);
});

describe("a guard", () => {
  /** Remembers whom it let in, in order; `gate` may keep it waiting or refuse. */
  function guarded() {
    const disk = new MemoryDisk();
    const told: string[] = [];
    const options: { gate: () => Promise<void> } = { gate: async () => {} };
    const service = new IpamService(new MemoryStore(disk), disk.snapshot(), {
      subnets: prefixes("10.0.0.0/24"),
      bootId: BOOT_ID,
      guard: {
        admit: async (record) => {
          const key = attachmentKey(record.attachment);
          told.push(`${key} ${disk.snapshot().allocations.has(key) ? "durable" : "not yet"}`);
          await options.gate();
        },
        dismiss: (record) => {
          const key = attachmentKey(record.attachment);
          told.push(`${key} ${disk.snapshot().allocations.has(key) ? "still there" : "gone"}`);
        },
      },
    });
    return { disk, told, options, service };
  }

  test("knows of an attachment when it is durable, before the answer, and of its end when that is", async () => {
    const { service, told, options } = guarded();
    const gate = Promise.withResolvers<void>();
    options.gate = () => gate.promise;
    const outcome = outcomeOf(service.allocate(request("a")));
    await quiet();
    expect([told, outcome]).toEqual([["pods/a/eth0 durable"], {}]);
    gate.resolve();
    await quiet();
    expect(outcome.value).toMatchObject({ existed: false });
    await service.allocate(request("a"));
    await service.release(attachment("a"));
    await service.release(attachment("a"));
    expect(told).toEqual(["pods/a/eth0 durable", "pods/a/eth0 durable", "pods/a/eth0 gone"]);
  });

  test("that refuses fails the ADD, which leaves nothing that it made", async () => {
    const { service, told, options, disk } = guarded();
    options.gate = () => Promise.reject(new Error("not today"));
    await expect(service.allocate(request("a"))).rejects.toMatchObject({
      code: "IPAM_EFFECT",
      message: "the policies of pods/a/eth0 could not be enforced: not today",
    });
    expect(disk.snapshot().allocations.size).toBe(0);
    expect(told).toEqual(["pods/a/eth0 durable", "pods/a/eth0 gone"]);
  });

  test("that refuses an attachment which was there before takes nothing from it", async () => {
    const { service, options, disk } = guarded();
    await service.allocate(request("a"));
    options.gate = () => Promise.reject(new Error("not today"));
    await expect(service.allocate(request("a"))).rejects.toMatchObject({ code: "IPAM_EFFECT" });
    expect(disk.snapshot().allocations.size).toBe(1);
  });
});

describe("effects", () => {
  const WITH_PORT = { portMappings: [PORT] };

  test("leave no connection of an address that somebody had before when it is given again, and cost others nothing", async () => {
    const { service, effects } = atOnce();
    const { addresses } = await service.allocate(request("a"));
    await service.allocate(request("a"));
    await service.release(attachment("a"));
    await service.allocate(request("b"));
    expect(effects.forgotten).toEqual([]);
    const gate = Promise.withResolvers<void>();
    effects.gate = () => gate.promise;
    let answered = false;
    const given = service.allocate(request("c", { requestedAddresses: addresses })).then(() => (answered = true));
    await new Promise((later) => setTimeout(later, 10));
    expect(answered).toBe(false);
    gate.resolve();
    await given;
    expect(effects.forgotten).toEqual(addresses);
  });

  test("are set when the record is durable, before it is spoken of, and cleared before it is gone", async () => {
    const { service, effects, disk } = atOnce();
    const onDisk: boolean[] = [];
    effects.look = () => void onDisk.push(disk.snapshot().allocations.has("pods/a/eth0"));
    const gate = Promise.withResolvers<void>();
    effects.gate = () => gate.promise;
    const told = outcomeOf(service.allocate(request("a", WITH_PORT)));
    await quiet();
    expect(told).toEqual({});
    gate.resolve();
    await quiet();
    expect(told.value).toMatchObject({ existed: false });
    expect([...effects.kernel]).toEqual([["pods/a/eth0", [PORT]]]);
    await service.release(attachment("a"));
    expect(effects.kernel.size).toBe(0);
    expect(onDisk).toEqual([true, true]);
    expect(disk.snapshot().allocations.size).toBe(0);
  });

  test("are of no concern to attachments without ports", async () => {
    const { service, effects } = atOnce();
    effects.failing = true;
    await service.allocate(request("a"));
    await service.release(attachment("a"));
  });

  test("follow the ports of a retried ADD", async () => {
    const { service, effects } = atOnce();
    await service.allocate(request("a", WITH_PORT));
    const other = { ...PORT, hostPort: 81 };
    await service.allocate(request("a", { portMappings: [other] }));
    expect([...effects.kernel]).toEqual([["pods/a/eth0", [other]]]);
    await service.allocate(request("a"));
    expect(effects.kernel.size).toBe(0);
    expect(await service.get(attachment("a"))).toMatchObject({ portMappings: [] });
  });

  test("that fail take the allocation back, durably, and are the reason that is told", async () => {
    const { service, effects, disk } = atOnce();
    effects.failing = true;
    await expect(service.allocate(request("a", WITH_PORT))).rejects.toMatchObject({
      code: "IPAM_EFFECT",
      message: "the ports of pods/a/eth0 could not be set up: the kernel says no",
      cause: { message: "the kernel says no" },
    });
    expect(disk.snapshot().allocations.size).toBe(0);
    effects.failing = false;
    expect(await service.allocate(request("b", WITH_PORT))).toMatchObject({ existed: false });
  });

  test("that are not there any more are told with the record, in turn with ADD and DEL of the attachment", async () => {
    const { service, effects } = atOnce();
    const gate = Promise.withResolvers<void>();
    effects.gate = () => gate.promise;
    const added = service.allocate(request("a", WITH_PORT));
    const meanwhile = service.check(attachment("a"));
    gate.resolve();
    await added;
    expect(await meanwhile).toMatchObject({ record: { addresses: ["10.0.0.1"], ...WITH_PORT }, problems: [] });
    effects.kernel.clear();
    expect(await service.check(attachment("a"))).toMatchObject({ record: WITH_PORT, problems: ["port 80 is lost"] });
    expect(effects.kernel.size).toBe(0);
    await service.allocate(request("b"));
    expect(await service.check(attachment("b"))).toMatchObject({ problems: [] });
    await expect(service.check(attachment("c"))).rejects.toMatchObject({ code: "IPAM_UNKNOWN" });
  });

  test("that can't be looked at are no agreement", async () => {
    const { service, effects } = atOnce();
    await service.allocate(request("a", WITH_PORT));
    effects.failing = true;
    await expect(service.check(attachment("a"))).rejects.toMatchObject({
      code: "IPAM_EFFECT",
      message: "the ports of pods/a/eth0 could not be checked: the kernel says no",
    });
  });

  test("that fail for an attachment that existed leave it with its addresses", async () => {
    const { service, effects } = atOnce();
    await service.allocate(request("a"));
    effects.failing = true;
    await expect(service.allocate(request("a", WITH_PORT))).rejects.toMatchObject({ code: "IPAM_EFFECT" });
    expect(await service.get(attachment("a"))).toMatchObject({ addresses: ["10.0.0.1"], ...WITH_PORT });
  });

  test("that can't be cleared are told in the log, and the release happens all the same", async () => {
    const { service, effects, disk, lines } = atOnce();
    await service.allocate(request("a", WITH_PORT));
    effects.failing = true;
    expect(await service.release(attachment("a"))).toMatchObject({ addresses: ["10.0.0.1"] });
    expect(disk.snapshot().allocations.size).toBe(0);
    expect(lines).toEqual(["the ports of an attachment could not be taken away"]);
  });

  test("that fail while the disk fails too leave what a DEL can take back", async () => {
    const { service, effects, disk, lines } = atOnce();
    effects.look = () => {
      disk.faults.push("before");
      effects.look = () => {};
    };
    effects.failing = true;
    await expect(service.allocate(request("a", WITH_PORT))).rejects.toMatchObject({ code: "IPAM_EFFECT" });
    expect(lines).toContain("an allocation that failed could not be taken back");
    expect(await service.release(attachment("a"))).toMatchObject({ addresses: ["10.0.0.1"] });
    expect(disk.snapshot().allocations.size).toBe(0);
  });

  test("whose clearing outlasts a failed write of another attachment do not bring their record back", async () => {
    const { service, effects, disk } = atOnce();
    await service.allocate(request("a", WITH_PORT));
    const gate = Promise.withResolvers<void>();
    effects.gate = () => gate.promise;
    const released = outcomeOf(service.release(attachment("a")));
    disk.faults.push("after");
    await expect(service.allocate(request("b"))).rejects.toMatchObject({ code: "IPAM_STORE" });
    gate.resolve();
    await quiet();
    expect(released.value).toMatchObject({ addresses: ["10.0.0.1"] });
    expect([...disk.snapshot().allocations.keys()]).toEqual(["pods/b/eth0"]);
    expect((await service.list()).subnets).toMatchObject([{ used: 1, cooling: 1 }]);
  });

  test("agree with the disk after any sequence of requests, effects that fail among them", async () => {
    const step = fc.record({
      kind: fc.constantFrom("allocate" as const, "allocate" as const, "release" as const),
      name: fc.constantFrom("a", "b", "c"),
      port: fc.constantFrom(80, 81, undefined),
      failing: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(step, { maxLength: 4 }), { maxLength: 12 }), async (rounds) => {
        const { service, effects, disk } = atOnce();
        for (const round of rounds) {
          // One answer for all that are under way at once.
          effects.failing = round[0]?.failing ?? false;
          await Promise.allSettled(
            round.map(({ kind, name, port }) => {
              const portMappings = port === undefined ? [] : [{ ...PORT, hostPort: port }];
              return kind === "release"
                ? service.release(attachment(name))
                : service.allocate(request(name, { portMappings }));
            }),
          );
          const records = [...disk.snapshot().allocations].filter(([, { portMappings }]) => portMappings.length > 0);
          const onDisk = new Map(records.map(([key, { portMappings }]) => [key, portMappings]));
          // Nobody is without the ports that its record has, unless the kernel said no, and then the record tells it.
          for (const [key, ports] of onDisk)
            if (!effects.refused.has(key)) expect(effects.kernel.get(key)).toEqual(ports);
          // Whatever is there without a record could not be cleared.
          for (const key of effects.kernel.keys()) if (!effects.refused.has(key)) expect(onDisk.has(key)).toBe(true);
          const taken = [...onDisk.values()].flat().map(({ hostPort }) => hostPort);
          expect(new Set(taken).size).toBe(taken.length);
        }
      }),
      { numRuns: 150 },
    );
  });
});

/** The node's ports as a kernel would have them, and the ways in which it may fail. */
class MemoryEffects implements AttachmentEffects {
  readonly kernel = new Map<string, readonly PortMapping[]>();
  /** Attachments whose latest call failed. */
  readonly refused = new Set<string>();
  failing = false;
  gate = async () => {};
  look = () => {};
  readonly forgotten: string[] = [];

  async set(record: AllocationRecord): Promise<void> {
    await this.#enter(record);
    this.kernel.set(attachmentKey(record.attachment), record.portMappings);
  }

  async clear(record: AllocationRecord): Promise<void> {
    await this.#enter(record);
    this.kernel.delete(attachmentKey(record.attachment));
  }

  async check({ attachment, portMappings }: AllocationRecord): Promise<string[]> {
    if (this.failing) throw new Error("the kernel says no");
    const held = this.kernel.get(attachmentKey(attachment)) ?? [];
    return portMappings.filter((port) => !held.includes(port)).map(({ hostPort }) => `port ${hostPort} is lost`);
  }

  async forgetNow(addresses: readonly string[]): Promise<void> {
    await this.gate();
    this.forgotten.push(...addresses);
  }

  async #enter(record: AllocationRecord): Promise<void> {
    const key = attachmentKey(record.attachment);
    this.look();
    await this.gate();
    if (this.failing) this.refused.add(key);
    else this.refused.delete(key);
    if (this.failing) throw new Error("the kernel says no");
  }
}

/** A service with effects whose writes happen at once. */
function atOnce() {
  const disk = new MemoryDisk();
  const clock = { nowMs: START };
  const effects = new MemoryEffects();
  const lines: string[] = [];
  const service = new IpamService(new MemoryStore(disk), disk.snapshot(), {
    subnets: prefixes("10.0.0.0/24"),
    cooldownMs: REST,
    bootId: BOOT_ID,
    now: () => clock.nowMs,
    effects,
    log: { error: (_, message) => void lines.push(message) },
  });
  return { disk, clock, effects, lines, service };
}

/** A service whose writes wait until the test lets them go. */
function held(disk = new MemoryDisk(), ...subnets: string[]) {
  const waiting: (() => void)[] = [];
  const store = new MemoryStore(disk, () => new Promise((go) => waiting.push(go)));
  const service = new IpamService(store, disk.snapshot(), {
    subnets: prefixes(...(subnets.length > 0 ? subnets : ["10.0.0.0/24"])),
    cooldownMs: REST,
    bootId: BOOT_ID,
    now: () => START,
  });
  return { disk, store, service, waiting };
}

/** Everything that can go on without a write has gone on. */
async function quiet() {
  await new Promise((turn) => setImmediate(turn));
}

function outcomeOf<T>(promise: Promise<T>) {
  const outcome: { value?: T; error?: unknown } = {};
  promise.then(
    (value) => {
      outcome.value = value;
    },
    (error: unknown) => {
      outcome.error = error;
    },
  );
  return outcome;
}

test("neither the first request nor its retry nor the list speaks of an address before it is durable", async () => {
  const { service, waiting } = held();
  const first = outcomeOf(service.allocate(request("a")));
  const retry = outcomeOf(service.allocate(request("a")));
  await quiet();
  expect([first, retry]).toEqual([{}, {}]);
  expect((await service.list()).allocations).toEqual([]);
  expect(waiting).toHaveLength(1);
  waiting.shift()?.();
  await quiet();
  expect(first.value).toMatchObject({ addresses: ["10.0.0.1"], existed: false });
  expect((await service.list()).allocations).toHaveLength(1);
  waiting.shift()?.();
  await quiet();
  expect(retry.value).toMatchObject({ addresses: ["10.0.0.1"], existed: true });
});

test("an address whose release is not durable yet is still listed", async () => {
  const { service, waiting } = held();
  outcomeOf(service.allocate(request("a")));
  waiting.shift()?.();
  await quiet();
  const release = outcomeOf(service.release(attachment("a")));
  await quiet();
  expect((await service.list()).allocations).toHaveLength(1);
  expect(release).toEqual({});
  waiting.shift()?.();
  await quiet();
  expect((await service.list()).allocations).toEqual([]);
});

test("writers in flight share a synced write", async () => {
  const { service, waiting, disk } = held();
  const all = Array.from({ length: 32 }, (_, i) => service.allocate(request(`c${i}`)));
  for (let i = 0; i < 2; i++) {
    waiting.shift()?.();
    await quiet();
  }
  await Promise.all(all);
  expect(disk.batches).toBe(2);
});

test("a failed write hands nothing out, to anybody in line, and the addresses are free again", async () => {
  const { service, waiting, disk } = held();
  disk.faults.push("before");
  const outcomes = ["a", "b", "c"].map((name) => outcomeOf(service.allocate(request(name))));
  waiting.shift()?.();
  await quiet();
  for (const outcome of outcomes) {
    expect(outcome.error).toMatchObject({ code: "IPAM_STORE", message: "no space left on device" });
  }
  expect((await service.list()).subnets).toMatchObject([{ used: 0, cooling: 0 }]);
  const next = outcomeOf(service.allocate(request("c")));
  await quiet();
  waiting.shift()?.();
  await quiet();
  expect(next.value).toMatchObject({ addresses: ["10.0.0.1"], existed: false });
});

test("a write that failed but reached the disk is found there: the retry gets the same address, nobody else does", async () => {
  const { service, waiting, disk } = held();
  disk.faults.push("after");
  const first = outcomeOf(service.allocate(request("a")));
  waiting.shift()?.();
  await quiet();
  expect(first.error).toMatchObject({ code: "IPAM_STORE" });
  const other = outcomeOf(service.allocate(request("b")));
  const retry = outcomeOf(service.allocate(request("a")));
  for (let i = 0; i < 2; i++) {
    await quiet();
    waiting.shift()?.();
  }
  await quiet();
  expect(retry.value).toMatchObject({ addresses: ["10.0.0.1"], existed: true });
  expect(other.value).toMatchObject({ addresses: ["10.0.0.2"], existed: false });
});

test("a failed release that reached the disk is not taken back by a retried ADD", async () => {
  const { service, waiting, disk } = held();
  outcomeOf(service.allocate(request("a")));
  waiting.shift()?.();
  await quiet();
  disk.faults.push("after");
  const release = outcomeOf(service.release(attachment("a")));
  await quiet();
  waiting.shift()?.();
  await quiet();
  expect(release.error).toMatchObject({ code: "IPAM_STORE" });
  const again = outcomeOf(service.allocate(request("a")));
  await quiet();
  waiting.shift()?.();
  await quiet();
  expect(again.value).toMatchObject({ addresses: ["10.0.0.2"], existed: false });
  expect([...parseSnapshot(disk.entries).allocations.values()]).toMatchObject([{ addresses: ["10.0.0.2"] }]);
});

test("while the store cannot be opened again every request fails, and the first one after that succeeds", async () => {
  const disk = new MemoryDisk();
  disk.faults.push("before");
  disk.failingOpens = 2;
  const store = new MemoryStore(disk);
  const service = new IpamService(store, disk.snapshot(), { subnets: prefixes("10.0.0.0/24"), bootId: BOOT_ID });
  await expect(service.allocate(request("a"))).rejects.toMatchObject({ code: "IPAM_STORE" });
  await expect(service.release(attachment("a"))).rejects.toMatchObject({ message: "the disk is still full" });
  await expect(service.list()).rejects.toMatchObject({ code: "IPAM_STORE" });
  expect(await service.allocate(request("a"))).toMatchObject({ addresses: ["10.0.0.1"] });
});

test("closing waits for requests under way", async () => {
  const { service, waiting } = held();
  const under = outcomeOf(service.allocate(request("a")));
  const closed = outcomeOf(service.close().then(() => "closed"));
  await quiet();
  expect(closed).toEqual({});
  waiting.shift()?.();
  await quiet();
  expect(under.value).toMatchObject({ addresses: ["10.0.0.1"] });
  expect(closed.value).toBe("closed");
});

/**
 * The invariants, under any interleaving of requests with writes, write errors of both kinds, and crashes. What a test
 * can know of an attachment is what it was told last; "unsure" is one whose latest request failed or was never answered.
 */
test("no interleaving of requests, failing writes and crashes gives an address or a port twice or forgets one that was told", async () => {
  const names = fc.constantFrom("a", "b", "c", "d");
  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant("allocate" as const),
        name: names,
        portMappings: fc.constantFrom([], [], [PORT], [{ ...PORT, hostIp: "10.9.9.9" }]),
        withGateway: fc.boolean(),
      }),
    },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("release" as const), name: names }) },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant("write" as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("fault" as const),
        how: fc.constantFrom("before" as const, "after" as const),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash" as const) }) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("10.0.0.0/30", "10.0.0.0/29"),
      fc.array(step, { maxLength: 60 }),
      async (cidr, steps) => {
        const disk = new MemoryDisk();
        let life = held(disk, cidr);
        const told = new Map<string, string>();
        const pending = new Map<string, number>();
        const unsure = new Set<string>();
        /** Gateways that somebody was told. */
        const gatewaysTold = new Set<string>();

        const onDisk = () =>
          new Map([...disk.snapshot().allocations].map(([key, record]) => [key, record.addresses.join(" ")]));
        const gatewaysOnDisk = () =>
          [...disk.snapshot().allocations.values()]
            .filter((one) => isGateway(one.attachment))
            .flatMap((one) => one.addresses);
        /** Runs one request and keeps the books about it, unless its service dies first. */
        const ask = (name: string, work: (service: IpamService) => Promise<string | undefined>) => {
          const mine = life;
          const key = attachmentKey(attachment(name));
          pending.set(key, (pending.get(key) ?? 0) + 1);
          work(mine.service).then(
            (addresses) => {
              expect(mine).toBe(life);
              pending.set(key, (pending.get(key) ?? 0) - 1);
              // Durable before spoken.
              expect(onDisk().get(key)).toBe(addresses);
              unsure.delete(key);
              if (addresses === undefined) told.delete(key);
              else told.set(key, addresses);
            },
            (error: { code: string }) => {
              pending.set(key, (pending.get(key) ?? 0) - 1);
              expect(["IPAM_STORE", "IPAM_EXHAUSTED", "IPAM_TAKEN"]).toContain(error.code);
              if (error.code === "IPAM_STORE") unsure.add(key);
            },
          );
        };
        for (const one of steps) {
          if (one.kind === "allocate") {
            ask(one.name, async (service) => {
              const key = attachmentKey(attachment(one.name));
              const wish = { portMappings: one.portMappings, withGateway: one.withGateway };
              const { addresses, existed, gateways } = await service.allocate(request(one.name, wish));
              expect(gatewaysOnDisk()).toEqual(expect.arrayContaining([...gateways]));
              for (const gateway of gateways) gatewaysTold.add(gateway);
              // What was told is told again, unless something happened in between whose outcome nobody knows.
              if (!unsure.has(key)) expect(existed ? addresses.join(" ") : undefined).toBe(told.get(key));
              return addresses.join(" ");
            });
          }
          if (one.kind === "release") {
            ask(one.name, async (service) => {
              await service.release(attachment(one.name));
              return undefined;
            });
          }
          if (one.kind === "write") life.waiting.shift()?.();
          if (one.kind === "fault") disk.faults.push(one.how);
          if (one.kind === "crash") {
            life.store.crash();
            for (const [key, count] of pending) if (count > 0) unsure.add(key);
            pending.clear();
            life = held(disk, cidr);
          }
          await quiet();
          // Throws if an address has two holders.
          const now = onDisk();
          const onPort = [...disk.snapshot().allocations.values()].filter((one) => one.portMappings.length > 0);
          expect(onPort.length).toBeLessThanOrEqual(1);
          expect(gatewaysOnDisk()).toEqual(expect.arrayContaining([...gatewaysTold]));
          expect(gatewaysOnDisk().length).toBeLessThanOrEqual(1);
          for (const [key, addresses] of told) {
            if (!unsure.has(key) && (pending.get(key) ?? 0) === 0) expect(now.get(key)).toBe(addresses);
          }
        }
      },
    ),
    { numRuns: 300 },
  );
}, 30_000);

test("what nobody waits for any more is taken back before the next ADD's turn, and what was there before stays", async () => {
  const disk = new MemoryDisk();
  const options = { subnets: prefixes("10.0.0.0/24"), bootId: BOOT_ID, historyMs: 1000 };
  const service = new IpamService(new MemoryStore(disk), disk.snapshot(), options);
  const gone = async () => true;
  const [first, next] = await Promise.allSettled([
    service.allocate(request("a"), gone),
    service.allocate(request("a")),
  ]);
  expect(first).toMatchObject({ reason: { code: "IPAM_ABANDONED" } });
  expect(next).toMatchObject({ value: { existed: false } });
  expect(await service.allocate(request("a"), gone)).toMatchObject({ existed: true });
  expect((await service.list()).allocations).toMatchObject([{ attachment: attachment("a") }]);
  const all = { address: undefined, fromMs: 0, toMs: Number.MAX_SAFE_INTEGER, limit: 10, after: undefined };
  expect((await service.history(all)).tenures.map(({ cause }) => cause)).toEqual(["", "abandoned"]);
});
