// SPDX-License-Identifier: Apache-2.0
//
// How fast a pod may receive and send. Each direction is a token bucket at the end of the pod's veth pair where it is sent
// from, so it ends with the pair (docs/decisions/0005). Pure.
import type { Message, Request } from "../netlink/message.ts";
import { burstTicks, decodeQdisc, replaceRootTbf, type TbfState, type TokenBucket } from "../netlink/tc.ts";

/** Of one direction: bits a second, and bits. */
export interface RateLimit {
  readonly rate: number;
  readonly burst: number;
}

/** As seen by the pod: ingress is what it receives. At least one of both. */
export interface Bandwidth {
  readonly ingress: RateLimit | undefined;
  readonly egress: RateLimit | undefined;
}

/** The two ends of a pod's veth pair, each index in its own namespace, and their MTU in bytes. */
export interface ShapedLink {
  readonly hostIndex: number;
  readonly hostName: string;
  readonly podIndex: number;
  readonly podName: string;
  readonly mtu: number;
}

/** How long a packet waits at most besides the burst. */
const QUEUE_SECONDS = 0.025;
/** GSO_MAX_SIZE of include/linux/netdevice.h: the longest packet of many segments. One must fit the queue. */
const LONGEST_PACKET = 8 * 65_536;
const ETHERNET_HEADER = 14;
/** The kernel has 32 bits for the bytes that wait. */
const MOST_BYTES = 2 ** 32 - 1;

/**
 * The kernel's bucket for a limit. A burst below one frame would let no full frame through, ever: it is raised to that.
 */
export function toTokenBucket(limit: RateLimit, mtu: number): TokenBucket {
  const rate = Math.floor(limit.rate / 8);
  const burst = Math.max(Math.floor(limit.burst / 8), mtu + ETHERNET_HEADER);
  const queue = Math.ceil(rate * QUEUE_SECONDS) + Math.min(burst, LONGEST_PACKET);
  return { rate, burst, limit: Math.min(queue, MOST_BYTES) };
}

/** The requests for each end, to be sent in that end's namespace, before the links are set up or after. */
export function bandwidthRequests(bandwidth: Bandwidth, link: ShapedLink): { host: Request[]; pod: Request[] } {
  const { ingress, egress } = bandwidth;
  const { hostIndex, hostName, podIndex, podName, mtu } = link;
  return {
    host: ingress === undefined ? [] : [replaceRootTbf(hostIndex, hostName, toTokenBucket(ingress, mtu))],
    pod: egress === undefined ? [] : [replaceRootTbf(podIndex, podName, toTokenBucket(egress, mtu))],
  };
}

/**
 * What differs from the limits that ADD set, a sentence each; none when all is well.
 * @param hostQdiscs the answers to `getRootQdisc` of the host's end, `podQdiscs` of the pod's; none is no qdisc
 */
export function bandwidthProblems(
  bandwidth: Bandwidth,
  link: ShapedLink,
  hostQdiscs: readonly Message[],
  podQdiscs: readonly Message[],
): string[] {
  const { hostIndex, hostName, podIndex, podName, mtu } = link;
  const problems: string[] = [];
  const check = (
    limit: RateLimit | undefined,
    direction: string,
    index: number,
    name: string,
    found: readonly Message[],
  ) => {
    if (limit === undefined) return;
    const problem = difference(toTokenBucket(limit, mtu), rootTbf(found, index));
    if (problem !== undefined) problems.push(`${direction} limit on ${name}: ${problem}`);
  };
  check(bandwidth.ingress, "ingress", hostIndex, hostName, hostQdiscs);
  check(bandwidth.egress, "egress", podIndex, podName, podQdiscs);
  return problems;
}

function rootTbf(messages: readonly Message[], index: number): TbfState | string {
  for (const message of messages) {
    const qdisc = decodeQdisc(message);
    if (qdisc?.root === true && qdisc.index === index) return qdisc.tbf ?? qdisc.kind;
  }
  return "none";
}

function difference(expected: TokenBucket, found: TbfState | string): string | undefined {
  if (typeof found === "string") return `the root qdisc is ${found}, not tbf`;
  if (found.peak) return "a peak rate is set too";
  if (found.rate !== expected.rate) return `the rate is ${found.rate * 8} bits a second, not ${expected.rate * 8}`;
  if (found.limit !== expected.limit) return `the queue is ${found.limit} bytes, not ${expected.limit}`;
  const ticks = burstTicks(expected.rate, expected.burst);
  if (sameTicks(ticks, found.burstTicks)) return undefined;
  return `the burst is ${found.burstTicks} ticks, not ${ticks % 2 ** 32}, of ${expected.burst} bytes`;
}

/** The kernel tells the low 32 bits only, and divides by multiplying with a reciprocal of 31 bits. */
function sameTicks(expected: number, found: number): boolean {
  const apart = (((found - expected) % 2 ** 32) + 2 ** 32) % 2 ** 32;
  return Math.min(apart, 2 ** 32 - apart) <= 1 + expected / 2 ** 28;
}
