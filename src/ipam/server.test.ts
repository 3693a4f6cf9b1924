// SPDX-License-Identifier: Apache-2.0

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, rename, stat, writeFile } from "node:fs/promises";
import { connect, createServer, type Server as NetServer } from "node:net";
import { dirname, join } from "node:path";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import type * as wire from "../gen/flatnet/ipam/v1/ipam.ts";
import { IpamError } from "./errors.ts";
import type { PodEnd } from "./pod-end.ts";
import type { PodWish, PodWishes } from "./pod-wishes.ts";
import { type IpamLog, serveIpam, toServiceDefinition } from "./server.ts";
import { IpamService } from "./service.ts";
import { parseSnapshot } from "./snapshot.ts";
import { claimSocket } from "./socket-claim.ts";
import { Store } from "./store.ts";
import { attachment, BOOT_ID, prefixes, request, temporaryDirectory } from "./testing/fixtures.ts";
import { MemoryDisk, MemoryStore } from "./testing/memory-store.ts";

interface Line {
  level: "info" | "warn" | "error";
  fields: object;
  message: string;
}

function memoryLog(): IpamLog & { lines: Line[] } {
  const lines: Line[] = [];
  const at = (level: Line["level"]) => (fields: object, message: string) => void lines.push({ level, fields, message });
  return { lines, info: at("info"), warn: at("warn"), error: at("error") };
}

async function served(
  options: {
    subnets?: string[];
    cooldownMs?: number;
    gate?: () => Promise<void>;
    disk?: MemoryDisk;
    wishes?: PodWishes;
  } = {},
) {
  const dir = await temporaryDirectory();
  const socketPath = join(dir, "ipam.sock");
  const disk = options.disk ?? new MemoryDisk();
  const service = new IpamService(new MemoryStore(disk, options.gate), disk.snapshot(), {
    subnets: prefixes(...(options.subnets ?? ["10.244.1.0/24", "fd00:10:244:1::/64"])),
    bootId: BOOT_ID,
    historyMs: 86_400_000,
    ...(options.cooldownMs === undefined ? {} : { cooldownMs: options.cooldownMs }),
  });
  const log = memoryLog();
  const synced = { value: false };
  const links = { removed: [] as string[], failure: undefined as Error | undefined };
  const server = await serveIpam({
    service,
    mtu: () => 1450,
    wishes: options.wishes,
    routesSynced: () => synced.value,
    kernelMarks: async () => [],
    nodeRoutes: async () => [],
    removeLink: async ({ containerId }) => {
      if (links.failure !== undefined) throw links.failure;
      links.removed.push(containerId);
    },
    socketPath,
    log,
    drainMs: 500,
  });
  onTestFinished(() => server.close());
  return { dir, socketPath, service, server, log, disk, synced, links, client: clientOf(socketPath) };
}

/** What a plugin sends, and a test leaves out what it is not about. */
type AllocateMessage = Partial<
  Omit<wire.AllocateRequest, "requestedAddresses" | "portMappings" | "aliases" | "podEnd"> & {
    requestedAddresses: readonly string[];
    aliases: readonly string[];
    portMappings: readonly wire.PortMapping[];
    podEnd: PodEnd | undefined;
  }
>;
const EMPTY = { pool: "", requestedAddresses: [], portMappings: [], withGateway: false, aliases: [] };

function clientOf(socketPath: string) {
  const client = new Client(`unix:${socketPath}`, credentials.createInsecure());
  onTestFinished(() => client.close());
  const definition = toServiceDefinition();
  const call =
    <Request, Response>(method: string) =>
    (message: Request): Promise<Response> => {
      const { path, requestSerialize, responseDeserialize } = definition[method] as (typeof definition)[string];
      return new Promise((resolve, reject) => {
        client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, (error, response) =>
          error === null ? resolve(response as Response) : reject(error),
        );
      });
    };
  return {
    allocate: (message: AllocateMessage) =>
      call<AllocateMessage, wire.AllocateResponse>("allocate")({ ...EMPTY, ...message }),
    detach: (message: wire.DetachRequest) => call<wire.DetachRequest, wire.DetachResponse>("detach")(message),
    release: (message: Partial<wire.ReleaseRequest>) =>
      call<Partial<wire.ReleaseRequest>, wire.ReleaseResponse>("release")({ cause: "", ...message }),
    history: (message: Partial<wire.GetHistoryRequest>) =>
      call<Partial<wire.GetHistoryRequest>, wire.GetHistoryResponse>("getHistory")({
        ...{ address: "", fromMs: 0n, toMs: 0n, pageSize: 0, pageToken: "" },
        ...message,
      }),
    get: call<wire.GetAllocationRequest, wire.GetAllocationResponse>("getAllocation"),
    status: call<wire.StatusRequest, wire.StatusResponse>("status"),
    resting: call<wire.ListRestingRequest, wire.ListRestingResponse>("listResting"),
    list: call<wire.ListAllocationsRequest, wire.ListAllocationsResponse>("listAllocations"),
  };
}

async function failureOf(promise: Promise<unknown>): Promise<ServiceError> {
  const failure = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(Error);
  return failure as ServiceError;
}

const MOST = 0xffff_ffff;

/** Counts of a subnet without pools: the default one has it all. */
function subnet({ cidr, reserved, ...counts }: Omit<wire.Subnet, "sticky" | "draining" | "pools">): wire.Subnet {
  const pools = [{ name: "default", ...counts, sticky: 0 }];
  return { cidr, ...counts, reserved, sticky: 0, draining: false, pools };
}

test("a client gets addresses of both families, the MTU, the same again, and gives them back", async () => {
  const { client } = await served();
  const first = await client.allocate(request("a"));
  expect(first).toEqual({
    addresses: ["10.244.1.1", "fd00:10:244:1::1"],
    mtu: 1450,
    existed: false,
    subnets: ["10.244.1.0/24", "fd00:10:244:1::/64"],
    gateways: [],
    pool: "default",
  });
  expect(await client.allocate(request("a"))).toEqual({ ...first, existed: true });

  const { allocations, subnets } = await client.list({});
  expect(allocations).toMatchObject([
    {
      attachment: attachment("a"),
      pod: { namespace: "default", name: "pod-a", uid: "uid-a" },
      netns: "/run/netns/a",
      hostIfname: request("a").hostIfname,
      addresses: first.addresses,
    },
  ]);
  expect(subnets).toEqual([
    subnet({ cidr: "10.244.1.0/24", capacity: 254, used: 1, cooling: 0, free: 253, reserved: 2 }),
    // More than 32 bits can tell.
    subnet({ cidr: "fd00:10:244:1::/64", capacity: MOST, used: 1, cooling: 0, free: MOST, reserved: 1 }),
  ]);

  expect(await client.release({ attachment: attachment("a") })).toEqual({ addresses: first.addresses });
  expect(await client.release({ attachment: attachment("a") })).toEqual({ addresses: [] });
  expect((await client.list({})).subnets[0]).toMatchObject({ used: 0, cooling: 1, free: 253 });
});

test("an attachment outside Kubernetes, with a link of another plugin, has no pod and no host interface", async () => {
  const { client } = await served();
  await client.allocate({
    attachment: attachment("a"),
    netns: "/run/netns/a",
    hostIfname: "",
    pod: { namespace: "", name: "", uid: "" },
  });
  expect((await client.list({})).allocations).toMatchObject([{ pod: undefined, hostIfname: "" }]);
});

const good = request("a");
const withAttachment = (part: Partial<wire.Attachment>) => ({ ...good, attachment: { ...good.attachment, ...part } });
test.for<[title: string, message: AllocateMessage, expected: RegExp]>([
  ["no attachment", { netns: good.netns }, /^attachment is missing$/],
  ["an empty network", withAttachment({ network: "" }), /^attachment.network is empty$/],
  ["a network with a slash", withAttachment({ network: "a/b" }), /^attachment.network is "a\/b"; it must be letters/],
  ["a network with a line break at its end", withAttachment({ network: "a\n" }), /^attachment.network is "a\\n"/],
  ["a container ID that begins with a dash", withAttachment({ containerId: "-a" }), /^attachment.container_id is "-a"/],
  [
    "a container ID of 300 characters",
    withAttachment({ containerId: "a".repeat(300) }),
    /container_id .* longer than 253/,
  ],
  ["an empty interface name", withAttachment({ ifname: "" }), /^attachment.ifname is empty$/],
  ["an interface name of 16 characters", withAttachment({ ifname: "a".repeat(16) }), /ifname .* longer than 15/],
  [
    "an interface name of 8 characters but 16 bytes",
    withAttachment({ ifname: "é".repeat(8) }),
    /ifname .* longer than 15/,
  ],
  ["the interface name ..", withAttachment({ ifname: ".." }), /^attachment.ifname is ".."/],
  ["an interface name with a colon", withAttachment({ ifname: "eth0:1" }), /^attachment.ifname is "eth0:1"/],
  ["an interface name with a space", withAttachment({ ifname: "eth 0" }), /^attachment.ifname is "eth 0"/],
  ["a relative netns", { ...good, netns: "run/netns/a" }, /^netns is "run\/netns\/a"; it must be an absolute path$/],
  ["an empty netns", { ...good, netns: "" }, /^netns is ""/],
  ["a netns with a NUL", { ...good, netns: "/run\0" }, /^netns is "\/run\\u0000"/],
  ["a netns of 5000 characters", { ...good, netns: `/${"a".repeat(5000)}` }, /^netns .* longer than 4095$/],
  ["a host interface with a slash", { ...good, hostIfname: "fl/a" }, /^host_ifname is "fl\/a"/],
  ["a pod name with a line break", { ...good, pod: { namespace: "d", name: "a\nb", uid: "" } }, /^pod.name is "a\\nb"/],
  [
    "a pod uid of 300 characters",
    { ...good, pod: { namespace: "d", name: "a", uid: "u".repeat(300) } },
    /pod.uid .* 253/,
  ],
])("%s is an invalid argument that names field and value, and nothing is allocated", async ([, message, expected]) => {
  const { client, disk } = await served();
  const failure = await failureOf(client.allocate(message));
  expect(failure.code).toBe(status.INVALID_ARGUMENT);
  expect(failure.details).toMatch(expected);
  expect(disk.entries.size).toBe(0);
});

const port = { hostPort: 80, containerPort: 8080, protocol: "tcp", hostIp: "" };
const mapping = (part: Partial<wire.PortMapping>) => ({
  ...good,
  portMappings: [port, { ...port, hostPort: 81, ...part }],
});
test.for<[title: string, message: AllocateMessage, expected: RegExp]>([
  [
    "an address that is none",
    { ...good, requestedAddresses: ["10.244.1.7/24"] },
    /^requested_addresses\[0\] is "10.244.1.7\/24"/,
  ],
  [
    "two addresses of a family",
    { ...good, requestedAddresses: ["10.244.1.7", "10.244.1.8"] },
    /at most one address a family$/,
  ],
  ["host port 0", mapping({ hostPort: 0 }), /^port_mappings\[1\].host_port is 0; it must be 1 to 65535$/],
  ["container port 65536", mapping({ containerPort: 65_536 }), /^port_mappings\[1\].container_port is 65536/],
  [
    "a protocol in capitals",
    mapping({ protocol: "TCP" }),
    /^port_mappings\[1\].protocol is "TCP"; .* one of tcp, udp, sctp$/,
  ],
  ["a host address that is a name", mapping({ hostIp: "localhost" }), /^port_mappings\[1\].host_ip is "localhost"/],
  [
    "one port for two",
    mapping({ hostPort: 80, containerPort: 9090, hostIp: "::1" }),
    /tcp port 80 of ::1 leads to container ports 8080 and 9090/,
  ],
  [
    "257 port mappings",
    { ...good, portMappings: Array.from({ length: 257 }, (_, i) => ({ ...port, hostPort: i + 1 })) },
    /^port_mappings has 257 entries/,
  ],
  ["an alias that is no name", { ...good, aliases: ["db", "d b"] }, /^aliases\[1\] is "d b"; it must be a DNS name/],
  ["an alias of 64 characters", { ...good, aliases: ["a".repeat(64)] }, /^aliases\[0\] is "a+"/],
  [
    "65 aliases",
    { ...good, aliases: Array.from({ length: 65 }, (_, i) => `a${i}`) },
    /^aliases has 65 entries; it must not have more than 64$/,
  ],
  ["a pool that there is not", { ...good, pool: "db" }, /^pool is "db"; it must be one that this node has: default$/],
  ["a pool of 64 characters", { ...good, pool: "a".repeat(64) }, /^pool is "a+"; it must not be longer than 63$/],
  ["to be kept for no time", { ...good, sticky: { ttlSeconds: 0, owner: "" } }, /^sticky.ttl_seconds is "0"; .* 1 to /],
  [
    "an owner with a space",
    { ...good, sticky: { ttlSeconds: 1, owner: "a b" } },
    /^sticky.owner is "a b"; it must be /,
  ],
])("%s is an invalid argument, and nothing is allocated", async ([, message, expected]) => {
  const { client, disk } = await served();
  const failure = await failureOf(client.allocate(message));
  expect(failure.code).toBe(status.INVALID_ARGUMENT);
  expect(failure.details).toMatch(expected);
  expect(disk.entries.size).toBe(0);
});

describe("addresses are kept", () => {
  const sticky = { ttlSeconds: 600, owner: "" };
  const pod = (name: string) => ({ pod: { namespace: "default", name, uid: "" } });
  const keptAfter = async (message: AllocateMessage) => {
    const { client } = await served();
    await client.allocate({ ...good, ...message });
    const [allocation] = (await client.list({})).allocations;
    await client.release({ attachment: attachment("a") });
    const { resting } = await client.resting({});
    const { subnets } = await client.list({});
    expect(subnets.map(({ cooling }) => cooling)).toEqual([1, 1]);
    expect(subnets.map((one) => one.sticky)).toEqual(allocation?.stickyOwner === "" ? [0, 0] : [1, 1]);
    expect(resting.map(({ keptFor }) => keptFor)).toEqual([allocation?.stickyOwner, allocation?.stickyOwner]);
    return allocation?.stickyOwner;
  };

  test("for a pod whose name ends in an ordinal", async () => {
    expect(await keptAfter({ sticky, ...pod("web-0") })).toBe("pod default/web-0 (pods, eth0)");
    expect(await keptAfter({ sticky, ...pod("web-12") })).toBe("pod default/web-12 (pods, eth0)");
  });

  test("for whoever is named, pod or not", async () => {
    const owner = { ttlSeconds: 600, owner: "disk-7" };
    expect(await keptAfter({ sticky: owner, ...pod("web-5d9c7b6f4-x2k4z") })).toBe("owner disk-7 (pods, eth0)");
    expect(await keptAfter({ sticky: owner, pod: undefined })).toBe("owner disk-7 (pods, eth0)");
  });

  test("for no pod of a Deployment or a DaemonSet, and for nobody where the network doesn't say so", async () => {
    expect(await keptAfter({ sticky, ...pod("web-5d9c7b6f4-x2k4z") })).toBe("");
    expect(await keptAfter({ sticky, ...pod("web0") })).toBe("");
    expect(await keptAfter({ sticky, pod: undefined })).toBe("");
    expect(await keptAfter(pod("web-0"))).toBe("");
  });
});

test("an address that is taken from the owner it was kept for is told in the log", async () => {
  const { client, log } = await served({ subnets: ["10.244.1.0/32"] });
  await client.allocate({ ...request("a"), sticky: { ttlSeconds: 600, owner: "disk-7" } });
  await client.release({ attachment: attachment("a") });
  await client.allocate(request("b"));
  expect(log.lines.filter(({ level }) => level === "warn")).toMatchObject([
    { fields: { containerId: "b" } },
    { fields: { containerId: "b", takenFrom: ["owner disk-7 (pods, eth0)"] } },
  ]);
});

test("256 port mappings of everything as long as it can be are stored and given back", async () => {
  const { client } = await served();
  const hostIp = "fd00:1111:2222:3333:4444:5555:6666:7777";
  const portMappings = Array.from({ length: 256 }, (_, i) => ({
    ...port,
    protocol: "sctp",
    hostPort: 65_000 + i,
    hostIp,
  }));
  await client.allocate({ ...good, portMappings });
  expect((await client.get({ attachment: attachment("a") })).allocation?.portMappings).toEqual(portMappings);
});

test("64 aliases as long as they can be are stored and given back beside 256 port mappings", async () => {
  const { client } = await served();
  const label = "a".repeat(63);
  const aliases = Array.from({ length: 64 }, (_, i) => `${label}.${label}.${label}.${"b".repeat(58)}-${10 + i}`);
  const portMappings = Array.from({ length: 256 }, (_, i) => ({ ...port, hostPort: 65_000 + i }));
  await client.allocate({ ...good, portMappings, aliases });
  expect((await client.get({ attachment: attachment("a") })).allocation?.aliases).toEqual(aliases);
});

test("aliases are told as they were said, each once, until the attachment asks with others", async () => {
  const { client, disk } = await served();
  const told = async () => [
    (await client.get({ attachment: attachment("a") })).allocation?.aliases,
    (await client.list({})).allocations[0]?.aliases,
    parseSnapshot(disk.entries).allocations.get("pods/a/eth0")?.aliases,
  ];
  await client.allocate({ ...good, aliases: ["web_1", "DB.Prod", "web_1"] });
  expect(await told()).toEqual(Array(3).fill(["web_1", "DB.Prod"]));
  await client.allocate({ ...good, aliases: ["db"] });
  expect(await told()).toEqual(Array(3).fill(["db"]));
  await client.allocate(good);
  expect(await told()).toEqual(Array(3).fill([]));
});

test("a mapping that is said twice counts once, and a host address is kept in its one form", async () => {
  const { client } = await served();
  const hostIp = "::ffff:10.9.9.9";
  await client.allocate({
    ...good,
    portMappings: [
      { ...port, hostIp },
      { ...port, hostIp },
      { ...port, hostIp: "FD00:0::1" },
    ],
  });
  expect((await client.list({})).allocations[0]?.portMappings).toEqual([
    { ...port, hostIp: "10.9.9.9" },
    { ...port, hostIp: "fd00::1" },
  ]);
});

test("a client gets the address it asks for, in whatever spelling, and a gateway for its network", async () => {
  const { client } = await served();
  const answer = await client.allocate({ ...good, requestedAddresses: ["FD00:10:244:1::0:99"], withGateway: true });
  expect(answer).toMatchObject({
    addresses: ["10.244.1.2", "fd00:10:244:1::99"],
    subnets: ["10.244.1.0/24", "fd00:10:244:1::/64"],
    gateways: ["10.244.1.1", "fd00:10:244:1::1"],
  });
  expect((await client.list({})).allocations.map((one) => one.attachment?.ifname)).toEqual(["eth0", "", ""]);
});

test("no request can name a gateway", async () => {
  const { client } = await served();
  await client.allocate({ ...good, withGateway: true });
  const gateway = (await client.list({})).allocations.find((one) => one.attachment?.ifname === "")?.attachment;
  for (const ask of [
    client.release({ attachment: gateway }),
    client.get({ attachment: gateway }),
    client.allocate({ ...good, attachment: gateway }),
  ]) {
    expect((await failureOf(ask)).code).toBe(status.INVALID_ARGUMENT);
  }
  expect((await client.list({})).allocations).toHaveLength(3);
});

test("what is taken, out of range or other than before has a status of its own", async () => {
  const { client } = await served();
  await client.allocate({ ...good, portMappings: [port] });
  const b = request("b");
  const code = async (message: AllocateMessage) => (await failureOf(client.allocate(message))).code;
  expect(await code({ ...b, requestedAddresses: ["10.244.1.1"] })).toBe(status.ALREADY_EXISTS);
  expect(await code({ ...b, portMappings: [port] })).toBe(status.ALREADY_EXISTS);
  expect(await code({ ...b, requestedAddresses: ["192.0.2.1"] })).toBe(status.OUT_OF_RANGE);
  expect(await code({ ...good, requestedAddresses: ["10.244.1.9"] })).toBe(status.FAILED_PRECONDITION);
});

test("one attachment is told with all that it has, and an unknown one is not found", async () => {
  const { client } = await served();
  const { addresses } = await client.allocate({ ...good, portMappings: [port] });
  expect((await client.get({ attachment: attachment("a") })).allocation).toMatchObject({
    attachment: attachment("a"),
    netns: "/run/netns/a",
    addresses,
    portMappings: [port],
  });
  expect((await failureOf(client.get({ attachment: attachment("b") }))).code).toBe(status.NOT_FOUND);
  expect((await failureOf(client.get({ attachment: undefined }))).code).toBe(status.INVALID_ARGUMENT);
});

test("the status tells whether the routes are in order and what is left, and fails while the disk does", async () => {
  const { client, synced, disk } = await served({ subnets: ["10.244.1.0/30"] });
  await client.allocate(good);
  const subnets = [subnet({ cidr: "10.244.1.0/30", capacity: 2, used: 1, cooling: 0, free: 1, reserved: 2 })];
  expect(await client.status({})).toEqual({ routesSynced: false, subnets, strayAddresses: 0 });
  synced.value = true;
  expect(await client.status({})).toEqual({ routesSynced: true, subnets, strayAddresses: 0 });
  disk.faults.push("before");
  disk.failingOpens = 1;
  await failureOf(client.allocate(request("b")));
  expect((await failureOf(client.status({}))).code).toBe(status.INTERNAL);
  expect(await client.status({})).toEqual({ routesSynced: true, subnets, strayAddresses: 0 });
});

test("a detached attachment has neither link nor addresses, and again is success", async () => {
  const { client, links } = await served({ subnets: ["10.244.1.0/24"] });
  const { addresses } = await client.allocate(request("a"));
  expect(await client.detach({ attachment: attachment("a") })).toEqual({ addresses });
  expect(await client.detach({ attachment: attachment("a") })).toEqual({ addresses: [] });
  expect(links.removed).toEqual(["a", "a"]);
});

test("an attachment whose link can't be taken away keeps its addresses", async () => {
  const { client, links } = await served({ subnets: ["10.244.1.0/24"] });
  const { addresses } = await client.allocate(request("a"));
  links.failure = new Error("delete link: EBUSY");
  const failure = await failureOf(client.detach({ attachment: attachment("a") }));
  expect(failure).toMatchObject({ code: status.INTERNAL });
  expect((await client.list({})).allocations.map((one) => one.addresses)).toEqual([addresses]);
});

test("a release without a valid attachment is an invalid argument", async () => {
  const { client } = await served();
  const failure = await failureOf(client.release({ attachment: { network: "pods", containerId: "", ifname: "eth0" } }));
  expect(failure).toMatchObject({ code: status.INVALID_ARGUMENT, details: "attachment.container_id is empty" });
});

test("a full subnet is exhausted, by name and count, and says so in the log", async () => {
  const { client, log } = await served({ subnets: ["10.244.1.0/30", "fd00::/64"] });
  await client.allocate(request("a"));
  await client.allocate(request("b"));
  const failure = await failureOf(client.allocate(request("c")));
  expect(failure).toMatchObject({
    code: status.RESOURCE_EXHAUSTED,
    details: expect.stringMatching(
      /^no IPv4 address is left in 10\.244\.1\.0\/30 \(2 of 2 in use\), held by: 2 default; none is resting; the oldest is pods\/a\/eth0 \(pod default\/pod-a\), of 2\d{3}-.*Z$/,
    ),
  });
  expect(log.lines.slice(2)).toMatchObject([{ level: "warn", fields: { reason: failure.details } }]);
  expect((await client.list({})).subnets[1]).toMatchObject({ used: 2 });
});

test("an address used again before its rest was over is told in the log", async () => {
  const { client, log } = await served({ subnets: ["10.244.1.0/32"] });
  await client.allocate(request("a"));
  await client.release({ attachment: attachment("a") });
  expect(await client.allocate(request("b"))).toMatchObject({ addresses: ["10.244.1.0"], existed: false });
  expect(log.lines.filter(({ level }) => level === "warn")).toMatchObject([
    { fields: { containerId: "b", addresses: ["10.244.1.0"] } },
  ]);
});

test("what is given and taken back is told in the log, a line each, and a repeated DEL is no event", async () => {
  const { client, log } = await served({ subnets: ["10.244.1.0/24"] });
  await client.allocate({ ...request("a"), pod: { namespace: "default", name: "web-0", uid: "" } });
  await client.release({ attachment: attachment("a") });
  await client.release({ attachment: attachment("a") });
  expect(log.lines).toMatchObject([
    { level: "info", fields: { containerId: "a", pod: "default/web-0", addresses: ["10.244.1.1"], existed: false } },
    { level: "info", fields: { containerId: "a", addresses: ["10.244.1.1"] } },
  ]);
});

test("a write that fails is an internal error that tells the reason", async () => {
  const disk = new MemoryDisk();
  disk.faults.push("before");
  const { client, log } = await served({ disk });
  const failure = await failureOf(client.allocate(request("a")));
  expect(failure).toMatchObject({ code: status.INTERNAL, details: "no space left on device" });
  expect(log.lines).toMatchObject([{ level: "error", fields: { method: "Allocate" } }]);
  expect(await client.allocate(request("a"))).toMatchObject({
    addresses: ["10.244.1.1", "fd00:10:244:1::1"],
    existed: false,
  });
});

test("a request larger than any plugin's is refused", async () => {
  const { client } = await served();
  const failure = await failureOf(client.allocate({ ...good, netns: `/${"a".repeat(130 * 1024)}` }));
  expect(failure.code).toBe(status.RESOURCE_EXHAUSTED);
  expect(failure.details).toContain("larger than max");
});

test("the socket is for its owner only and nothing else is left beside it", async () => {
  const { dir, socketPath } = await served();
  expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
  expect(await readdir(dir)).toEqual(["ipam.sock"]);
});

test("the socket is bound where only its owner can enter, in the same directory", async () => {
  const dir = await temporaryDirectory();
  const other = createServer();
  onTestFinished(() => void other.close());
  const claim = await claimSocket(join(dir, "x.sock"), async (path) => {
    expect(dirname(dirname(path))).toBe(dir);
    expect((await stat(dirname(path))).mode & 0o777).toBe(0o700);
    await new Promise<void>((done) => void other.listen(path, done));
  });
  expect(await readdir(dir)).toEqual(["x.sock"]);
  await claim.release();
  await claim.release();
  expect(await readdir(dir)).toEqual([]);
});

test("closing lets a call under way end, refuses new ones as unavailable, and removes the socket", async () => {
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  const { client, server, dir } = await served({
    gate: () => {
      entered.resolve();
      return gate.promise;
    },
  });
  const underWay = client.allocate(request("a"));
  await entered.promise;
  const closed = server.close();
  const refused = await failureOf(client.allocate(request("b")));
  gate.resolve();
  expect(refused.code).toBe(status.UNAVAILABLE);
  expect(await underWay).toMatchObject({ existed: false });
  await closed;
  expect(await readdir(dir)).toEqual([]);
});

test("closing does not wait for ever for a call that never ends", async () => {
  const entered = Promise.withResolvers<void>();
  const { client, server, log } = await served({
    gate: () => {
      entered.resolve();
      return new Promise<never>(() => {});
    },
  });
  const underWay = failureOf(client.allocate(request("a")));
  await entered.promise;
  await server.close();
  expect((await underWay).code).not.toBe(status.OK);
  expect(log.lines).toMatchObject([{ level: "warn" }]);
});

test("the socket of a dead daemon is replaced", { timeout: 30_000 }, async () => {
  const dir = await temporaryDirectory();
  const socketPath = join(dir, "ipam.sock");
  const listen = `require("node:net").createServer().listen(${JSON.stringify(socketPath)}, () => console.log("up"))`;
  const child = spawn(process.execPath, ["-e", listen], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  expect((await stat(socketPath)).isSocket()).toBe(true);

  const server = await serveOn(socketPath);
  onTestFinished(() => server.close());
  expect(await clientOf(socketPath).allocate(request("a"))).toMatchObject({ existed: false });
});

test("a socket that a live process answers on is left alone", async () => {
  const socketPath = join(await temporaryDirectory(), "ipam.sock");
  const other: NetServer = createServer((socket) => socket.end());
  await new Promise<void>((done) => void other.listen(socketPath, done));
  onTestFinished(() => void other.close());
  await expect(serveOn(socketPath)).rejects.toMatchObject({
    code: "IPAM_SOCKET",
    message: `${socketPath} is served by another process`,
  });
  const probe = connect(socketPath);
  await once(probe, "connect");
  probe.destroy();
});

test("a file that is not a socket is not removed", async () => {
  const socketPath = join(await temporaryDirectory(), "ipam.sock");
  await writeFile(socketPath, "precious");
  await expect(serveOn(socketPath)).rejects.toMatchObject({
    code: "IPAM_SOCKET",
    message: expect.stringContaining("not a socket"),
  });
  expect((await stat(socketPath)).size).toBe(8);
});

test("a missing directory, a relative path and a path that is too long are clear errors", async () => {
  const dir = await temporaryDirectory();
  await expect(serveOn(join(dir, "none", "ipam.sock"))).rejects.toMatchObject({
    code: "IPAM_SOCKET",
    message: expect.stringContaining("ENOENT"),
  });
  await expect(serveOn("ipam.sock")).rejects.toMatchObject({
    code: "IPAM_SOCKET",
    message: expect.stringContaining("not absolute"),
  });
  await expect(serveOn(join(dir, "x".repeat(100)))).rejects.toMatchObject({
    code: "IPAM_SOCKET",
    message: expect.stringContaining("too long"),
  });
  expect(await readdir(dir)).toEqual([]);
});

test("closing leaves the socket of a later daemon alone", async () => {
  const { dir, server, socketPath } = await served();
  await rename(socketPath, join(dir, "old"));
  const later = await serveOn(socketPath);
  onTestFinished(() => later.close());
  await server.close();
  expect(await clientOf(socketPath).allocate(request("a"))).toMatchObject({ existed: false });
});

test("what a client got through the socket is in the database after a restart", async () => {
  const dir = await temporaryDirectory();
  const options = { subnets: prefixes("10.244.1.0/24"), bootId: BOOT_ID };
  const first = await Store.open(dir);
  const service = await IpamService.start(first.store, first.snapshot, options);
  const server = await serveIpam({
    service,
    mtu: () => 1500,
    routesSynced: () => true,
    kernelMarks: async () => [],
    nodeRoutes: async () => [],
    removeLink: async () => {},
    socketPath: join(dir, "s.sock"),
    log: memoryLog(),
  });
  const { addresses } = await clientOf(join(dir, "s.sock")).allocate(request("a"));
  await server.close();
  await service.close();

  const second = await Store.open(dir);
  onTestFinished(() => second.store.close());
  expect([...second.snapshot.allocations.values()]).toMatchObject([{ attachment: attachment("a"), addresses }]);
});

async function serveOn(socketPath: string) {
  const disk = new MemoryDisk();
  const options = { subnets: prefixes("10.244.9.0/24"), bootId: BOOT_ID };
  const service = new IpamService(new MemoryStore(disk), disk.snapshot(), options);
  return serveIpam({
    service,
    mtu: () => 1500,
    routesSynced: () => true,
    kernelMarks: async () => [],
    nodeRoutes: async () => [],
    removeLink: async () => {},
    socketPath,
    log: memoryLog(),
  });
}

test("a client learns who held an address and why that ended, in any spelling and page by page", async () => {
  const { client } = await served({ subnets: ["fd00::/127"], cooldownMs: 0 });
  for (const [name, cause] of [
    ["a", ""],
    ["b", "gc"],
    ["c", "failed-add"],
  ] as const) {
    await client.allocate(request(name, { requestedAddresses: ["fd00::1"] }));
    await client.release({ attachment: attachment(name), cause });
  }
  await client.allocate(request("d", { requestedAddresses: ["fd00::1"] }));
  const all = await client.history({ address: "FD00:0::1" });
  expect(all.nextPageToken).toBe("");
  expect(all.tenures.map(({ attachment: who, cause }) => [who?.containerId, cause])).toEqual([
    ["d", ""],
    ["c", "failed-add"],
    ["b", "gc"],
    ["a", "del"],
  ]);
  expect(all.tenures.map(({ releasedAtMs }) => releasedAtMs > 0n)).toEqual([false, true, true, true]);
  expect(all.tenures[3]).toMatchObject({
    address: "fd00::1",
    pod: { namespace: "default", name: "pod-a", uid: "uid-a" },
  });
  const pages: wire.Tenure[] = [];
  let pageToken = "";
  do {
    const page = await client.history({ address: "fd00::1", pageSize: 1, pageToken });
    expect(page.tenures.length).toBeLessThanOrEqual(1);
    pages.push(...page.tenures);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(pages).toEqual(all.tenures);
  expect((await client.history({ address: "fd00::", fromMs: 1n })).tenures).toEqual([]);
});

test.for<[title: string, message: Partial<wire.GetHistoryRequest>, expected: RegExp]>([
  ["an address that is none", { address: "10.0.0" }, /^address is "10.0.0"; it must be an IP address$/],
  ["an end before its beginning", { fromMs: 2n, toMs: 1n }, /^to_ms is 1; it must not be before from_ms, 2$/],
  ["a time before all times", { fromMs: -1n }, /^from_ms is -1; it must be milliseconds since 1970$/],
  ["too large a page", { pageSize: 1001 }, /^page_size is 1001; it must be 0 to 1000$/],
  ["a token of somebody else", { pageToken: "a/pods/a/eth0" }, /^page_token is "a\/pods\/a\/eth0"; it must be/],
])("a question about the past with %s is refused", async ([, message, expected]) => {
  const { client } = await served();
  const failure = await failureOf(client.history(message));
  expect(failure.code).toBe(status.INVALID_ARGUMENT);
  expect(failure.details).toMatch(expected);
});

test.for(["its deadline passes", "it cancels"])(
  "an ADD leaves nothing behind where nobody waits for it: %s",
  async (how) => {
    const gate = Promise.withResolvers<void>();
    const writing = Promise.withResolvers<void>();
    const { service, socketPath } = await served({
      gate: () => {
        writing.resolve();
        return gate.promise;
      },
    });
    const client = new Client(`unix:${socketPath}`, credentials.createInsecure());
    onTestFinished(() => client.close());
    const start = (method: string, message: object, options: object, done: (error: ServiceError | null) => void) => {
      const { path, requestSerialize, responseDeserialize } = toServiceDefinition()[method] as NonNullable<
        ReturnType<typeof toServiceDefinition>[string]
      >;
      return client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, options, done);
    };
    const options = how === "its deadline passes" ? { deadline: Date.now() + 500 } : {};
    const failed = Promise.withResolvers<ServiceError | null>();
    const call = start("allocate", { ...EMPTY, ...request("a") }, options, failed.resolve);
    await writing.promise;
    if (how === "it cancels") call.cancel();
    expect((await failed.promise)?.code).toBe(how === "it cancels" ? status.CANCELLED : status.DEADLINE_EXCEEDED);
    // The next call on the connection is answered after the server has heard of the end of this one.
    await new Promise((resolve) => start("status", {}, {}, resolve));
    gate.resolve();
    await expect.poll(async () => (await service.counts()).subnets[0]).toMatchObject({ used: 0, cooling: 1 });
    expect((await service.list()).allocations).toEqual([]);
  },
);

describe("what a pod wishes", () => {
  const NOTHING: PodWish = { addresses: undefined, pool: undefined, mtu: undefined, bandwidth: undefined };

  /** Wishes by the pods' names, and what was refused. */
  function wishing(wishes: Record<string, Partial<PodWish>>): PodWishes & { refusals: string[] } {
    const refusals: string[] = [];
    return {
      refusals,
      of: async ({ pod }) => (pod === undefined ? undefined : { ...NOTHING, ...wishes[pod.name] }),
      refused: ({ pod }, reason) => void refusals.push(`${pod?.name}: ${reason}`),
    };
  }
  const at = <T>(value: T) => ({ value, where: "annotation x/y" });

  test("it gets: address, MTU and limits, and the record has the limits", async () => {
    const bandwidth = { ingressRate: 1_000_000, egressRate: 0 };
    const wishes = wishing({ "pod-a": { addresses: at(["10.244.1.9"]), mtu: 1400, bandwidth } });
    const { client } = await served({ wishes });
    const wire = { ingressRate: 1_000_000n, egressRate: 0n };
    const given = { addresses: ["10.244.1.9", "fd00:10:244:1::1"], mtu: 1400, bandwidth: wire };
    expect(await client.allocate(request("a"))).toMatchObject(given);
    expect(await client.allocate(request("a"))).toMatchObject({ ...given, existed: true });
    expect((await client.get({ attachment: attachment("a") })).allocation).toMatchObject({ bandwidth: wire });
    expect(await client.allocate(request("b"))).toMatchObject({ mtu: 1450, bandwidth: undefined });
  });

  test("it doesn't get where the runtime asks for something itself", async () => {
    const wishes = wishing({ "pod-a": { addresses: at(["10.244.1.9"]), pool: at("nowhere") } });
    const { client } = await served({ wishes });
    const asked = { ...request("a", { requestedAddresses: ["10.244.1.7"] }), pool: "default" };
    expect(await client.allocate(asked)).toMatchObject({ addresses: ["10.244.1.7", "fd00:10:244:1::1"] });
  });

  test("is no limit where another plugin makes the link", async () => {
    const wishes = wishing({ "pod-a": { bandwidth: { ingressRate: 1_000_000, egressRate: 0 } } });
    const { client } = await served({ wishes });
    const given = await client.allocate({ ...request("a"), hostIfname: "", withGateway: true });
    expect(given).toMatchObject({ bandwidth: undefined });
  });

  test.each([
    {
      wish: { addresses: at(["10.244.1.1"]) },
      code: status.ALREADY_EXISTS,
      says: /^requested address 10.244.1.1 is held by .*pod-first/,
    },
    {
      wish: { addresses: at(["192.0.2.1"]) },
      code: status.OUT_OF_RANGE,
      says: /^requested address 192.0.2.1 is in none/,
    },
    {
      wish: { pool: at("db") },
      code: status.INVALID_ARGUMENT,
      says: /^pool is "db"; it must be one that this node has: default$/,
    },
  ])("is refused with the place where it stands: $says", async ({ wish, code, says }) => {
    const wishes = wishing({ "pod-a": wish });
    const { client, service } = await served({ wishes });
    await client.allocate(request("first"));
    const failure = await failureOf(client.allocate(request("a")));
    expect(failure.code).toBe(code);
    expect(failure.details).toMatch(/^annotation x\/y: /);
    expect(failure.details.replace("annotation x/y: ", "")).toMatch(says);
    expect(wishes.refusals).toEqual([`pod-a: ${failure.details}`]);
    expect((await service.list()).allocations).toHaveLength(1);
  });

  test("is not blamed for what the runtime's own request is refused for", async () => {
    const wishes = wishing({ "pod-a": { addresses: at(["10.244.1.9"]) } });
    const { client } = await served({ wishes });
    const failure = await failureOf(client.allocate({ ...request("a"), pool: "db" }));
    expect(failure.details).toMatch(/^pool is "db"/);
    expect(wishes.refusals).toEqual([]);
  });

  test("and nobody can read is the ADD's failure, and takes no address", async () => {
    const of = () => Promise.reject(new IpamError("IPAM_INVALID", 'annotation x/y is "?"'));
    const { client, service } = await served({ wishes: { of, refused() {} } });
    expect(await failureOf(client.allocate(request("a")))).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: 'annotation x/y is "?"',
    });
    expect((await service.list()).allocations).toEqual([]);
  });
});
