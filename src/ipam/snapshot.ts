// SPDX-License-Identifier: Apache-2.0
//
// What a database says as a whole: read strictly, where a contradiction is an error, or for what it is worth, when the
// database is damaged and the kernel has the last word.
import { attachmentKey } from "../net/names.ts";
import { describePort, PortIndex } from "./port-index.ts";
import {
  ALLOCATION_PREFIX,
  type AllocationRecord,
  FORMAT_KEY,
  parseAllocation,
  parseRelease,
  parseReleasedAddress,
  parseValue,
  RELEASE_PREFIX,
  RecordError,
  type ReleaseRecord,
  type Snapshot,
} from "./records.ts";
import type { KernelMark } from "./recovered.ts";

/** Key and value. */
export type Entry = readonly [key: string, value: string];

/** What only one attachment can have: addresses, ports of the node, and the name of its host link. */
class Claims {
  readonly #addresses = new Map<string, string>();
  readonly #links = new Map<string, string>();
  readonly #ports = new PortIndex();

  addressHolder(address: string): string | undefined {
    return this.#addresses.get(address);
  }

  linkHolder(hostIfname: string): string | undefined {
    return hostIfname === "" ? undefined : this.#links.get(hostIfname);
  }

  portConflict(record: AllocationRecord): ReturnType<PortIndex["conflict"]> {
    return this.#ports.conflict(attachmentKey(record.attachment), record.portMappings);
  }

  /** What the record has that another has too, and the other's key. */
  conflict(record: AllocationRecord): { readonly what: string; readonly holder: string } | undefined {
    for (const address of record.addresses) {
      const holder = this.addressHolder(address);
      if (holder !== undefined) return { what: `address ${address}`, holder };
    }
    const holder = this.linkHolder(record.hostIfname);
    if (holder !== undefined) return { what: `host link ${record.hostIfname}`, holder };
    const port = this.portConflict(record);
    return port && { what: describePort(port.wanted), holder: port.holder };
  }

  take(record: AllocationRecord): void {
    const key = attachmentKey(record.attachment);
    for (const address of record.addresses) this.#addresses.set(address, key);
    if (record.hostIfname !== "") this.#links.set(record.hostIfname, key);
    this.#ports.hold(key, record.portMappings);
  }
}

/**
 * All entries of a database but its history. Keys of a kind that this version does not know are a newer writer's additions and
 * left alone.
 * @throws RecordError also when two attachments hold one address, link or port: serving then would be choosing whose traffic
 * breaks.
 */
export function parseSnapshot(entries: Iterable<Entry>): Snapshot {
  const allocations = new Map<string, AllocationRecord>();
  const released = new Map<string, ReleaseRecord>();
  const claims = new Claims();
  for (const [key, value] of entries) {
    if (key === FORMAT_KEY) {
      parseValue(key, value);
    } else if (key.startsWith(ALLOCATION_PREFIX)) {
      const record = parseAllocation(key, value);
      const conflict = claims.conflict(record);
      if (conflict !== undefined) {
        const { what, holder } = conflict;
        throw new RecordError(
          "RECORD_CONFLICT",
          key,
          `${what} is held by ${JSON.stringify(ALLOCATION_PREFIX + holder)} too`,
        );
      }
      claims.take(record);
      allocations.set(key.slice(ALLOCATION_PREFIX.length), record);
    } else if (key.startsWith(RELEASE_PREFIX)) {
      released.set(parseReleasedAddress(key), parseRelease(key, value));
    }
  }
  // A held address is held, whatever is said of its past.
  for (const { addresses } of allocations.values()) for (const address of addresses) released.delete(address);
  return { allocations, released };
}

/** What can be relied on of a damaged database. */
export interface Salvage {
  readonly allocations: readonly AllocationRecord[];
  /** All other entries that make sense, or that only a newer version could judge. */
  readonly others: readonly Entry[];
  /** What was lost or changed of what could be read, a sentence each. */
  readonly losses: readonly string[];
}

/**
 * Judges entries one by one. Where two attachments hold the same, the one that the kernel agrees with keeps it, and then the
 * one that was asked for last. Where the kernel has other addresses for a link than its record, the kernel's count.
 * @throws RecordError RECORD_NEWER: a newer program's database is for that program to repair
 */
export function salvage(entries: Iterable<Entry>, marks: readonly KernelMark[]): Salvage {
  const byLink = new Map(marks.map((mark) => [mark.hostIfname, mark]));
  const found: AllocationRecord[] = [];
  const others: Entry[] = [];
  const losses: string[] = [];
  for (const [key, value] of entries) {
    try {
      if (key.startsWith(ALLOCATION_PREFIX)) found.push(parseAllocation(key, value));
      else {
        if (key.startsWith(RELEASE_PREFIX)) parseRelease(parseReleasedAddress(key) && key, value);
        else if (key === FORMAT_KEY) parseValue(key, value);
        others.push([key, value]);
      }
    } catch (error) {
      if (!(error instanceof RecordError) || error.code === "RECORD_NEWER") throw error;
      losses.push(error.message);
    }
  }
  const proven = (record: AllocationRecord) => (byLink.has(record.hostIfname) ? 1 : 0);
  found.sort((a, b) => proven(b) - proven(a) || b.confirmedAtMs - a.confirmedAtMs);
  const claims = new Claims();
  const allocations: AllocationRecord[] = [];
  for (const record of found) {
    const kept = withoutConflicts(withKernels(record, byLink.get(record.hostIfname), losses), claims, losses);
    if (kept === undefined) continue;
    claims.take(kept);
    allocations.push(kept);
  }
  return { allocations, others: others.filter(([key]) => !isHeld(key, claims)), losses };
}

/** A held address is not a released one. */
function isHeld(key: string, claims: Claims): boolean {
  return key.startsWith(RELEASE_PREFIX) && claims.addressHolder(key.slice(RELEASE_PREFIX.length)) !== undefined;
}

function withKernels(record: AllocationRecord, mark: KernelMark | undefined, losses: string[]): AllocationRecord {
  if (mark === undefined) return record;
  const isV6 = (address: string) => address.includes(":");
  const addresses = [false, true].flatMap((v6) => {
    const own = record.addresses.find((address) => isV6(address) === v6);
    return mark.addresses.find((address) => isV6(address) === v6) ?? own ?? [];
  });
  if (addresses.join() === record.addresses.join()) return record;
  const key = attachmentKey(record.attachment);
  losses.push(`${key} had ${record.addresses.join(" and ")}; the kernel has ${addresses.join(" and ")} for its link`);
  return { ...record, addresses };
}

function withoutConflicts(record: AllocationRecord, claims: Claims, losses: string[]): AllocationRecord | undefined {
  const key = attachmentKey(record.attachment);
  const lose = (what: string, holder: string | undefined) => {
    losses.push(`${key} lost ${what}, which ${holder} has too`);
    return false;
  };
  const addresses = record.addresses.filter((address) => {
    const holder = claims.addressHolder(address);
    return holder === undefined || lose(`address ${address}`, holder);
  });
  if (addresses.length === 0) return undefined;
  const linkHolder = claims.linkHolder(record.hostIfname);
  if (linkHolder !== undefined) lose(`host link ${record.hostIfname}`, linkHolder);
  const hostIfname = linkHolder === undefined ? record.hostIfname : "";
  const port = claims.portConflict(record);
  if (port !== undefined) lose(describePort(port.wanted), port.holder);
  return { ...record, addresses, hostIfname, portMappings: port === undefined ? record.portMappings : [] };
}
