// SPDX-License-Identifier: Apache-2.0
//
// The hostPorts of a pod as elements of the table's maps.
import { type Family, familyOf, formatAddress, parseAddress } from "../net/address.ts";
import type { Attachment } from "../net/names.ts";
import { concat } from "../nft/table.ts";
import { HostPortError } from "./errors.ts";

/** One hostPort, as the contract has it. */
export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  /** "tcp", "udp" or "sctp". */
  readonly protocol: string;
  /** The node's address that the port is on; "" or an unspecified address for all of both families, or of that one. */
  readonly hostIp: string;
}

/** What is to be known of a pod. An attachment's addresses never change. */
export interface PortRecord {
  readonly attachment: Attachment;
  /** At most one a family. */
  readonly addresses: readonly string[];
  readonly portMappings: readonly PortMapping[];
}

export type SetName = "hostport4" | "hostport4_on" | "hostport6" | "hostport6_on" | "hairpin4" | "hairpin6";

/** One element of one set. */
export interface Entry {
  readonly set: SetName;
  readonly key: Uint8Array;
  readonly data?: Uint8Array;
  /** The port that is translated; absent in the hairpin sets. */
  readonly port?: TranslatedPort;
}

/** What an entry does, for finding the connections that it concerns. Addresses are bytes. */
export interface TranslatedPort {
  readonly family: Family;
  /** IPPROTO_* number. */
  readonly protocol: number;
  /** Undefined for all of the node's. */
  readonly hostIp: Uint8Array | undefined;
  readonly hostPort: number;
  readonly podIp: Uint8Array;
  readonly podPort: number;
}

/** IPPROTO_*. */
export const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };

/** What tells an entry from all others: no two of one set have one key. */
export function entryId({ set, key }: Entry): string {
  return `${set} ${key.join(".")}`;
}

/** Whether two entries of one ID are the same in their data too. */
export function sameEntry(a: Entry, b: Entry): boolean {
  return (a.data?.join() ?? "") === (b.data?.join() ?? "");
}

/**
 * The elements of a pod.
 * @throws HostPortError HOSTPORT_INVALID of a mapping that could never work
 */
export function entriesOf(record: PortRecord): Entry[] {
  const pods = record.addresses.map(parseAddress);
  const ports = record.portMappings.flatMap((mapping) => portsOf(mapping, pods));
  const entries = ports.map(portEntry);
  for (const podIp of pods) {
    if (!ports.some((port) => port.podIp === podIp)) continue;
    entries.push({ set: podIp.length === 4 ? "hairpin4" : "hairpin6", key: concat(podIp, podIp) });
  }
  return entries;
}

function portsOf(mapping: PortMapping, pods: readonly Uint8Array[]): TranslatedPort[] {
  const { hostPort, containerPort } = mapping;
  const protocol = PROTOCOLS[mapping.protocol];
  if (protocol === undefined) throw invalid(mapping, `the protocol is none of ${Object.keys(PROTOCOLS).join(", ")}`);
  for (const port of [hostPort, containerPort]) {
    if (!Number.isInteger(port) || port < 1 || port > 65_535) throw invalid(mapping, `${port} is no port`);
  }
  const on = mapping.hostIp === "" ? undefined : hostIpOf(mapping);
  const reached = pods.filter((podIp) => on === undefined || podIp.length === on.length);
  if (on !== undefined && reached.length === 0) {
    throw invalid(mapping, `the pod has no IPv${familyOf(on)} address, only ${pods.map(formatAddress).join(", ")}`);
  }
  const hostIp = on?.every((byte) => byte === 0) ? undefined : on;
  return reached.map((podIp) => ({
    family: familyOf(podIp),
    protocol,
    hostIp,
    hostPort,
    podIp,
    podPort: containerPort,
  }));
}

function hostIpOf(mapping: PortMapping): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = parseAddress(mapping.hostIp);
  } catch (cause) {
    throw invalid(mapping, (cause as Error).message, cause);
  }
  if (formatAddress(bytes) === "::1") {
    throw invalid(mapping, "no packet from ::1 can leave the node; 127.0.0.1 can be used");
  }
  if (bytes.length === 16 && bytes[0] === 0xfe && ((bytes[1] as number) & 0xc0) === 0x80) {
    throw invalid(mapping, "no packet to a link-local address is forwarded to a pod");
  }
  return bytes;
}

function portEntry(port: TranslatedPort): Entry {
  const key = [Uint8Array.of(port.protocol), portBytes(port.hostPort)];
  const data = concat(port.podIp, portBytes(port.podPort));
  if (port.hostIp === undefined) return { set: `hostport${port.family}`, key: concat(...key), data, port };
  return { set: `hostport${port.family}_on`, key: concat(port.hostIp, ...key), data, port };
}

/** In network order. */
function portBytes(port: number): Uint8Array {
  return Uint8Array.of(port >> 8, port & 0xff);
}

function invalid({ hostIp, hostPort, protocol }: PortMapping, why: string, cause?: unknown): HostPortError {
  const on = hostIp === "" ? "" : ` on ${hostIp}`;
  return new HostPortError("HOSTPORT_INVALID", `hostPort ${hostPort}/${protocol}${on}: ${why}`, cause);
}
