// SPDX-License-Identifier: Apache-2.0
//
// What people are told when an attachment gets nothing. Whatever is somebody else's is named together with its holder.
import type { Refusal } from "./allocator.ts";
import { IpamError } from "./errors.ts";
import { describePort } from "./port-index.ts";
import { type AllocationRecord, isGateway } from "./records.ts";

export function refusalError(refusal: Refusal): IpamError {
  switch (refusal.kind) {
    case "exhausted": {
      const subnets = refusal.subnets.map(({ cidr, used, capacity }) => `${cidr} (${used} of ${capacity} in use)`);
      return new IpamError("IPAM_EXHAUSTED", `no IPv${refusal.family} address is left in ${subnets.join(", ")}`);
    }
    case "outOfRange": {
      const { address, reservedIn, subnets } = refusal;
      const why =
        reservedIn !== undefined
          ? `is not one that ${reservedIn} gives out: it is reserved, or beyond the first 65536`
          : subnets.length > 0
            ? `is in none of this node's subnets: ${subnets.join(", ")}`
            : "is of a family that this node has no subnet of";
      return new IpamError("IPAM_OUT_OF_RANGE", `requested address ${address} ${why}`);
    }
    case "addressTaken":
      return new IpamError(
        "IPAM_TAKEN",
        `requested address ${refusal.address} is held by ${describeHolder(refusal.holder)}`,
      );
    case "portTaken": {
      const { wanted, held, holder } = refusal;
      return new IpamError(
        "IPAM_TAKEN",
        `${describePort(wanted)} is taken: ${describeHolder(holder)} has ${describePort(held)}`,
      );
    }
    case "differs": {
      const { record, requested } = refusal;
      const has = record.addresses.join(" and ");
      return new IpamError(
        "IPAM_PRECONDITION",
        `${describeHolder(record)} has ${has} already and asks for ${requested.join(" and ")}`,
      );
    }
    case "noGateway":
      return new IpamError(
        "IPAM_PRECONDITION",
        `${describeHolder(refusal.record)} has ${refusal.address}, whose subnet is not this node's any more, so there is no gateway for it`,
      );
  }
}

/** "pods/0123abcd/eth0 (pod default/web-0)". */
function describeHolder({ attachment, pod }: AllocationRecord): string {
  if (isGateway(attachment)) return `the gateway of network ${attachment.network}`;
  const key = `${attachment.network}/${attachment.containerId}/${attachment.ifname}`;
  return pod === undefined ? key : `${key} (pod ${pod.namespace}/${pod.name})`;
}
