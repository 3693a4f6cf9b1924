// SPDX-License-Identifier: Apache-2.0
//
// Whether store and kernel say the same of the node's attachments. Pure; looking is the service's.
import { type Attachment, attachmentKey } from "../net/names.ts";
import type { AllocationRecord } from "./records.ts";
import { isRecovered, type KernelMark } from "./recovered.ts";

export type FindingKind =
  /** The attachment's host link is gone. */
  | "link-missing"
  /** No route of ours leads from the node to an address of the attachment. */
  | "route-missing"
  /** A route of ours leads an address to a link that isn't its holder's. */
  | "route-misled"
  /** A host link with our mark has no record. */
  | "link-unknown"
  /** The record was read from the kernel, and whose it is isn't known. */
  | "recovered";

/** One thing that isn't as it should be. */
export interface Finding {
  readonly kind: FindingKind;
  /** Undefined where there is no record. */
  readonly attachment: Attachment | undefined;
  readonly hostIfname: string;
  /** "" where it is about the link. */
  readonly address: string;
  /** What is wrong, and what ends it; for people. */
  readonly message: string;
}

export interface ConsistencyReport {
  readonly findings: readonly Finding[];
  /** How many were compared with how many host links. */
  readonly attachments: number;
  readonly links: number;
}

/** Everything in which records and kernel differ. Records without a link of their own (`flatnet-ipam`) leave no mark to look for. */
export function compareWithKernel(records: readonly AllocationRecord[], marks: readonly KernelMark[]): Finding[] {
  const links = new Map(marks.map((mark) => [mark.hostIfname, mark]));
  const known = new Set(records.map(({ hostIfname }) => hostIfname));
  const leads = new Map(
    marks.flatMap(({ hostIfname, addresses }) => addresses.map((one) => [one, hostIfname] as const)),
  );
  const held = new Set<string>();
  const findings: Finding[] = [];
  for (const { attachment, hostIfname, addresses } of records) {
    for (const address of addresses) held.add(address);
    if (hostIfname === "") continue;
    const add = (kind: FindingKind, address: string, message: string) =>
      findings.push({ kind, attachment, hostIfname, address, message });
    const key = attachmentKey(attachment);
    if (isRecovered(attachment)) {
      add(
        "recovered",
        "",
        `whose link ${hostIfname} is isn't known; its addresses are kept until its DEL, or until it is gone`,
      );
    }
    if (!links.has(hostIfname)) {
      add(
        "link-missing",
        "",
        `link ${hostIfname} of ${key} is gone; a DEL, or the daemon after its grace period, ends it`,
      );
      continue;
    }
    for (const address of addresses) {
      const to = leads.get(address);
      if (to === undefined) {
        add(
          "route-missing",
          address,
          `no route leads to ${address} of ${key} on ${hostIfname}; the daemon makes it again`,
        );
      } else if (to !== hostIfname) {
        add(
          "route-misled",
          address,
          `${address} of ${key} is routed to ${to} and not to ${hostIfname}; delete that link`,
        );
      }
    }
  }
  for (const { hostIfname, addresses, alias } of marks) {
    const add = (kind: FindingKind, address: string, message: string) =>
      findings.push({ kind, attachment: undefined, hostIfname, address, message });
    if (!known.has(hostIfname)) {
      const name = alias === "" ? hostIfname : `${hostIfname} (${alias})`;
      add("link-unknown", "", `link ${name} has no record; a restarted daemon keeps its addresses for it`);
    }
    for (const address of addresses) {
      if (held.has(address)) continue;
      add(
        "route-misled",
        address,
        `${address} is routed to ${hostIfname} and nobody holds it; delete the route or the link`,
      );
    }
  }
  return findings;
}

/** The findings of both looks: what is between two steps of an ADD or a DEL is in one of them only. */
export function inBoth(first: readonly Finding[], second: readonly Finding[]): Finding[] {
  const before = new Set(first.map(({ message }) => message));
  return second.filter(({ message }) => before.has(message));
}
