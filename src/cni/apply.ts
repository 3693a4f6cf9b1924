// SPDX-License-Identifier: Apache-2.0
//
// Makes a planned pod network in the kernel: three netlink batches and one visit to the pod's namespace.
import { BlockingNetlink } from "../netlink/blocking.ts";
import { decodeLink, deleteLink, getLink, type Link } from "../netlink/link.ts";
import { type Message, NetlinkError, type Request } from "../netlink/message.ts";
import { PodNetworkError } from "../podnet/errors.ts";
import { inNetns, type PodNetns, writeSysctl } from "../podnet/netns.ts";
import { deleteRuleRequests, ownTableRequests, withOwnTable } from "../podnet/own-table.ts";
import {
  bandwidthOf,
  hostRequests,
  isShared,
  linkRequests,
  type PodNetworkPlan,
  podRequests,
  routeRequests,
} from "../podnet/plan.ts";
import { type Sys, SysError } from "../sys/sys.ts";
import { CNI_CODES, CniError, toCniError } from "./errors.ts";
import { openNetns } from "./netns.ts";
import type { UndoStack } from "./undo.ts";

/**
 * @returns the plan as it was made: the routes of a pod's further interface are in a table of its own
 * @throws CniError 101 when the pod has such an interface or the attachment is up already; NetlinkError or SysError for
 * what the kernel refuses. What was made by then is on the undo stack.
 */
export function applyPodNetwork(
  sys: Sys,
  host: BlockingNetlink,
  plan: PodNetworkPlan,
  netns: PodNetns,
  undo: UndoStack,
): PodNetworkPlan {
  // The pod's socket first, so that a path that is no namespace is found before the kernel is asked for anything.
  const pod = inNetns(sys, netns.fd, netns.path, () => BlockingNetlink.open(sys));
  try {
    const link = makeLink(host, plan, netns);
    // Either end's deletion takes the other end, and all addresses, routes and neighbours of both, with it.
    undo.push(`delete link ${plan.host.name}`, () => removeLink(sys, plan.host.name));
    globalThis.faultPoint?.("plugin.link-made");
    if (plan.sysctls.length > 0) setSysctls(sys, plan, netns);
    globalThis.faultPoint?.("plugin.sysctls-set");
    const limits = bandwidthOf(plan, link);
    const made = makePodEnd(pod, plan, link.peerIndex, limits.pod);
    globalThis.faultPoint?.("plugin.pod-end-made");
    if (made !== plan) {
      undo.push("delete the pod's rules", () => removeRules(sys, plan.host.name, netns));
      pod.request(ownTableRequests(made, link.peerIndex));
      globalThis.faultPoint?.("plugin.own-table-made");
    }
    // The limit first: the host end comes up last, and with it everything.
    host.request([...limits.host, ...hostRequests(plan, link.index)]);
    globalThis.faultPoint?.("plugin.host-end-made");
    return made;
  } finally {
    pod.close();
  }
}

/**
 * The pod's end, in one batch. Whether the pod has another interface that is its default one shows in the answer: asking
 * first would cost every pod what only few need.
 * @returns the plan, with the routes that couldn't be made in a table of the interface's own
 */
function makePodEnd(
  pod: BlockingNetlink,
  plan: PodNetworkPlan,
  index: number,
  limits: readonly Request[],
): PodNetworkPlan {
  const routes = routeRequests(plan, index);
  const requests = [...podRequests(plan, index), ...limits];
  const { errors } = pod.submit([...requests, ...routes]);
  const refused = errors.slice(requests.length);
  const taken = new Set(
    plan.routes.filter((route, i) => isShared(route) && refused[i]?.errnoName === "EEXIST").map(({ family }) => family),
  );
  for (const [i, error] of errors.entries()) {
    const route = plan.routes[i - requests.length];
    if (error !== undefined && !(route !== undefined && isShared(route) && taken.has(route.family))) throw error;
  }
  return withOwnTable(plan, taken);
}

/** What the kernel says when there is no such rule, or when it has no rules of the family at all. */
const NO_RULE = ["ENOENT", "EAFNOSUPPORT", "EOPNOTSUPP"];

/** Deletes the rules of a pod's further interface; the first interface has none, and that is success. */
function removeRules(sys: Sys, hostLinkName: string, netns: PodNetns): void {
  const pod = inNetns(sys, netns.fd, netns.path, () => BlockingNetlink.open(sys));
  try {
    const { errors } = pod.submit(deleteRuleRequests(hostLinkName));
    for (const error of errors) if (error !== undefined && !NO_RULE.includes(error.errnoName)) throw error;
  } finally {
    pod.close();
  }
}

/** The same in a namespace that may be gone, or be what a mount leaves behind that is gone: no rule is left then either. */
export function removeRulesAt(sys: Sys, hostLinkName: string, path: string): void {
  if (path === "") return;
  try {
    const fd = openNetns(sys, path, true);
    try {
      removeRules(sys, hostLinkName, { fd, path });
    } finally {
      sys.close(fd);
    }
  } catch (error) {
    if (!(error instanceof CniError || error instanceof PodNetworkError)) throw error;
    if (toCniError(error).code !== CNI_CODES.invalidEnvironment) throw error;
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
export function refuseWhenUp(host: BlockingNetlink, name: string): void {
  if (lookUp(host, name)?.up) throw exists(isUp(name));
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
