// SPDX-License-Identifier: Apache-2.0
//
// From untrusted messages to requests, once: behind this file every field is known to be what it says. Lengths are bounded
// because everything here ends up in a record.
import type * as wire from "../gen/flatnet/ipam/v1/ipam.ts";
import { type Attachment, IDENTIFIER_MAX } from "../net/names.ts";
import type { AllocationRequest } from "./allocator.ts";
import { IpamError, quote } from "./errors.ts";
import type { PodName } from "./records.ts";

/** Longest part of a pod's name, in characters (a Kubernetes name has 253 at most). */
const POD_NAME_LIMIT = 253;

/** PATH_MAX - 1 (linux/limits.h). */
const PATH_LIMIT = 4095;

/** IFNAMSIZ - 1 (linux/if.h). */
const LINK_NAME_LIMIT = 15;

/** @throws IpamError IPAM_INVALID, naming the field and its value; so do all the others */
export function parseAllocateRequest(message: wire.AllocateRequest): AllocationRequest {
  return {
    attachment: parseAttachment(message.attachment),
    pod: parsePod(message.pod),
    netns: parseNetns(message.netns),
    // A plugin that makes its link another way (bridge, macvlan with flatnet-ipam) has no such name.
    hostIfname: message.hostIfname === "" ? "" : parseLinkName("host_ifname", message.hostIfname),
  };
}

export function parseReleaseRequest(message: wire.ReleaseRequest): Attachment {
  return parseAttachment(message.attachment);
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

function invalid(field: string, value: string, rule: string): IpamError {
  return new IpamError("IPAM_INVALID", `${field} is ${quote(value)}; it must be ${rule}`);
}

function tooLong(field: string, value: string, limit: number): IpamError {
  return new IpamError("IPAM_INVALID", `${field} is ${quote(value)}; it must not be longer than ${limit}`);
}
