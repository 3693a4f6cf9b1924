// SPDX-License-Identifier: Apache-2.0
//
// Connections that the kernel tracks and that would go on to where they must no longer go: what is translated is decided
// by a connection's first packet, and a UDP client that keeps its port never sends a first packet again.

import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { familyOf, parseAddress } from "../net/address.ts";
import { decodeFlow, deleteFlow, type Flow, type FlowFilter, listFlows } from "../netlink/conntrack.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import type { TranslatedPort } from "./entries.ts";

/** How many connections this network namespace tracks. There is no such file where the kernel doesn't track any. */
const COUNT_FILE = "/proc/sys/net/netfilter/nf_conntrack_count";
const ENOENT = 2;

/**
 * Deletes every connection from or to these addresses of pods that are gone, also through a hostPort or a Service.
 * @returns how many there were
 * @throws NetlinkError
 */
export async function deleteFlowsOfPods(netlink: Netlink, addresses: readonly string[]): Promise<number> {
  const pods = addresses.map(parseAddress);
  return deleteFlows(
    netlink,
    pods.flatMap((pod): FlowFilter[] => [
      { family: familyOf(pod), original: { source: pod } },
      { family: familyOf(pod), reply: { source: pod } },
    ]),
    ({ original, reply }) => pods.some((pod) => equal(pod, original.source) || equal(pod, reply.source)),
  );
}

/**
 * Deletes the connections to hostPorts that don't lead where they should: to nobody, or to a pod of before. TCP is left
 * out, because a TCP client begins anew and the kernel with it.
 * @returns how many there were
 * @throws NetlinkError
 */
export async function deleteFlowsOfPorts(netlink: Netlink, ports: readonly TranslatedPort[]): Promise<number> {
  const connectionless = ports.filter(({ protocol }) => protocol !== IPPROTO_TCP);
  if (connectionless.length === 0) return 0;
  const own = localAddresses();
  return deleteFlows(
    netlink,
    connectionless.map(({ family, protocol, hostPort }) => ({
      family,
      original: { protocol, destinationPort: hostPort },
    })),
    (flow) => connectionless.some((port) => isOf(port, flow, own) && !leadsTo(port, flow)),
  );
}

const IPPROTO_TCP = 6;

/** Whether a packet like the connection's first would be translated by this port's entry. */
function isOf(port: TranslatedPort, { family, original }: Flow, own: readonly Uint8Array[]): boolean {
  if (family !== port.family || original.protocol !== port.protocol || original.destinationPort !== port.hostPort) {
    return false;
  }
  const { destination } = original;
  if (port.hostIp !== undefined) return equal(destination, port.hostIp);
  return (family === 4 && destination[0] === 127) || own.some((address) => equal(destination, address));
}

function leadsTo(port: TranslatedPort, { reply }: Flow): boolean {
  return equal(reply.source, port.podIp) && reply.sourcePort === port.podPort;
}

async function deleteFlows(
  netlink: Netlink,
  filters: readonly FlowFilter[],
  stale: (flow: Flow) => boolean,
): Promise<number> {
  if ((await trackedFlows()) === 0) return 0;
  let deleted = 0;
  for (const filter of filters) {
    const flows = (await netlink.dump(listFlows(filter))).map(decodeFlow);
    const requests = flows.filter((flow) => flow !== undefined && stale(flow)).map((flow) => deleteFlow(flow as Flow));
    for (const { error } of await netlink.submit(requests)) {
      // Others delete connections as well, and time does.
      if (error !== undefined && error.errno !== ENOENT) throw error;
      if (error === undefined) deleted++;
    }
  }
  return deleted;
}

/** 0 where connection tracking is not in the kernel; asking ctnetlink would load it. */
async function trackedFlows(): Promise<number> {
  try {
    return Number(await readFile(COUNT_FILE, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return 0;
    throw error;
  }
}

/** The node's own addresses but those of loopback's network. */
function localAddresses(): Uint8Array[] {
  return Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).map(({ address }) => parseAddress(address)),
  );
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  // By value: one may be a Buffer and the other not.
  return Buffer.compare(a, b) === 0;
}
