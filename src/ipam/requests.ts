// SPDX-License-Identifier: Apache-2.0
//
// From untrusted messages to requests, once: behind this file every field is known to be what it says. Lengths are bounded
// because everything here ends up in a record.
import type * as wire from "../gen/flatnet/ipam/v1/ipam.ts";
import { familyOf, formatAddress, parseAddress } from "../net/address.ts";
import { ALIAS_RULE, ALIASES_MAX, isAlias } from "../net/dns-name.ts";
import { type Attachment, IDENTIFIER_MAX } from "../net/names.ts";
import { ADOPTION_ID_MAX, ADOPTION_SOURCE_MAX, type Adoption, isAdoptionId } from "./adoption.ts";
import type { AdoptionRequest } from "./adoption-request.ts";
import { IpamError, quote } from "./errors.ts";
import { type HistoryQuery, isHistoryToken } from "./history.ts";
import type { AllocationRequest } from "./plans.ts";
import { parsePodEnd } from "./pod-end.ts";
import { describePort, portsMeet } from "./port-index.ts";
import { gatewayAttachment, isPort, PORT_PROTOCOLS, type PodName, type PortMapping, type Sticky } from "./records.ts";

/** Longest part of a pod's name, in characters (a Kubernetes name has 253 at most). */
const POD_NAME_LIMIT = 253;

/** PATH_MAX - 1 (linux/limits.h). */
const PATH_LIMIT = 4095;

/** Longest name of a pool, in characters, as the configuration has it. */
export const POOL_NAME_LIMIT = 63;

/** A year. */
const STICKY_SECONDS_LIMIT = 31_536_000;

/** Most port mappings of one attachment: more than any pod has, few enough for a request and a record. */
const PORT_MAPPING_LIMIT = 256;

/** IFNAMSIZ - 1 (linux/if.h). */
const LINK_NAME_LIMIT = 15;

/** Tenures in an answer: a megabyte of them at most. */
const HISTORY_PAGE_MAX = 1_000;
const HISTORY_PAGE_DEFAULT = 100;

/** @throws IpamError IPAM_INVALID, naming the field and its value; so do all the others */
export function parseAllocateRequest(message: wire.AllocateRequest): AllocationRequest {
  return {
    attachment: parseAttachment(message.attachment),
    pod: parsePod(message.pod),
    netns: parseNetns(message.netns),
    // A plugin that makes its link another way (bridge, macvlan with flatnet-ipam) has no such name.
    hostIfname: message.hostIfname === "" ? "" : parseLinkName("host_ifname", message.hostIfname),
    requestedAddresses: parseRequestedAddresses("requested_addresses", message.requestedAddresses),
    portMappings: parsePortMappings(message.portMappings),
    withGateway: message.withGateway,
    podEnd: parsePodEnd(message.podEnd),
    pool: message.pool === "" ? undefined : parsePool(message.pool),
    sticky: parseSticky(message),
    aliases: parseAliases(message.aliases),
  };
}

export function parseAdoptRequest(message: wire.AdoptRequest): AdoptionRequest {
  const addresses = parseRequestedAddresses("addresses", message.addresses).sort(byFamily);
  if (addresses.length === 0) throw new IpamError("IPAM_INVALID", "addresses is empty");
  return {
    attachment: parseAdopted(message.attachment, addresses),
    pod: parsePod(message.pod),
    netns: message.netns === "" ? "" : parseNetns(message.netns),
    addresses,
    adoption: parseAdoption(message.adoption),
  };
}

/** A container's attachment, or the gateway that a network alone stands for. */
function parseAdopted(message: Attachment | undefined, addresses: readonly string[]): Attachment {
  if (message === undefined || message.containerId !== "" || message.ifname !== "") return parseAttachment(message);
  const [address = "", ...others] = addresses;
  if (others.length > 0) throw invalid("addresses", addresses.join(", "), "one for a gateway");
  return gatewayAttachment(parseName("attachment.network", message.network), address);
}

function parseAdoption(message: wire.Adoption | undefined): Adoption {
  if (message === undefined) throw new IpamError("IPAM_INVALID", "adoption is missing");
  const { id, source } = message;
  if (source.length > ADOPTION_SOURCE_MAX) throw tooLong("adoption.source", source, ADOPTION_SOURCE_MAX);
  if (/\p{Cc}/u.test(source)) throw invalid("adoption.source", source, "text without control characters");
  return { id: parseAdoptionId("adoption.id", id), source };
}

export function parseUndoAdoptionRequest({ id }: wire.UndoAdoptionRequest): string {
  return parseAdoptionId("id", id);
}

function parseAdoptionId(field: string, id: string): string {
  if (!isAdoptionId(id)) throw invalid(field, id, `letters, digits and '-', at most ${ADOPTION_ID_MAX}`);
  return id;
}

export function parseGetAllocationRequest(message: wire.GetAllocationRequest): Attachment {
  return parseAttachment(message.attachment);
}

export function parseReleaseRequest(message: wire.ReleaseRequest): { attachment: Attachment; cause: string } {
  const { cause } = message;
  if (!/^[a-z-]{0,32}$/.test(cause)) throw invalid("cause", cause, "at most 32 of a-z and '-'");
  return { attachment: parseAttachment(message.attachment), cause: cause === "" ? "del" : cause };
}

export function parseGetHistoryRequest(message: wire.GetHistoryRequest): HistoryQuery {
  const { address, pageSize, pageToken } = message;
  const fromMs = parseTime("from_ms", message.fromMs);
  const toMs = message.toMs === 0n ? Number.MAX_SAFE_INTEGER : parseTime("to_ms", message.toMs);
  if (toMs < fromMs) {
    throw new IpamError("IPAM_INVALID", `to_ms is ${toMs}; it must not be before from_ms, ${fromMs}`);
  }
  if (pageSize > HISTORY_PAGE_MAX) {
    throw new IpamError("IPAM_INVALID", `page_size is ${pageSize}; it must be 0 to ${HISTORY_PAGE_MAX}`);
  }
  if (pageToken !== "" && !isHistoryToken(pageToken)) {
    throw invalid("page_token", pageToken, "next_page_token of an answer");
  }
  return {
    address: address === "" ? undefined : formatAddress(parseIp("address", address)),
    fromMs,
    toMs,
    limit: pageSize === 0 ? HISTORY_PAGE_DEFAULT : pageSize,
    after: pageToken === "" ? undefined : pageToken,
  };
}

function parseTime(field: string, ms: bigint): number {
  if (ms >= 0n && ms <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(ms);
  throw new IpamError("IPAM_INVALID", `${field} is ${ms}; it must be milliseconds since 1970`);
}

/** The key's parts by the rules of the CNI spec, sections 1 and 2, which keep "/" out of them. */
export function parseAttachment(message: Attachment | undefined): Attachment {
  if (message === undefined) throw new IpamError("IPAM_INVALID", "attachment is missing");
  return {
    network: parseName("attachment.network", message.network),
    containerId: parseName("attachment.container_id", message.containerId),
    ifname: parseLinkName("attachment.ifname", message.ifname),
  };
}

function parseName(field: string, value: string): string {
  if (value === "") throw new IpamError("IPAM_INVALID", `${field} is empty`);
  if (value.length > IDENTIFIER_MAX) throw tooLong(field, value, IDENTIFIER_MAX);
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(value)) {
    throw invalid(field, value, "letters, digits, '_', '.' and '-', a letter or digit first");
  }
  return value;
}

/** What the kernel takes as the name of a link (dev_valid_name in net/core/dev.c) and the CNI spec allows. */
function parseLinkName(field: string, value: string): string {
  if (value === "") throw new IpamError("IPAM_INVALID", `${field} is empty`);
  if (Buffer.byteLength(value) > LINK_NAME_LIMIT) throw tooLong(field, value, LINK_NAME_LIMIT);
  if (value === "." || value === ".." || /[/:\s\p{Cc}]/u.test(value)) {
    throw invalid(field, value, "a link's name, without '/', ':' and space");
  }
  return value;
}

function parseNetns(value: string): string {
  if (value.length > PATH_LIMIT) throw tooLong("netns", value, PATH_LIMIT);
  if (!value.startsWith("/") || value.includes("\0")) throw invalid("netns", value, "an absolute path");
  return value;
}

function parsePod(message: wire.Pod | undefined): PodName | undefined {
  if (message === undefined) return undefined;
  const { namespace, name, uid } = message;
  for (const [field, value] of Object.entries({ namespace, name, uid })) {
    if (value.length > POD_NAME_LIMIT) throw tooLong(`pod.${field}`, value, POD_NAME_LIMIT);
    // These are shown to people and put into logs and link aliases.
    if (/[\s\p{Cc}]/u.test(value)) throw invalid(`pod.${field}`, value, "text without spaces and control characters");
  }
  return namespace === "" && name === "" && uid === "" ? undefined : { namespace, name, uid };
}

/** Whether there is such a pool the allocator says. */
function parsePool(value: string): string {
  if (value.length > POOL_NAME_LIMIT) throw tooLong("pool", value, POOL_NAME_LIMIT);
  return value;
}

/**
 * Whom the addresses are kept for: the owner that is named, or the pod if its name ends in an ordinal, as in a StatefulSet.
 * The network and the interface are a part of it, because another interface of a pod is another address.
 */
function parseSticky({ sticky, attachment, pod }: wire.AllocateRequest): Sticky | undefined {
  if (sticky === undefined) return undefined;
  const { ttlSeconds, owner } = sticky;
  if (ttlSeconds < 1 || ttlSeconds > STICKY_SECONDS_LIMIT) {
    throw invalid("sticky.ttl_seconds", `${ttlSeconds}`, `1 to ${STICKY_SECONDS_LIMIT}`);
  }
  if (owner.length > POD_NAME_LIMIT) throw tooLong("sticky.owner", owner, POD_NAME_LIMIT);
  if (/[\s\p{Cc}]/u.test(owner)) throw invalid("sticky.owner", owner, "text without spaces and control characters");
  const stable = pod !== undefined && /^[^/]+$/.test(pod.namespace) && /-[0-9]+$/.test(pod.name);
  const who = owner !== "" ? `owner ${owner}` : stable ? `pod ${pod.namespace}/${pod.name}` : undefined;
  if (who === undefined) return undefined;
  return { owner: `${who} (${attachment?.network}, ${attachment?.ifname})`, ttlMs: ttlSeconds * 1000 };
}

function parseRequestedAddresses(field: string, texts: readonly string[]): string[] {
  const addresses = texts.map((text, i) => parseIp(`${field}[${i}]`, text));
  const families = new Set(addresses.map(familyOf));
  if (families.size < addresses.length)
    throw invalid(field, texts.slice(0, 8).join(", "), "at most one address a family");
  return addresses.map(formatAddress);
}

/** IPv4 first. */
function byFamily(a: string, b: string): number {
  return familyOf(parseAddress(a)) - familyOf(parseAddress(b));
}

/** Repeated mappings count once, as runtimes do repeat them. */
function parsePortMappings(messages: readonly wire.PortMapping[]): PortMapping[] {
  if (messages.length > PORT_MAPPING_LIMIT) throw tooMany("port_mappings", messages, PORT_MAPPING_LIMIT);
  const mappings: PortMapping[] = [];
  for (const [i, message] of messages.entries()) {
    const field = `port_mappings[${i}]`;
    const mapping = parsePortMapping(field, message);
    const rivals = mappings.filter((other) => portsMeet(mapping, other));
    const odd = rivals.find(({ containerPort }) => containerPort !== mapping.containerPort);
    if (odd !== undefined) {
      const ports = `${odd.containerPort} and ${mapping.containerPort}`;
      const rule = `${describePort(mapping)} leads to container ports ${ports}; it must lead to one`;
      throw new IpamError("IPAM_INVALID", `${field}: ${rule}`);
    }
    if (!rivals.some(({ hostIp }) => hostIp === mapping.hostIp)) mappings.push(mapping);
  }
  return mappings;
}

function parsePortMapping(field: string, message: wire.PortMapping): PortMapping {
  const { hostPort, containerPort, protocol, hostIp } = message;
  for (const [name, port] of Object.entries({ host_port: hostPort, container_port: containerPort })) {
    if (!isPort(port)) throw new IpamError("IPAM_INVALID", `${field}.${name} is ${port}; it must be 1 to 65535`);
  }
  const known = PORT_PROTOCOLS.find((name) => name === protocol);
  if (known === undefined) throw invalid(`${field}.protocol`, protocol, `one of ${PORT_PROTOCOLS.join(", ")}`);
  const address = hostIp === "" ? "" : formatAddress(unmapped(parseIp(`${field}.host_ip`, hostIp)));
  return { hostPort, containerPort, protocol: known, hostIp: address };
}

/** Repeated ones count once, as runtimes do repeat them. */
function parseAliases(texts: readonly string[]): string[] {
  if (texts.length > ALIASES_MAX) throw tooMany("aliases", texts, ALIASES_MAX);
  for (const [i, text] of texts.entries()) if (!isAlias(text)) throw invalid(`aliases[${i}]`, text, ALIAS_RULE);
  return [...new Set(texts)];
}

function parseIp(field: string, text: string): Uint8Array {
  try {
    return parseAddress(text);
  } catch (cause) {
    throw new IpamError("IPAM_INVALID", `${field} is ${quote(text)}; it must be an IP address`, cause);
  }
}

/** An IPv4 address that is written as an IPv6 one (RFC 4291, section 2.5.5.2) is the port of the IPv4 one. */
function unmapped(address: Uint8Array): Uint8Array {
  const mapped = address.length === 16 && address.subarray(0, 12).every((byte, i) => byte === (i < 10 ? 0 : 0xff));
  return mapped ? address.subarray(12) : address;
}

function invalid(field: string, value: string, rule: string): IpamError {
  return new IpamError("IPAM_INVALID", `${field} is ${quote(value)}; it must be ${rule}`);
}

function tooMany(field: string, entries: readonly unknown[], limit: number): IpamError {
  return new IpamError("IPAM_INVALID", `${field} has ${entries.length} entries; it must not have more than ${limit}`);
}

function tooLong(field: string, value: string, limit: number): IpamError {
  return new IpamError("IPAM_INVALID", `${field} is ${quote(value)}; it must not be longer than ${limit}`);
}
