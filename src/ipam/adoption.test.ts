// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { attachmentKey } from "../net/names.ts";
import { readAdoption } from "./adoption.ts";
import type { AdoptionRequest } from "./adoption-request.ts";
import { gatewayAttachment, parseAllocation, writesOf } from "./records.ts";
import { parseAdoptRequest, parseUndoAdoptionRequest } from "./requests.ts";
import { IpamService } from "./service.ts";
import { parseSnapshot } from "./snapshot.ts";
import { attachment, BOOT_ID, prefixes, request } from "./testing/fixtures.ts";
import { MemoryDisk, MemoryStore } from "./testing/memory-store.ts";

const START = 1_800_000_000_000;
const ADOPTION = { id: "0b0e5d9c-1", source: "host-local /var/lib/cni/networks/cbr0" };

function adopted(name: string, addresses: string[], more: Partial<AdoptionRequest> = {}): AdoptionRequest {
  return { attachment: attachment(name), pod: undefined, netns: "", addresses, adoption: ADOPTION, ...more };
}

/** A service on this disk, as after a restart. */
function serviceOn(disk: MemoryDisk): IpamService {
  return new IpamService(new MemoryStore(disk), disk.snapshot(), {
    subnets: prefixes("10.0.0.0/29", "fd00::/64"),
    cooldownMs: 120_000,
    historyMs: 86_400_000,
    bootId: BOOT_ID,
    now: () => START,
  });
}

test("an address that was taken over is its attachment's, across a restart, and nobody else gets it", async () => {
  const disk = new MemoryDisk();
  expect(await serviceOn(disk).adopt(adopted("old", ["10.0.0.1"]))).toBe(false);
  const service = serviceOn(disk);
  expect(await service.get(attachment("old"))).toMatchObject({
    addresses: ["10.0.0.1"],
    hostIfname: "",
    netns: "",
    bootId: BOOT_ID,
    adoption: ADOPTION,
  });
  expect((await service.allocate(request("new"))).addresses).toEqual(["10.0.0.2", "fd00::1"]);
  await expect(service.allocate(request("thief", { requestedAddresses: ["10.0.0.1"] }))).rejects.toThrow(/is held by/);
  expect(await service.release(attachment("old"))).toMatchObject({ addresses: ["10.0.0.1"] });
  expect((await service.list()).subnets[0]).toMatchObject({ used: 1, cooling: 1 });
});

test("the same again is success and changes nothing; other addresses, and those of others, are refused", async () => {
  const service = serviceOn(new MemoryDisk());
  await service.adopt(adopted("old", ["10.0.0.1", "fd00::1"]));
  const again = adopted("old", ["10.0.0.1", "fd00::1"], { adoption: { ...ADOPTION, id: "second" } });
  expect(await service.adopt(again)).toBe(true);
  expect((await service.get(attachment("old"))).adoption).toEqual(ADOPTION);
  await expect(service.adopt(adopted("old", ["10.0.0.1"]))).rejects.toMatchObject({ code: "IPAM_PRECONDITION" });
  const other = service.adopt(adopted("other", ["10.0.0.2", "fd00::1"]));
  await expect(other).rejects.toMatchObject({
    code: "IPAM_TAKEN",
    message: expect.stringContaining("fd00::1 is held"),
  });
  await expect(service.adopt(adopted("far", ["10.9.9.9"]))).rejects.toMatchObject({ code: "IPAM_OUT_OF_RANGE" });
  expect((await service.list()).allocations).toHaveLength(1);
});

test("undoing an adoption gives back what it took over and nothing else", async () => {
  const disk = new MemoryDisk();
  const service = serviceOn(disk);
  const gateway = gatewayAttachment("pods", "10.0.0.1");
  await service.adopt(adopted("", ["10.0.0.1"], { attachment: gateway }));
  await service.adopt(adopted("stays", ["10.0.0.2"]));
  await service.adopt(adopted("ends", ["10.0.0.3"]));
  await service.adopt(adopted("elsewhere", ["10.0.0.4"], { adoption: { ...ADOPTION, id: "other" } }));
  await service.release(attachment("ends"));
  // The same container once more, by flatnet's own ADD: its address is not the adoption's any more.
  await service.adopt(adopted("readded", ["10.0.0.5"]));
  await service.allocate(request("readded"));

  const released = await service.undoAdoption(ADOPTION.id);
  expect(released.map(({ addresses }) => addresses[0]).sort()).toEqual(["10.0.0.1", "10.0.0.2"]);
  expect(await service.undoAdoption(ADOPTION.id)).toEqual([]);
  const held = (await serviceOn(disk).list()).allocations.map(({ attachment: { containerId } }) => containerId);
  expect(held).toEqual(["elsewhere", "readded"]);
  // The gateway is none any more: whoever needs one gets it anew.
  const withGateway = await service.allocate(request("bridged", { withGateway: true }));
  expect(withGateway.gateways[0]).not.toBe(undefined);
  const query = { address: "10.0.0.2", fromMs: START, toMs: START, limit: 1, after: undefined };
  expect((await service.history(query)).tenures).toMatchObject([{ cause: "adoption-undone" }]);
});

test("a gateway that was taken over stays when its network is asked to give it up", async () => {
  const service = serviceOn(new MemoryDisk());
  const gateway = gatewayAttachment("pods", "10.0.0.1");
  await service.adopt(adopted("", ["10.0.0.1"], { attachment: gateway }));
  expect((await service.release(gateway)).addresses).toEqual([]);
  expect((await service.allocate(request("bridged", { withGateway: true }))).gateways[0]).toBe("10.0.0.1");
});

test("a record keeps how it was taken over; a mark that is none is refused with its key", async () => {
  const disk = new MemoryDisk();
  await serviceOn(disk).adopt(adopted("old", ["10.0.0.1"]));
  const key = `a/${attachmentKey(attachment("old"))}`;
  const record = parseAllocation(key, disk.entries.get(key) as string);
  expect(record).toMatchObject({ adoption: ADOPTION, extra: {} });
  const [write] = writesOf({ kind: "confirm", record });
  expect(write).toMatchObject({ value: disk.entries.get(key) });
  disk.entries.set(key, (disk.entries.get(key) as string).replace(ADOPTION.id, "not an id"));
  expect(() => parseSnapshot(disk.entries)).toThrow(/adoption is/);
  expect([undefined, null, "x", {}, { id: 1, source: "" }].map(readAdoption)).toEqual(Array(5).fill(undefined));
});

const message = {
  attachment: attachment("a"),
  pod: undefined,
  netns: "",
  addresses: ["fd00:0::1", "10.0.0.1"],
  adoption: ADOPTION,
};

test("a request is read once: addresses in canonical text, IPv4 first; a network alone is its gateway", () => {
  expect(parseAdoptRequest(message)).toMatchObject({ addresses: ["10.0.0.1", "fd00::1"], netns: "" });
  const network = { network: "pods", containerId: "", ifname: "" };
  expect(parseAdoptRequest({ ...message, attachment: network, addresses: ["10.0.0.1"] }).attachment).toEqual(
    gatewayAttachment("pods", "10.0.0.1"),
  );
});

test.for<[title: string, more: object, expected: RegExp]>([
  ["no address", { addresses: [] }, /^addresses is empty$/],
  ["no address at all", { addresses: ["x"] }, /^addresses\[0\] is "x"/],
  ["two of a family", { addresses: ["10.0.0.1", "10.0.0.2"] }, /at most one address a family/],
  ["a relative namespace", { netns: "run/netns/a" }, /^netns is "run/],
  ["no mark", { adoption: undefined }, /^adoption is missing$/],
  ["an ID with a slash", { adoption: { ...ADOPTION, id: "a/b" } }, /^adoption.id is "a\/b"/],
  ["a source of two lines", { adoption: { ...ADOPTION, source: "a\nb" } }, /^adoption.source is "a\\nb"/],
  ["half a key", { attachment: { network: "pods", containerId: "a", ifname: "" } }, /^attachment.ifname is empty$/],
  [
    "a gateway of two families",
    { attachment: { network: "pods", containerId: "", ifname: "" } },
    /^addresses is .*; it must be one for a gateway$/,
  ],
])("%s is refused with the field", ([, more, expected]) => {
  expect(() => parseAdoptRequest({ ...message, ...more })).toThrow(expected);
});

test("undoing wants an ID", () => {
  expect(() => parseUndoAdoptionRequest({ id: "" })).toThrow(/^id is ""/);
  expect(parseUndoAdoptionRequest({ id: ADOPTION.id })).toBe(ADOPTION.id);
});
