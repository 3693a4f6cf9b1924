// SPDX-License-Identifier: Apache-2.0
//
// The on-disk format: what a LevelDB key and value mean, in both directions. The format is versioned and additive: a
// reader keeps fields it does not know, and refuses a version it does not know, because guessing who holds an address is
// how an address gets two holders.
//
//   f                  {"v":1}                       the format of the whole database
//   a/<attachment key> AllocationRecord as JSON      who holds which addresses
//   r/<address>        ReleaseRecord as JSON         when an address came back; none for a held address
//   h/…                Tenure as JSON                who held an address until when: history.ts
//
// There are no second tables for the unique indexes (address, host link, port of the node): they follow from the allocation
// records, so the two cannot drift.
import { familyOf, formatAddress, parseAddress } from "../net/address.ts";
import { isAlias } from "../net/dns-name.ts";
import { type Attachment, attachmentKey } from "../net/names.ts";
import { type Adoption, readAdoption } from "./adoption.ts";
import { type PodEnd, readPodEnd } from "./pod-end.ts";

/** Version in `f` and in every value. Raised only when an older reader would misunderstand a record. */
export const FORMAT_VERSION = 1;

/** Key of the database's format marker. */
export const FORMAT_KEY = "f";

export const ALLOCATION_PREFIX = "a/";
export const RELEASE_PREFIX = "r/";

/** The pod as the runtime named it; attributes, never a key. Unknown parts are "". */
export interface PodName {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export const PORT_PROTOCOLS = ["tcp", "udp", "sctp"] as const;

/** A port of the node that leads to one of the attachment. */
export interface PortMapping {
  /** 1 to 65535, as is the other. */
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: (typeof PORT_PROTOCOLS)[number];
  /** The node's address it is taken on, in canonical text; "" for all of both families, 0.0.0.0 and :: for all of one. */
  readonly hostIp: string;
}

/** Whom addresses are kept for after their release. */
export interface Sticky {
  /** Who may have them again: text that names somebody, and the network and interface it is about. */
  readonly owner: string;
  /** How long after the release, in milliseconds. */
  readonly ttlMs: number;
}

/** How fast a pod may receive and send, in bits a second; 0 is not limited. */
export interface Bandwidth {
  readonly ingressRate: number;
  readonly egressRate: number;
}

/**
 * An attachment and the addresses it holds. One without interface name is not a container's but its network's gateway: see
 * gatewayAttachment.
 */
export interface AllocationRecord {
  readonly attachment: Attachment;
  /** Undefined outside Kubernetes. */
  readonly pod: PodName | undefined;
  /** CNI_NETNS of the latest ADD. */
  readonly netns: string;
  /** Name of the host end; "" when another plugin makes the link. */
  readonly hostIfname: string;
  /** Canonical text, at most one a family, IPv4 first, never empty. */
  readonly addresses: readonly string[];
  /** When the addresses were given, in milliseconds since 1970. */
  readonly allocatedAtMs: number;
  /** When an ADD last asked for them, in milliseconds since 1970: a DEL from before that was for an earlier life. */
  readonly confirmedAtMs: number;
  /** The kernel's boot_id then, so that later readers can tell attachments that a reboot has ended. */
  readonly bootId: string;
  /** Ports of the node that lead to the attachment; no two records claim one. */
  readonly portMappings: readonly PortMapping[];
  /** Names for the container in the network, as the latest ADD had them; DNS names. */
  readonly aliases: readonly string[];
  /** The pod's end of the link at the latest ADD; absent when the plugin didn't tell. */
  readonly podEnd?: PodEnd | undefined;
  /** Name of the pool that the addresses were asked of; absent for the default one. */
  readonly pool?: string;
  /** Whom the addresses are kept for when they are given back; absent when for nobody. */
  readonly sticky?: Sticky;
  /** How it was taken over from another plugin; absent when an ADD has asked for it. */
  readonly adoption?: Adoption | undefined;
  /** The limits that the daemon told the plugin, which it sets unless the runtime has some; absent when none. */
  readonly bandwidth?: Bandwidth | undefined;
  /** Fields of a newer writer, kept when the record is written again. */
  readonly extra: Readonly<Record<string, unknown>>;
}

/**
 * The key under which a network's gateway address is held. No interface name is empty (CNI spec, section 2), and no
 * container ID has a colon, so no runtime's attachment has such a key, and a request that names one is refused.
 */
export function gatewayAttachment(network: string, address: string): Attachment {
  return { network, containerId: `gateway:${address}`, ifname: "" };
}

/** Whether the attachment stands for its network's gateway: nothing but the network's end could give that up. */
export function isGateway(attachment: Attachment): boolean {
  return attachment.ifname === "";
}

/** When an address was last given back, and by whom. */
export interface ReleaseRecord {
  /** Milliseconds since 1970. */
  readonly releasedAtMs: number;
  /** Key of the attachment that held it last. */
  readonly holder: string;
  /** Whom it is kept for; absent when for nobody. */
  readonly sticky?: Sticky;
}

/** Where an entry of the history stands among the others: history.ts. */
export interface HistoryPosition {
  readonly orderMs: number;
  readonly count: number;
}

/** Everything the database says. No address occurs in two allocations, nor in both maps. */
export interface Snapshot {
  /** By attachment key. */
  readonly allocations: ReadonlyMap<string, AllocationRecord>;
  /** By canonical address. */
  readonly released: ReadonlyMap<string, ReleaseRecord>;
  /** Where the history ends; all of it that is read at start. */
  readonly lastTenure?: HistoryPosition | undefined;
}

/** One operation of an atomic batch, in the form `level` takes. */
export type Write =
  | { readonly type: "put"; readonly key: string; readonly value: string }
  | { readonly type: "del"; readonly key: string };

/** One decision of the allocator, the only thing that ever changes the database. */
export type Change =
  /** The attachment takes the record's addresses, which nobody holds. */
  | { readonly kind: "hold"; readonly record: AllocationRecord }
  /** The attachment, which holds the same addresses already, asked again; its attributes, ports and aliases may be new. */
  | { readonly kind: "confirm"; readonly record: AllocationRecord }
  /** The attachment turns out to be the one that a recovered record stands for, and takes its place: recovered.ts. */
  | { readonly kind: "claim"; readonly recovered: AllocationRecord; readonly record: AllocationRecord }
  /** The attachment gives all its addresses back. */
  | { readonly kind: "free"; readonly record: AllocationRecord; readonly releasedAtMs: number }
  /** Addresses of subnets that are no longer ours have rested, so nothing needs to be known of them. */
  | { readonly kind: "forget"; readonly addresses: readonly string[] };

/** Something on disk that this version does not understand or that contradicts itself. `key` is the LevelDB key. */
export class RecordError extends Error {
  override readonly name = "RecordError";
  readonly code: "RECORD_INVALID" | "RECORD_NEWER" | "RECORD_CONFLICT";
  readonly key: string;
  constructor(code: RecordError["code"], key: string, message: string, cause?: unknown) {
    super(`record ${JSON.stringify(key)}: ${message}`, { cause });
    this.code = code;
    this.key = key;
  }
}

/** The batch that makes a change durable. */
export function writesOf(change: Change): Write[] {
  switch (change.kind) {
    case "hold":
      return [
        putAllocation(change.record),
        ...change.record.addresses.map((address): Write => ({ type: "del", key: RELEASE_PREFIX + address })),
      ];
    case "confirm":
      return [putAllocation(change.record)];
    case "claim":
      return [
        { type: "del", key: ALLOCATION_PREFIX + attachmentKey(change.recovered.attachment) },
        putAllocation(change.record),
      ];
    case "free": {
      const holder = attachmentKey(change.record.attachment);
      const { sticky } = change.record;
      const value = JSON.stringify({ v: FORMAT_VERSION, releasedAtMs: change.releasedAtMs, holder, sticky });
      return [
        { type: "del", key: ALLOCATION_PREFIX + holder },
        ...change.record.addresses.map((address): Write => ({ type: "put", key: RELEASE_PREFIX + address, value })),
      ];
    }
    case "forget":
      return change.addresses.map((address) => ({ type: "del", key: RELEASE_PREFIX + address }));
  }
}

/** What a new database begins with. */
export function formatWrite(): Write {
  return { type: "put", key: FORMAT_KEY, value: JSON.stringify({ v: FORMAT_VERSION }) };
}

/** What makes a record durable. */
export function putAllocation(record: AllocationRecord): Write {
  const { network, containerId, ifname } = record.attachment;
  return {
    type: "put",
    key: ALLOCATION_PREFIX + attachmentKey(record.attachment),
    value: JSON.stringify({
      ...record.extra,
      v: FORMAT_VERSION,
      network,
      containerId,
      ifname,
      pod: record.pod,
      netns: record.netns,
      hostIfname: record.hostIfname,
      addresses: record.addresses,
      allocatedAtMs: record.allocatedAtMs,
      confirmedAtMs: record.confirmedAtMs,
      bootId: record.bootId,
      // Left out when there are none, which is how a record of before they existed looks.
      ...(record.portMappings.length === 0 ? {} : { portMappings: record.portMappings }),
      ...(record.aliases.length === 0 ? {} : { aliases: record.aliases }),
      podEnd: record.podEnd,
      adoption: record.adoption,
      pool: record.pool,
      sticky: record.sticky,
      bandwidth: record.bandwidth,
    }),
  };
}

/** One allocation record. @throws RecordError */
export function parseAllocation(key: string, value: string): AllocationRecord {
  const {
    v: _,
    network,
    containerId,
    ifname,
    pod,
    netns,
    hostIfname,
    addresses,
    allocatedAtMs,
    confirmedAtMs,
    bootId,
    portMappings,
    aliases,
    podEnd,
    adoption,
    pool,
    sticky,
    bandwidth,
    ...extra
  } = parseValue(key, value);
  const attachment = {
    network: string(key, "network", network),
    containerId: string(key, "containerId", containerId),
    ifname: string(key, "ifname", ifname),
  };
  if (ALLOCATION_PREFIX + attachmentKey(attachment) !== key) {
    throw new RecordError("RECORD_INVALID", key, `it is about another attachment, ${attachmentKey(attachment)}`);
  }
  const allocated = time(key, "allocatedAtMs", allocatedAtMs);
  return {
    attachment,
    pod: pod === undefined ? undefined : parsePod(key, pod),
    netns: string(key, "netns", netns),
    hostIfname: string(key, "hostIfname", hostIfname),
    addresses: parseAddresses(key, addresses),
    allocatedAtMs: allocated,
    confirmedAtMs: confirmedAtMs === undefined ? allocated : time(key, "confirmedAtMs", confirmedAtMs),
    bootId: string(key, "bootId", bootId),
    portMappings: portMappings === undefined ? [] : parsePortMappings(key, portMappings),
    aliases: aliases === undefined ? [] : parseAliases(key, aliases),
    ...(podEnd === undefined ? {} : { podEnd: parsePodEndOf(key, podEnd) }),
    ...(pool === undefined ? {} : { pool: string(key, "pool", pool) }),
    ...(sticky === undefined ? {} : { sticky: parseSticky(key, sticky) }),
    ...(adoption === undefined ? {} : { adoption: parseAdoption(key, adoption) }),
    ...(bandwidth === undefined ? {} : { bandwidth: parseBandwidth(key, bandwidth) }),
    extra,
  };
}

/** One release record. @throws RecordError */
export function parseRelease(key: string, value: string): ReleaseRecord {
  const object = parseValue(key, value);
  return {
    releasedAtMs: time(key, "releasedAtMs", object["releasedAtMs"]),
    holder: string(key, "holder", object["holder"]),
    ...(object["sticky"] === undefined ? {} : { sticky: parseSticky(key, object["sticky"]) }),
  };
}

function parseSticky(key: string, value: unknown): Sticky {
  if (!isObject(value)) throw invalid(key, "sticky", value);
  return { owner: string(key, "sticky.owner", value["owner"]), ttlMs: time(key, "sticky.ttlMs", value["ttlMs"]) };
}

/** The JSON object of a value whose version this program reads. @throws RecordError */
export function parseValue(key: string, value: string): Record<string, unknown> {
  let object: unknown;
  try {
    object = JSON.parse(value);
  } catch (cause) {
    throw new RecordError("RECORD_INVALID", key, "it is not JSON", cause);
  }
  if (!isObject(object)) throw new RecordError("RECORD_INVALID", key, "it is not a JSON object");
  const version = object["v"];
  if (typeof version !== "number" || !Number.isSafeInteger(version) || version < 1) {
    throw invalid(key, "v", version);
  }
  if (version > FORMAT_VERSION) {
    throw new RecordError(
      "RECORD_NEWER",
      key,
      `format version ${version} is newer than ${FORMAT_VERSION}, the newest this program reads; run the program that wrote it`,
    );
  }
  return object;
}

/** The address that a release record is about. @throws RecordError */
export function parseReleasedAddress(key: string): string {
  const text = key.slice(RELEASE_PREFIX.length);
  if (canonical(text) !== text) throw new RecordError("RECORD_INVALID", key, "its key is not a canonical address");
  return text;
}

function parseAddresses(key: string, value: unknown): string[] {
  if (!Array.isArray(value) || value.length === 0) throw invalid(key, "addresses", value);
  const families: number[] = [];
  for (const text of value) {
    if (typeof text !== "string" || canonical(text) !== text) throw invalid(key, "addresses", value);
    families.push(familyOf(parseAddress(text)));
  }
  if (families.length > 2 || (families.length === 2 && families.join() !== "4,6"))
    throw invalid(key, "addresses", value);
  return value;
}

function parsePortMappings(key: string, value: unknown): PortMapping[] {
  if (!Array.isArray(value)) throw invalid(key, "portMappings", value);
  return value.map((one: unknown) => {
    if (!isObject(one)) throw invalid(key, "portMappings", value);
    const { hostPort, containerPort, protocol, hostIp } = one;
    const known = PORT_PROTOCOLS.find((name) => name === protocol);
    if (!isPort(hostPort) || !isPort(containerPort) || known === undefined || typeof hostIp !== "string") {
      throw invalid(key, "portMappings", value);
    }
    if (hostIp !== "" && canonical(hostIp) !== hostIp) throw invalid(key, "portMappings", value);
    return { hostPort, containerPort, protocol: known, hostIp };
  });
}

function parseAliases(key: string, value: unknown): string[] {
  const good = Array.isArray(value) && value.every((alias) => typeof alias === "string" && isAlias(alias));
  if (!good) throw invalid(key, "aliases", value);
  return value;
}

/** 1 to 65535. */
export function isPort(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 65_535;
}

function canonical(text: string): string | undefined {
  try {
    return formatAddress(parseAddress(text));
  } catch {
    // Not an address at all; the callers say so with the key.
    return undefined;
  }
}

function parseAdoption(key: string, value: unknown): Adoption {
  const adoption = readAdoption(value);
  if (adoption === undefined) throw invalid(key, "adoption", value);
  return adoption;
}

function parseBandwidth(key: string, value: unknown): Bandwidth {
  const { ingressRate, egressRate } = isObject(value) ? value : {};
  if (!isRate(ingressRate) || !isRate(egressRate)) throw invalid(key, "bandwidth", value);
  return { ingressRate, egressRate };
}

function isRate(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function parsePodEndOf(key: string, value: unknown): PodEnd {
  const podEnd = readPodEnd(value);
  if (podEnd === undefined) throw invalid(key, "podEnd", value);
  return podEnd;
}

export function parsePod(key: string, value: unknown): PodName {
  if (!isObject(value)) throw invalid(key, "pod", value);
  return {
    namespace: string(key, "pod.namespace", value["namespace"]),
    name: string(key, "pod.name", value["name"]),
    uid: string(key, "pod.uid", value["uid"]),
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A field that has to be text. @throws RecordError */
export function string(key: string, field: string, value: unknown): string {
  if (typeof value !== "string") throw invalid(key, field, value);
  return value;
}

/** A field that has to be milliseconds since 1970. @throws RecordError */
export function time(key: string, field: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw invalid(key, field, value);
  return value;
}

function invalid(key: string, field: string, value: unknown): RecordError {
  return new RecordError(
    "RECORD_INVALID",
    key,
    `${field} is ${value === undefined ? "missing" : JSON.stringify(value)}`,
  );
}
