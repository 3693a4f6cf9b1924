// SPDX-License-Identifier: Apache-2.0
//
// Who has which address, as a table and as JSON. Pure.
import type { Allocation, PortMapping } from "../gen/flatnet/ipam/v1/ipam.ts";
import { parseAddress } from "../net/address.ts";
import { formatAge, formatTable } from "./words.ts";

/** Characters of a container ID that people tell containers apart by. */
const SHORT_ID = 12;

/** What nearly every attachment is called; a column in which nothing else stands is left out. */
const USUAL_IFNAME = "eth0";

/** A pod's name is not cut to less than this, whatever the width. */
const POD_LEAST = 20;

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
  const table = [["ADDRESS", "POD", "CONTAINER", ...(withIfname ? ["IF"] : []), "AGE", "PORTS"], ...rows];
  const lines = formatTable(table);
  const surplus = width === undefined ? 0 : Math.max(...lines.map((line) => line.length)) - width;
  if (surplus <= 0) return lines;
  const longest = Math.max(...table.map(([, name = ""]) => name.length));
  const most = Math.max(POD_LEAST, longest - surplus);
  return formatTable(table.map((row) => row.map((cell, i) => (i === 1 ? cutMiddle(cell, most) : cell))));
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

/** A runtime's ID is 64 hexadecimal digits; anything else is a name somebody chose, and stays whole. */
function shortId(containerId: string): string {
  return /^[0-9a-f]{64}$/.test(containerId) ? containerId.slice(0, SHORT_ID) : containerId;
}

/** The ends tell names of pods apart: the workload's name and the random part. */
function cutMiddle(text: string, most: number): string {
  if (text.length <= most) return text;
  const tail = Math.floor((most - 1) / 3);
  return `${text.slice(0, most - 1 - tail)}…${text.slice(text.length - tail)}`;
}

function byAddress(a: Allocation, b: Allocation): number {
  const [one, two] = [a, b].map(({ addresses }) => parseAddress(addresses[0] ?? "0.0.0.0")) as [Uint8Array, Uint8Array];
  return one.length - two.length || Buffer.compare(one, two);
}
