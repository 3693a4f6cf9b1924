// SPDX-License-Identifier: Apache-2.0
//
// Makes a planned pod network in the kernel: three netlink batches and one visit to the pod's namespace.
import { BlockingNetlink } from "../netlink/blocking.ts";
import { decodeLink, deleteLink, getLink, type Link } from "../netlink/link.ts";
import { type Message, NetlinkError } from "../netlink/message.ts";
import { type Fd, type Sys, SysError } from "../sys/sys.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { inNetns, writeSysctl } from "./netns.ts";
import { bandwidthOf, hostRequests, linkRequests, type PodNetworkPlan, podRequests } from "./plan.ts";
import type { UndoStack } from "./undo.ts";

/** Where a pod network is made. `netns` is open on the pod's namespace and `path` is its name for people. */
export interface PodNetns {
  readonly fd: Fd;
  readonly path: string;
}

/**
 * @throws CniError 101 when the pod has such an interface or the attachment is up already; NetlinkError or SysError for
 * what the kernel refuses. What was made by then is on the undo stack.
 */
export function applyPodNetwork(sys: Sys, plan: PodNetworkPlan, netns: PodNetns, undo: UndoStack): void {
  const host = BlockingNetlink.open(sys);
  try {
    // The pod's socket first, so that a path that is no namespace is found before the kernel is asked for anything.
    const pod = inNetns(sys, netns.fd, netns.path, () => BlockingNetlink.open(sys));
    try {
      const link = makeLink(host, plan, netns);
      // Either end's deletion takes the other end, and all addresses, routes and neighbours of both, with it.
      undo.push(`delete link ${plan.host.name}`, () => removeLink(sys, plan.host.name));
      if (plan.sysctls.length > 0) setSysctls(sys, plan, netns);
      const limits = bandwidthOf(plan, link);
      pod.request([...podRequests(plan, link.peerIndex), ...limits.pod]);
      // The limit first: the host end comes up last, and with it everything.
      host.request([...limits.host, ...hostRequests(plan, link.index)]);
    } finally {
      pod.close();
    }
  } finally {
    host.close();
  }
}

/** Deletes a host end, and with it the pod's. A link that isn't there is success. */
export function removeLink(sys: Sys, name: string): void {
  const host = BlockingNetlink.open(sys);
  try {
    host.request([deleteLink(name)]);
  } catch (error) {
    if (!isErrno(error, "ENODEV")) throw error;
  } finally {
    host.close();
  }
}

/**
 * Looks whether the attachment's host end is up already, before anything is asked of anybody: a second ADD must not change
 * what the first one made, its record neither.
 * @throws CniError 101
 */
export function refuseWhenUp(sys: Sys, name: string): void {
  const host = BlockingNetlink.open(sys);
  try {
    if (lookUp(host, name)?.up) throw exists(isUp(name));
  } finally {
    host.close();
  }
}

/** Which links the two ends are, each in its namespace. */
export interface VethIndexes {
  readonly index: number;
  readonly peerIndex: number;
}

function makeLink(host: BlockingNetlink, plan: PodNetworkPlan, netns: PodNetns): VethIndexes {
  try {
    return indexes(host.request(linkRequests(plan, netns.fd)), plan);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
    // Either the pod has an interface of that name, or our own host end is there from an earlier try.
    const ours = lookUp(host, plan.host.name);
    if (ours === undefined) throw exists(`${plan.pod.name} is already in ${netns.path}`, error);
    if (ours.up) throw exists(isUp(plan.host.name), error);
  }
  // A host end that never came up was left by a plugin that was killed half-way: the key is ours, so the link is too.
  host.request([deleteLink(plan.host.name)]);
  try {
    return indexes(host.request(linkRequests(plan, netns.fd)), plan);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
    throw exists(`${plan.pod.name} is already in ${netns.path}`, error);
  }
}

function isUp(name: string): string {
  return `${name} of this attachment is up: it was added already`;
}

function exists(details: string, cause?: unknown): CniError {
  return new CniError(CNI_CODES.interfaceExists, "the interface already exists", details, cause);
}

function lookUp(host: BlockingNetlink, name: string): Link | undefined {
  try {
    return firstLink(host.request([getLink(name)]));
  } catch (error) {
    if (isErrno(error, "ENODEV")) return undefined;
    throw error;
  }
}

function indexes(answers: readonly Message[], plan: PodNetworkPlan): VethIndexes {
  const link = firstLink(answers);
  if (link?.peerIndex === undefined) {
    throw new NetlinkError("NETLINK_PROTOCOL", `the kernel made ${plan.host.name} but did not tell its indexes`);
  }
  return { index: link.index, peerIndex: link.peerIndex };
}

function firstLink(answers: readonly Message[]): Link | undefined {
  for (const answer of answers) {
    const link = decodeLink(answer);
    if (link !== undefined) return link;
  }
  return undefined;
}

function setSysctls(sys: Sys, plan: PodNetworkPlan, netns: PodNetns): void {
  inNetns(sys, netns.fd, netns.path, () => {
    for (const [path, value] of plan.sysctls) {
      try {
        writeSysctl(sys, path, value);
      } catch (cause) {
        if (!(cause instanceof SysError)) throw cause;
        const details = `set sysctl net.${path.replaceAll("/", ".")} to ${JSON.stringify(value)}: ${cause.code}`;
        throw new CniError(CNI_CODES.kernelRefused, "the kernel refused a step", details, cause);
      }
    }
  });
}

function isErrno(error: unknown, name: string): boolean {
  return error instanceof NetlinkError && error.errnoName === name;
}
