// SPDX-License-Identifier: Apache-2.0
//
// What taking over comes to: which attachments, which addresses of the node itself, and what has to stay as it is. Pure.
import type { Allocation, Attachment, Pod } from "../gen/flatnet/ipam/v1/ipam.ts";
import { familyOf, formatAddress, parseAddress } from "../net/address.ts";
import { indexOf, type Prefix } from "../net/prefix.ts";
import type { Oddity, Reservation } from "./host-local.ts";
import type { CachedAttachment } from "./libcni-cache.ts";

/** An address of the node on one of its links. */
export interface NodeAddress {
  readonly ifname: string;
  readonly address: string;
  /** The link is a bridge, so pods behind it believe each other, and the whole subnet, to be on it. */
  readonly isBridge: boolean;
}

/** An attachment to take over. */
export interface PlannedAttachment {
  readonly attachment: Attachment;
  readonly pod: Pod | undefined;
  /** "" when it isn't known. */
  readonly netns: string;
  /** IPv4 first. */
  readonly addresses: readonly string[];
  /** It has ports of the node by another plugin, whose rules nobody takes away when the pod ends. */
  readonly hasHostPorts: boolean;
}

/** An attachment that can't be taken over, and why. */
export interface Conflict {
  readonly containerId: string;
  readonly ifname: string;
  readonly addresses: readonly string[];
  readonly why: string;
}

export interface AdoptionPlan {
  readonly attachments: readonly PlannedAttachment[];
  /** Addresses of the node in its own subnets, gateways of the old plugin, which no pod may get. */
  readonly gateways: readonly NodeAddress[];
  /** What the daemon has already, as it should. */
  readonly already: readonly PlannedAttachment[];
  readonly conflicts: readonly Conflict[];
  /** Reservations that are in none of the node's subnets: flatnet never gives them out, so nothing need be done. */
  readonly outside: readonly Reservation[];
  readonly oddities: readonly Oddity[];
  /** Bridges whose IPv4 pods reach new ones only when the node answers ARP in their place. */
  readonly bridges: readonly string[];
}

export interface AdoptionInput {
  /** Name of flatnet's network, under which DEL will come. */
  readonly network: string;
  readonly reservations: readonly Reservation[];
  readonly oddities: readonly Oddity[];
  /** By container ID and interface name, "id/eth0". */
  readonly cached: ReadonlyMap<string, CachedAttachment>;
  readonly subnets: readonly Prefix[];
  readonly allocations: readonly Allocation[];
  readonly nodeAddresses: readonly NodeAddress[];
}

export function planAdoption(input: AdoptionInput): AdoptionPlan {
  const { network, allocations, reservations, cached } = input;
  const holders = new Map(allocations.flatMap((holder) => holder.addresses.map((address) => [address, holder])));
  const isInside = (address: string) =>
    input.subnets.some((prefix) => indexOf(prefix, parseAddress(address)) !== undefined);
  const attachments: PlannedAttachment[] = [];
  const already: PlannedAttachment[] = [];
  const conflicts: Conflict[] = [];
  for (const [key, own] of byHolder(reservations.filter(({ address }) => isInside(address)))) {
    const [{ containerId, ifname }] = own as [Reservation];
    const addresses = own.map(({ address }) => address).sort(byFamily);
    const known = cached.get(key);
    const attachment = { network, containerId, ifname };
    const planned = {
      attachment,
      pod: known?.pod,
      netns: known?.netns ?? "",
      addresses,
      hasHostPorts: known?.hasHostPorts ?? false,
    };
    const why = conflictOf(attachment, addresses, holders);
    if (why !== undefined) conflicts.push({ containerId, ifname, addresses, why });
    else if (addresses.every((address) => holders.has(address))) already.push(planned);
    else attachments.push(planned);
  }
  const taken = new Set([...attachments, ...already].flatMap(({ addresses }) => addresses));
  const gateways: NodeAddress[] = [];
  for (const own of uniqueAddresses(input.nodeAddresses).filter(({ address }) => isInside(address))) {
    const holder = holders.get(own.address);
    if (holder === undefined && !taken.has(own.address)) gateways.push(own);
    // Of a network's gateway it is known that no pod gets it.
    if (holder === undefined || holder.attachment?.ifname === "") continue;
    const why = `the node's own address is held by ${nameOf(holder)}`;
    conflicts.push({ containerId: "", ifname: own.ifname, addresses: [own.address], why });
  }
  const bridges = input.nodeAddresses.filter(
    ({ address, isBridge }) => isBridge && familyOf(parseAddress(address)) === 4 && isInside(address),
  );
  return {
    attachments,
    gateways,
    already,
    conflicts,
    outside: reservations.filter(({ address }) => !isInside(address)),
    oddities: input.oddities,
    bridges: [...new Set(bridges.map(({ ifname }) => ifname))],
  };
}

/** The reservations of each attachment, in the order in which they first occur. */
function byHolder(reservations: readonly Reservation[]): Map<string, Reservation[]> {
  const holders = new Map<string, Reservation[]>();
  for (const reservation of reservations) {
    const key = `${reservation.containerId}/${reservation.ifname}`;
    holders.set(key, [...(holders.get(key) ?? []), reservation]);
  }
  return holders;
}

function conflictOf(
  attachment: Attachment,
  addresses: readonly string[],
  holders: ReadonlyMap<string, Allocation>,
): string | undefined {
  const families = new Set(addresses.map((address) => familyOf(parseAddress(address))));
  if (families.size < addresses.length) return "it has two addresses of one family; flatnet gives one";
  for (const address of addresses) {
    const holder = holders.get(address);
    if (holder !== undefined && !isSame(holder.attachment, attachment))
      return `${address} is held by ${nameOf(holder)}`;
  }
  return undefined;
}

function isSame(a: Attachment | undefined, b: Attachment): boolean {
  return a?.network === b.network && a.containerId === b.containerId && a.ifname === b.ifname;
}

function nameOf({ attachment, pod }: Allocation): string {
  if (attachment?.ifname === "") return `the gateway of network ${attachment.network}`;
  return pod === undefined ? `container ${attachment?.containerId ?? ""}` : `pod ${pod.namespace}/${pod.name}`;
}

/** ptp puts its gateway on every link of a pod. */
function uniqueAddresses(addresses: readonly NodeAddress[]): NodeAddress[] {
  const unique = new Map<string, NodeAddress>();
  for (const one of addresses) {
    const address = formatAddress(parseAddress(one.address));
    if (!unique.has(address)) unique.set(address, { ...one, address });
  }
  return [...unique.values()];
}

function byFamily(a: string, b: string): number {
  return familyOf(parseAddress(a)) - familyOf(parseAddress(b));
}
