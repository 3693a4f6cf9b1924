// SPDX-License-Identifier: Apache-2.0
//
// Addresses that the kernel knows and the database doesn't: a host link of ours with routes to addresses that nobody holds.
// Its record is lost, because a link is made after its record and deleted before it. Until the runtime's DEL comes, or the
// link is gone, the address must not be given to anybody else, so a record of its own holds it. Whose it is can't be read
// from the kernel; but the name of the link follows from the attachment, so the attachment is recognised when it comes.
import { type Attachment, attachmentKey } from "../net/names.ts";
import type { AllocationRecord, PodName, Snapshot } from "./records.ts";

/** What the kernel says of one attachment: a host link with our mark, and the addresses that our routes lead to it. */
export interface KernelMark {
  readonly hostIfname: string;
  /** "" for none. */
  readonly alias: string;
  /** Canonical text, at most one a family, IPv4 first; may be empty. */
  readonly addresses: readonly string[];
}

const CONTAINER_PREFIX = "link:";

/**
 * The key of a link's attachment as long as nobody knows better. No container ID has a colon and no network an empty name, so
 * no runtime's attachment has such a key, and a request that names one is refused.
 */
export function recoveredAttachment(hostIfname: string): Attachment {
  return { network: "", containerId: CONTAINER_PREFIX + hostIfname, ifname: "unknown" };
}

export function isRecovered({ network, containerId }: Attachment): boolean {
  return network === "" && containerId.startsWith(CONTAINER_PREFIX);
}

/** What the kernel has and the database doesn't. */
export interface Recovery {
  /** To be written: each holds addresses that nobody else does. */
  readonly records: readonly AllocationRecord[];
  /** What can't be put right, a sentence each. */
  readonly problems: readonly string[];
}

/**
 * Pure.
 * @param nowMs from before the kernel was looked at: a DEL from before that would have taken the link away, so one that the
 * journal tells of was for an earlier life
 */
export function planRecovery(
  snapshot: Snapshot,
  marks: readonly KernelMark[],
  bootId: string,
  nowMs: number,
): Recovery {
  const links = new Map<string, AllocationRecord>();
  const holders = new Map<string, AllocationRecord>();
  for (const record of snapshot.allocations.values()) {
    if (record.hostIfname !== "") links.set(record.hostIfname, record);
    for (const address of record.addresses) holders.set(address, record);
  }
  const records: AllocationRecord[] = [];
  const problems: string[] = [];
  for (const { hostIfname, alias, addresses } of marks) {
    const known = links.get(hostIfname);
    const free = addresses.filter((address) => {
      const holder = holders.get(address);
      if (holder !== undefined && holder !== known) {
        problems.push(`${address} is routed to ${hostIfname} and held by ${attachmentKey(holder.attachment)}`);
      } else if (holder === undefined && known !== undefined) {
        problems.push(
          `${address} is routed to ${hostIfname}, whose attachment ${attachmentKey(known.attachment)} has others`,
        );
      }
      return holder === undefined;
    });
    if (known !== undefined || free.length === 0) continue;
    const record: AllocationRecord = {
      attachment: recoveredAttachment(hostIfname),
      pod: podOfAlias(alias),
      netns: "",
      hostIfname,
      addresses: free,
      allocatedAtMs: nowMs,
      confirmedAtMs: nowMs,
      bootId,
      portMappings: [],
      aliases: [],
      extra: {},
    };
    records.push(record);
    for (const address of free) holders.set(address, record);
  }
  return { records, problems };
}

/** The pod in a link's alias, "flatnet:<namespace>/<pod>"; undefined outside Kubernetes. */
function podOfAlias(alias: string): PodName | undefined {
  const match = /^flatnet:([^/\s]+)\/([^/\s]+)$/.exec(alias);
  return match === null ? undefined : { namespace: match[1] as string, name: match[2] as string, uid: "" };
}
