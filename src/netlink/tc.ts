// SPDX-License-Identifier: Apache-2.0
//
// Queueing disciplines, as far as a rate limit needs them: struct tcmsg and TCA_* of include/uapi/linux/rtnetlink.h, and
// the token bucket filter's struct tc_tbf_qopt and TCA_TBF_* of include/uapi/linux/pkt_sched.h.
import {
  attributes,
  attrText,
  attrU32,
  Body,
  type Message,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  type Request,
} from "./message.ts";

export const RTM_NEWQDISC = 36;
const RTM_GETQDISC = 38;

/** include/uapi/linux/netlink.h: what the request leads to is told to the asker, too. */
const NLM_F_ECHO = 0x8;

const TC_H_ROOT = 0xffffffff;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_TBF_PARMS = 1;
const TCA_TBF_RATE64 = 4;
const TCA_TBF_BURST = 6;
const TC_LINKLAYER_ETHERNET = 1;
/** struct tcmsg: family, padding, index, handle, parent, info. */
const TCMSG = 20;
/** struct tc_tbf_qopt: two struct tc_ratespec of 12 bytes, then limit, buffer, mtu. */
const TBF_QOPT = 36;
const U32 = 2 ** 32;
/** PSCHED_SHIFT of include/net/pkt_sched.h: the kernel's unit of time here, 1 << 6 ns since Linux 2.6.31. */
const TICK_NS = 64;

/** A token bucket: what goes through in the long run, at once, and how much may wait. Lengths are of whole frames. */
export interface TokenBucket {
  /** Bytes a second, at least 1. */
  readonly rate: number;
  /** Bytes, below 2^32. A packet that is longer is cut where it is of many segments, and dropped otherwise. */
  readonly burst: number;
  /** Bytes, below 2^32, that wait for their turn; what comes then is dropped. */
  readonly limit: number;
}

function tcmsg(index: number): Body {
  return new Body().u32(0).u32(index).u32(0).u32(TC_H_ROOT).u32(0);
}

/**
 * `tc qdisc replace dev NAME root tbf rate RATE burst BURST limit LIMIT`. A tbf that is there changes in place, with what
 * waits in it. It ends with its link.
 *
 * No table of transmission times (TCA_TBF_RTAB) goes along as from iproute2, and the burst goes in bytes (TCA_TBF_BURST): a
 * kernel since 3.14 reads no table when the link layer is named, and takes the bytes before the ticks, whose 32 bits end at
 * 275 s of the rate.
 */
export function replaceRootTbf(index: number, name: string, { rate, burst, limit }: TokenBucket): Request {
  const body = tcmsg(index)
    .attrText(TCA_KIND, "tbf")
    .nest(TCA_OPTIONS, (options) => {
      options.nest(TCA_TBF_PARMS, (parms) => {
        // struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate. The second is the peak rate: none.
        parms
          .u8(0)
          .u8(TC_LINKLAYER_ETHERNET)
          .u16(0)
          .u16(0)
          .u16(0)
          .u32(Math.min(rate, U32 - 1));
        parms.u32(0).u32(0).u32(0);
        parms
          .u32(limit)
          .u32(Math.min(burstTicks(rate, burst), U32 - 1))
          .u32(0);
      });
      options.attrU32(TCA_TBF_BURST, burst);
      if (rate >= U32) {
        options.nest(TCA_TBF_RATE64, (rate64) => rate64.u32(rate % U32).u32(Math.floor(rate / U32)));
      }
    });
  return {
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: body.done(),
    what: `limit the rate of ${name}`,
  };
}

/**
 * Asks for a link's root qdisc: one RTM_NEWQDISC message. Where none was set that is `noqueue`, or no message for a link
 * that was never up. NLM_F_ECHO because kernels used to answer by a notification, which the asker gets only with it.
 */
export function getRootQdisc(index: number, name: string): Request {
  const body = tcmsg(index).done();
  return { type: RTM_GETQDISC, flags: NLM_F_ECHO, body, what: `look up the root qdisc of ${name}` };
}

/** What an RTM_NEWQDISC message says of a qdisc. */
export interface Qdisc {
  /** Of its link. */
  readonly index: number;
  /** It is the link's root qdisc, which all that leaves the link goes through. */
  readonly root: boolean;
  readonly kind: string;
  readonly tbf: TbfState | undefined;
}

/** A token bucket as the kernel tells it. */
export interface TbfState {
  /** Bytes a second. */
  readonly rate: number;
  /** The burst as time at the rate, modulo 2^32: `burstTicks`. */
  readonly burstTicks: number;
  /** Bytes. */
  readonly limit: number;
  /** It has a second bucket for a peak rate. */
  readonly peak: boolean;
}

/** Reads an RTM_NEWQDISC message; undefined when it is none or too short. */
export function decodeQdisc(message: Message): Qdisc | undefined {
  const { body, type } = message;
  if (type !== RTM_NEWQDISC || body.length < TCMSG) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const found = attributes(body.subarray(TCMSG));
  const kind = found.get(TCA_KIND);
  const options = found.get(TCA_OPTIONS);
  const name = kind === undefined ? "" : attrText(kind);
  return {
    index: view.getInt32(4, true),
    root: view.getUint32(12, true) === TC_H_ROOT,
    kind: name,
    tbf: name === "tbf" && options !== undefined ? decodeTbf(attributes(options)) : undefined,
  };
}

function decodeTbf(options: Map<number, Uint8Array>): TbfState | undefined {
  const parms = options.get(TCA_TBF_PARMS);
  if (parms === undefined || parms.length < TBF_QOPT) return undefined;
  const view = new DataView(parms.buffer, parms.byteOffset, parms.byteLength);
  const rate64 = options.get(TCA_TBF_RATE64);
  const high = rate64 === undefined ? undefined : attrU32(rate64.subarray(4));
  return {
    rate: rate64 === undefined || high === undefined ? view.getUint32(8, true) : high * U32 + (attrU32(rate64) ?? 0),
    burstTicks: view.getUint32(28, true),
    limit: view.getUint32(24, true),
    peak: view.getUint32(20, true) !== 0,
  };
}

/** How long a burst in bytes takes at a rate in bytes a second, in the ticks that the kernel's messages have. */
export function burstTicks(rate: number, burst: number): number {
  return Math.floor((burst * 1e9) / rate / TICK_NS);
}
