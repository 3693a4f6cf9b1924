// SPDX-License-Identifier: Apache-2.0
//
// The capability "bandwidth" (CNI CONVENTIONS.md): how fast a pod may receive and send, as it is asked for. Pure.
import type { Bandwidth as BandwidthMessage } from "../gen/flatnet/ipam/v1/ipam.ts";
import type { Bandwidth, RateLimit } from "../podnet/bandwidth.ts";
import { asCapability, asInteger, type Fields, invalid, present } from "./fields.ts";

/** A byte a second is the slowest that the kernel knows. */
const LEAST_RATE = 8;

/**
 * Pods can ask for a rate only, by annotation, and runtimes fill the burst in: 2^31 - 1 bits (dockershim), 2^32 - 1
 * (containerd), 2^35 - 9 (CRI-O). Half a gigabyte at full speed before a limit begins is no limit, and nobody's wish.
 */
const FILLED_IN_BURST = 2 ** 31 - 1;
const LEAST_FILLED_IN_BURST = 2 ** 32 - 1;

/** Timers are late by milliseconds on a busy machine; what they miss has to fit the bucket, or the rate isn't reached. */
const DEFAULT_BURST_SECONDS = 0.01;
/** Twenty frames of 1500 bytes, so that a slow pod still gets a short answer at once. */
const LEAST_DEFAULT_BURST = 256 * 1024;
const WHERE = "runtimeConfig.bandwidth";
const FIELDS = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];

/**
 * @param value `runtimeConfig.bandwidth`
 * @returns undefined when nothing is limited
 * @throws CniError 7 naming the field and its value
 */
export function parseBandwidth(value: unknown): Bandwidth | undefined {
  if (!present(value)) return undefined;
  const fields = asCapability(WHERE, value, FIELDS);
  const ingress = parseLimit(fields, "ingressRate", "ingressBurst");
  const egress = parseLimit(fields, "egressRate", "egressBurst");
  return ingress === undefined && egress === undefined ? undefined : { ingress, egress };
}

/** What the daemon knows of the pod's limits, for a runtime that says none; rates only. */
export function daemonsBandwidth(message: BandwidthMessage | undefined): Bandwidth | undefined {
  if (message === undefined) return undefined;
  const limit = (rate: bigint): RateLimit | undefined => {
    return rate < LEAST_RATE ? undefined : { rate: Number(rate), burst: defaultBurst(Number(rate)) };
  };
  return { ingress: limit(message.ingressRate), egress: limit(message.egressRate) };
}

/** 0, null and a missing field are the same: not limited, or not said. */
function parseLimit(fields: Fields, rateField: string, burstField: string): RateLimit | undefined {
  const rate = asInteger(`${WHERE}.${rateField}`, fields[rateField], 0, 0, Number.MAX_SAFE_INTEGER);
  const burst = asInteger(`${WHERE}.${burstField}`, fields[burstField], 0, 0, Number.MAX_SAFE_INTEGER);
  if (rate === 0) {
    if (burst === 0) return undefined;
    throw invalid(`${WHERE}.${rateField}`, fields[rateField], `the rate that ${burstField} ${burst} belongs to`);
  }
  if (rate < LEAST_RATE) throw invalid(`${WHERE}.${rateField}`, rate, `0 or at least ${LEAST_RATE} bits a second`);
  const given = burst !== 0 && burst !== FILLED_IN_BURST && burst < LEAST_FILLED_IN_BURST;
  return { rate, burst: given ? burst : defaultBurst(rate) };
}

function defaultBurst(rate: number): number {
  return Math.min(Math.max(LEAST_DEFAULT_BURST, Math.ceil(rate * DEFAULT_BURST_SECONDS)), LEAST_FILLED_IN_BURST);
}
