// SPDX-License-Identifier: Apache-2.0
//
// Who has which address, as a table and as JSON. Pure.
import type { Allocation, PortMapping } from "../gen/flatnet/ipam/v1/ipam.ts";
import { parseAddress } from "../net/address.ts";
import { fitTable, formatAge, shortId } from "./words.ts";

/** What nearly every attachment is called; a column in which nothing else stands is left out. */
const USUAL_IFNAME = "eth0";

/**
 * A line for each address, in the order of the addresses; a second address of a holder stands below its first.
 * @param width columns that the lines should fit in, by cutting names of pods in their middle; any when undefined
 */
export function holdersTable(allocations: readonly Allocation[], nowMs: number, width?: number): string[] {
  if (allocations.length === 0) return [];
  const withIfname = allocations.some(({ attachment }) => !["", USUAL_IFNAME].includes(attachment?.ifname ?? ""));
  const rows = [...allocations].sort(byAddress).flatMap((allocation) => {
    const { attachment, pod, allocatedAtMs, portMappings } = allocation;
    const gateway = attachment?.ifname === "";
    const [first = "", ...others] = allocation.addresses;
    const name = gateway
      ? `gateway of ${attachment.network}`
      : pod === undefined
        ? "-"
        : `${pod.namespace}/${pod.name}`;
    const container = gateway ? "-" : shortId(attachment?.containerId ?? "");
    const ifname = withIfname ? [gateway ? "-" : (attachment?.ifname ?? "")] : [];
    const ports = portMappings.map(describeMapping).join(",");
    return [
      [first, name, container, ...ifname, formatAge(nowMs - Number(allocatedAtMs)), ports],
      ...others.map((address) => [address]),
    ];
  });
  const head = ["ADDRESS", "POD", "CONTAINER", ...(withIfname ? ["IF"] : []), "AGE", "PORTS"];
  return fitTable([head, ...rows], 1, width);
}

/** An allocation for programs; times in ISO 8601. */
export function toJson(allocation: Allocation): object {
  const { attachment, pod, netns, hostIfname, addresses, allocatedAtMs, portMappings } = allocation;
  return {
    ...attachment,
    pod: pod ?? null,
    netns,
    hostIfname,
    addresses,
    allocatedAt: new Date(Number(allocatedAtMs)).toISOString(),
    portMappings,
  };
}

/** "8080>80/tcp", "10.0.0.1:53>53/udp": where on the node, and which port of the pod. */
function describeMapping({ hostIp, hostPort, containerPort, protocol }: PortMapping): string {
  const where = hostIp === "" ? "" : hostIp.includes(":") ? `[${hostIp}]:` : `${hostIp}:`;
  return `${where}${hostPort}>${containerPort}/${protocol}`;
}

function byAddress(a: Allocation, b: Allocation): number {
  const [one, two] = [a, b].map(({ addresses }) => parseAddress(addresses[0] ?? "0.0.0.0")) as [Uint8Array, Uint8Array];
  return one.length - two.length || Buffer.compare(one, two);
}
