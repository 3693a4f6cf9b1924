// SPDX-License-Identifier: Apache-2.0
//
// What the kernel has of a pod network now: for CHECK, and for a daemon that repairs. Reads, and changes nothing.
import { familyOf } from "../net/address.ts";
import { decodeAddress, dumpAddresses, type InterfaceAddress } from "../netlink/address.ts";
import { BlockingNetlink } from "../netlink/blocking.ts";
import { decodeLink, getLink, type Link } from "../netlink/link.ts";
import type { Message, Request } from "../netlink/message.ts";
import { decodeNeighbour, dumpNeighbours, type Neighbour } from "../netlink/neighbour.ts";
import { decodeRoute, dumpRoutes, lookUpRoute, type Route } from "../netlink/route.ts";
import { decodeSourceRule, dumpRules, type SourceRule } from "../netlink/rule.ts";
import { getRootQdisc } from "../netlink/tc.ts";
import { O_RDONLY, type Sys, SysError } from "../sys/sys.ts";
import { inNetns, type PodNetns } from "./netns.ts";
import type { PodNetworkPlan } from "./plan.ts";

/** One end of the pair. */
export interface ObservedEnd {
  readonly link: Link;
  readonly neighbours: readonly Neighbour[];
  /** RTM_NEWQDISC messages; empty where no bandwidth limit is expected. */
  readonly qdiscs: readonly Message[];
}

export interface Observation {
  /** Undefined when there is no such link. */
  readonly host: ObservedEnd | undefined;
  readonly pod:
    | (ObservedEnd & {
        /** Of all links of the pod. */
        readonly addresses: readonly InterfaceAddress[];
        readonly routes: readonly Route[];
        /** Rules for one address, whoever made them. */
        readonly rules: readonly SourceRule[];
      })
    | undefined;
  /** For each address of the plan, the node's route that a packet to it would take; undefined when there is none. */
  readonly hostRoutes: readonly (Route | undefined)[];
  /** Values of the plan's sysctls in the pod, in its order; undefined for one that isn't there. */
  readonly sysctls: readonly (string | undefined)[];
}

/** The host's end alone. @throws NetlinkError or SysError when something can't be read at all */
export function observeHostEnd(sys: Sys, plan: PodNetworkPlan): Observation {
  const host = BlockingNetlink.open(sys);
  try {
    const hostRoutes = routesTo(host, plan);
    return { host: observeEnd(host, plan.host.name, false), pod: undefined, hostRoutes, sysctls: [] };
  } finally {
    host.close();
  }
}

/** @throws NetlinkError or SysError when something can't be read at all, PodNetworkError when there is no namespace */
export function observe(sys: Sys, plan: PodNetworkPlan, netns: PodNetns): Observation {
  const host = BlockingNetlink.open(sys);
  try {
    const limited = plan.bandwidth !== undefined;
    const pod = inNetns(sys, netns.fd, netns.path, () => BlockingNetlink.open(sys));
    try {
      const podEnd = observeEnd(pod, plan.pod.name, limited);
      const index = podEnd?.link.index;
      return {
        host: observeEnd(host, plan.host.name, limited),
        pod: podEnd && {
          ...podEnd,
          addresses: decoded(pod.dump(dumpAddresses()), decodeAddress),
          rules: plan.addresses.flatMap((address) => decoded(pod.dump(dumpRules(familyOf(address))), decodeSourceRule)),
          routes: plan.addresses.flatMap((address) =>
            decoded(pod.dump(dumpRoutes(familyOf(address), ANY_PROTOCOL)), decodeRoute).filter(
              ({ oif }) => oif === index,
            ),
          ),
        },
        hostRoutes: routesTo(host, plan),
        sysctls: readSysctls(sys, plan, netns),
      };
    } finally {
      pod.close();
    }
  } finally {
    host.close();
  }
}

function routesTo(host: BlockingNetlink, { addresses }: PodNetworkPlan): (Route | undefined)[] {
  return addresses.map((address) => first(ask(host, lookUpRoute(address, true), NO_WAY), decodeRoute));
}

function readSysctls(sys: Sys, { sysctls }: PodNetworkPlan, { fd, path }: PodNetns): (string | undefined)[] {
  if (sysctls.length === 0) return [];
  return inNetns(sys, fd, path, () => sysctls.map(([name]) => readSysctl(sys, name)));
}

function observeEnd(netlink: BlockingNetlink, name: string, limited: boolean): ObservedEnd | undefined {
  const link = first(ask(netlink, getLink(name)), decodeLink);
  if (link === undefined) return undefined;
  const neighbours = decoded(netlink.dump(dumpNeighbours(link.index)), decodeNeighbour);
  return {
    link,
    // Older kernels don't filter the dump.
    neighbours: neighbours.filter(({ index }) => index === link.index),
    qdiscs: limited ? ask(netlink, getRootQdisc(link.index, name)) : [],
  };
}

/** RTPROT_UNSPEC: every route, whoever made it. */
const ANY_PROTOCOL = 0;

/** What the kernel says when there is no such link or qdisc. */
const ABSENT = ["ENODEV", "ENOENT"];

/**
 * What it says when a look-up finds no way: no route at all, or one that is unreachable, prohibit, blackhole or throw
 * (fib_props of net/ipv4/fib_semantics.c, ip6_rt_type_to_error of net/ipv6/route.c).
 */
const NO_WAY = ["ENETUNREACH", "EHOSTUNREACH", "ESRCH", "EACCES", "EINVAL", "EAGAIN"];

/** The answers to one question; none when there is no such thing. */
function ask(netlink: BlockingNetlink, request: Request, absent = ABSENT): Message[] {
  const { answers, errors } = netlink.submit([request]);
  const error = errors[0];
  if (error !== undefined && !absent.includes(error.errnoName)) throw error;
  return answers;
}

function first<T>(messages: readonly Message[], decode: (message: Message) => T | undefined): T | undefined {
  return decoded(messages, decode)[0];
}

function decoded<T>(messages: readonly Message[], decode: (message: Message) => T | undefined): T[] {
  return messages.map(decode).filter((item) => item !== undefined);
}

function readSysctl(sys: Sys, path: string): string | undefined {
  let fd: number;
  try {
    fd = sys.open(`/proc/sys/net/${path}`, O_RDONLY);
  } catch (error) {
    if (error instanceof SysError && error.code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const buffer = new Uint8Array(4096);
    return new TextDecoder().decode(buffer.subarray(0, sys.read(fd, buffer))).trim();
  } finally {
    sys.close(fd);
  }
}
