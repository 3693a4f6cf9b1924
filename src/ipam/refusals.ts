// SPDX-License-Identifier: Apache-2.0
//
// What people are told when an attachment gets nothing. Whatever is somebody else's is named together with its holder.

import { IpamError, type IpamErrorCode, quote } from "./errors.ts";
import { DEFAULT_POOL } from "./layout.ts";
import type { Holders, Refusal } from "./plans.ts";
import { describePort } from "./port-index.ts";
import { type AllocationRecord, isGateway } from "./records.ts";

export function refusalError(refusal: Refusal): IpamError {
  const [code, message] = describeRefusal(refusal);
  return new IpamError(code, message, undefined, WISHES[refusal.kind]);
}

/** The refusals that are about what was asked for, and not about what everybody needs. */
const WISHES: Readonly<Partial<Record<Refusal["kind"], "addresses" | "pool">>> = {
  outOfRange: "addresses",
  draining: "addresses",
  otherPool: "addresses",
  addressKept: "addresses",
  addressTaken: "addresses",
  differs: "addresses",
  unknownPool: "pool",
};

function describeRefusal(refusal: Refusal): [IpamErrorCode, string] {
  switch (refusal.kind) {
    case "exhausted":
      return ["IPAM_EXHAUSTED", describeExhaustion(refusal)];
    case "outOfRange": {
      const { address, reservedIn, excludedBy, subnets } = refusal;
      const why =
        excludedBy !== undefined
          ? `is excluded from what this node gives out: ${excludedBy}`
          : reservedIn !== undefined
            ? `is not one that ${reservedIn} gives out: it is reserved`
            : subnets.length > 0
              ? `is in none of this node's subnets: ${subnets.join(", ")}`
              : "is of a family that this node has no subnet of";
      return ["IPAM_OUT_OF_RANGE", `requested address ${address} ${why}`];
    }
    case "draining":
      return [
        "IPAM_OUT_OF_RANGE",
        `requested address ${refusal.address} is in ${refusal.subnet}, which is draining: nothing new is given out of it`,
      ];
    case "otherPool":
      return [
        "IPAM_OUT_OF_RANGE",
        `requested address ${refusal.address} is of pool ${refusal.pool}, and the attachment gets its addresses of pool ${refusal.wanted}`,
      ];
    case "unknownPool":
      return [
        "IPAM_INVALID",
        `pool is ${quote(refusal.pool)}; it must be one that this node has: ${refusal.known.join(", ")}`,
      ];
    case "addressKept": {
      const seconds = Math.ceil(refusal.forMs / 1000);
      return [
        "IPAM_TAKEN",
        `requested address ${refusal.address} is kept for ${refusal.owner} for another ${seconds} s`,
      ];
    }
    case "addressTaken":
      return ["IPAM_TAKEN", `requested address ${refusal.address} is held by ${describeHolder(refusal.holder)}`];
    case "linkTaken":
      return ["IPAM_TAKEN", `host link ${refusal.hostIfname} is ${describeHolder(refusal.holder)}'s`];
    case "portTaken": {
      const { wanted, held, holder } = refusal;
      return ["IPAM_TAKEN", `${describePort(wanted)} is taken: ${describeHolder(holder)} has ${describePort(held)}`];
    }
    case "differs": {
      const { record, requested } = refusal;
      const has = record.addresses.join(" and ");
      return [
        "IPAM_PRECONDITION",
        `${describeHolder(record)} has ${has} already and asks for ${requested.join(" and ")}`,
      ];
    }
    case "noGateway":
      return [
        "IPAM_PRECONDITION",
        `${describeHolder(refusal.record)} has ${refusal.address}, whose subnet is not this node's any more or gives out nothing new, so there is no gateway for it`,
      ];
  }
}

/**
 * "no IPv4 address is left in 10.244.1.0/24 (254 of 254 in use), held by: 40 default, 30 kube-system, 20 web, 164 of 5 others;
 * none is resting; the oldest is …".
 */
function describeExhaustion(refusal: Refusal & { readonly kind: "exhausted" }): string {
  const { family, pool, subnets, holders, nextFreeMs } = refusal;
  const parts = subnets.map(({ cidr, draining, pools }) => {
    if (draining) return `${cidr} (draining)`;
    const { used = 0, capacity = 0 } = pools.find(({ name }) => name === pool) ?? {};
    return `${cidr} (${used} of ${capacity} in use)`;
  });
  const ofPool = pool === DEFAULT_POOL ? "" : ` of pool ${pool}`;
  return `no IPv${family} address${ofPool} is left in ${parts.join(", ")}${describeHolders(holders, describeResting(refusal, nextFreeMs))}`;
}

/** One may rest while an attachment that needs a gateway beside its address has to wait for a second. */
function describeResting({ pool, subnets }: Refusal & { readonly kind: "exhausted" }, nextFreeMs = 0): string {
  const counts = subnets.flatMap(({ pools }) => pools.filter(({ name }) => name === pool));
  const resting = counts.reduce((sum, { cooling }) => sum + cooling, 0);
  if (resting === 0) return "none is resting";
  return `${resting} resting, the next free in ${Math.ceil(nextFreeMs / 1000)} s, too few for the attachment and a gateway`;
}

function describeHolders({ total, most, others, oldest }: Holders, resting: string): string {
  if (total === 0) return "";
  const named = most.map(({ name, count }) => `${count} ${name}`);
  const rest = total - most.reduce((sum, { count }) => sum + count, 0);
  const list = others === 0 ? named : [...named, `${rest} of ${others} others`];
  const since =
    oldest === undefined ? "" : `; the oldest is ${describeHolder(oldest)}, of ${timeText(oldest.allocatedAtMs)}`;
  return `, held by: ${list.join(", ")}; ${resting}${since}`;
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}

/** "pods/0123abcd/eth0 (pod default/web-0)". */
function describeHolder({ attachment, pod }: AllocationRecord): string {
  if (isGateway(attachment)) return `the gateway of network ${attachment.network}`;
  const key = `${attachment.network}/${attachment.containerId}/${attachment.ifname}`;
  return pod === undefined ? key : `${key} (pod ${pod.namespace}/${pod.name})`;
}
