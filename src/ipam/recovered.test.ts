// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { AllocationRecord } from "./records.ts";
import { isRecovered, type KernelMark, planRecovery } from "./recovered.ts";
import { IpamService } from "./service.ts";
import { attachment, BOOT_ID, prefixes, request } from "./testing/fixtures.ts";
import { MemoryDisk, MemoryStore } from "./testing/memory-store.ts";

const NOW = 1_800_000_000_000;

function mark(name: string, ...addresses: string[]): KernelMark {
  return { hostIfname: request(name).hostIfname, alias: `flatnet:default/pod-${name}`, addresses };
}

async function started(disk = new MemoryDisk()) {
  const clock = { nowMs: NOW };
  const service = await IpamService.start(new MemoryStore(disk), disk.snapshot(), {
    ...{ subnets: prefixes("10.0.0.0/29", "fd00::/125"), bootId: BOOT_ID, now: () => clock.nowMs, historyMs: 1000 },
  });
  return { service, disk, clock };
}

async function held(service: IpamService): Promise<[holder: string, addresses: string][]> {
  const { allocations } = await service.list();
  return allocations.map(({ attachment: { containerId }, addresses }) => [containerId, addresses.join(" ")]);
}

test("addresses of links whose record is lost are nobody's to get, also after a restart, and say whose pod they were", async () => {
  const { service, disk } = await started();
  const { records, problems } = await service.recover([mark("a", "10.0.0.1", "fd00::1"), mark("b", "10.0.0.3")], NOW);
  expect(problems).toEqual([]);
  expect(records.map(({ pod }) => pod?.name)).toEqual(["pod-a", "pod-b"]);
  const restarted = await started(disk);
  for (const { service: one } of [restarted]) {
    await expect(one.allocate(request("x", { requestedAddresses: ["10.0.0.3"] }))).rejects.toMatchObject({
      code: "IPAM_TAKEN",
      message: expect.stringContaining("pod default/pod-b"),
    });
    const given: string[] = [];
    for (let i = 0; i < 4; i++) given.push(...(await one.allocate(request(`new-${i}`))).addresses);
    expect(given.filter((address) => ["10.0.0.1", "10.0.0.3", "fd00::1"].includes(address))).toEqual([]);
    await expect(one.allocate(request("more"))).rejects.toMatchObject({ code: "IPAM_EXHAUSTED" });
  }
});

test("an ADD of the attachment gets its addresses back, CHECK finds it, and DEL gives them back", async () => {
  const { service, disk } = await started();
  await service.recover([mark("a", "10.0.0.4", "fd00::4"), mark("b", "10.0.0.5"), mark("c", "10.0.0.6")], NOW);
  expect(await service.allocate(request("a"))).toMatchObject({ addresses: ["10.0.0.4", "fd00::4"], existed: true });
  expect((await service.check(attachment("b"))).record).toMatchObject({ attachment: attachment("b") });
  expect(await service.release(attachment("c"))).toMatchObject({ addresses: ["10.0.0.6"] });
  expect(await held(service)).toEqual([
    ["a", "10.0.0.4 fd00::4"],
    ["b", "10.0.0.5"],
  ]);
  expect([...disk.snapshot().allocations.keys()]).toEqual(["pods/a/eth0", "pods/b/eth0"]);
  const all = { address: "10.0.0.6", fromMs: 0, toMs: NOW * 2, limit: 10, after: undefined };
  expect((await service.history(all)).tenures).toMatchObject([{ attachment: attachment("c"), cause: "del" }]);
});

test("a DEL of the journal from before the link was seen is of an earlier life, one from after it counts", async () => {
  const { service, clock } = await started();
  await service.recover([mark("a", "10.0.0.1"), mark("b", "10.0.0.2")], NOW);
  clock.nowMs += 5000;
  expect(await service.release(attachment("a"), NOW - 1)).toEqual({ addresses: [], readded: true });
  expect(await service.release(attachment("b"), NOW + 1)).toMatchObject({ addresses: ["10.0.0.2"] });
});

test("one that is gone without a DEL can be retired as any other", async () => {
  const { service } = await started();
  await service.recover([mark("a", "10.0.0.1")], NOW);
  const [record] = (await service.list()).allocations as [AllocationRecord];
  expect(isRecovered(record.attachment)).toBe(true);
  expect(await service.retire(record)).toBe(true);
  expect(await held(service)).toEqual([]);
});

test("what the database knows is left alone, and contradictions are told", () => {
  const { requestedAddresses: _, withGateway: __, ...common } = request("a");
  const times = { allocatedAtMs: 1, confirmedAtMs: 1 };
  const known: AllocationRecord = { ...common, ...times, addresses: ["10.0.0.1"], bootId: BOOT_ID, extra: {} };
  const snapshot = { allocations: new Map([["pods/a/eth0", known]]), released: new Map() };
  const plan = (...marks: KernelMark[]) => planRecovery(snapshot, marks, BOOT_ID, NOW);
  expect(plan(mark("a", "10.0.0.1"), mark("b"))).toEqual({ records: [], problems: [] });
  expect(plan(mark("b", "10.0.0.1"))).toEqual({
    records: [],
    problems: [`10.0.0.1 is routed to ${request("b").hostIfname} and held by pods/a/eth0`],
  });
  expect(plan(mark("a", "10.0.0.1", "fd00::1"))).toEqual({
    records: [],
    problems: [`fd00::1 is routed to ${common.hostIfname}, whose attachment pods/a/eth0 has others`],
  });
  expect(plan(mark("b", "10.0.0.2"), mark("c", "10.0.0.2")).records.length).toBe(1);
});

test("a host link has one attachment", async () => {
  const { service } = await started();
  await service.allocate(request("a"));
  await expect(service.allocate({ ...request("b"), hostIfname: request("a").hostIfname })).rejects.toMatchObject({
    code: "IPAM_TAKEN",
    message: `host link ${request("a").hostIfname} is pods/a/eth0 (pod default/pod-a)'s`,
  });
  await service.allocate({ ...request("a"), hostIfname: "" });
  await service.allocate({ ...request("b"), hostIfname: request("a").hostIfname });
  await service.release(attachment("b"));
  await service.allocate(request("a"));
});
