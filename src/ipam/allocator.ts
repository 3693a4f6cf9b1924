// SPDX-License-Identifier: Apache-2.0
//
// Who holds which address, and who gets the next one. Decisions are data: a plan function looks and returns a Change (or a
// refusal), `apply` takes it into memory, and the service makes it durable. Nothing here waits, and time is an argument.
import { type Family, familyOf, formatAddress, hostLength, parseAddress } from "../net/address.ts";
import { type Attachment, attachmentKey } from "../net/names.ts";
import { addressAt, formatPrefix, indexOf, overlaps, type Prefix } from "../net/prefix.ts";
import { IpamError } from "./errors.ts";
import type { PodEnd } from "./pod-end.ts";
import { type Candidate, Pool, type PoolCounts } from "./pool.ts";
import { PortIndex } from "./port-index.ts";
import {
  type AllocationRecord,
  type Change,
  gatewayAttachment,
  isGateway,
  type PodName,
  type PortMapping,
  type Snapshot,
} from "./records.ts";

/** How long an address rests by default: longer than the longest conntrack entry of a half-open flow (SYN_SENT, 120 s). */
export const DEFAULT_COOLDOWN_MS = 120_000;

/** A wish for addresses, already validated. */
export interface AllocationRequest {
  readonly attachment: Attachment;
  readonly pod: PodName | undefined;
  readonly netns: string;
  readonly hostIfname: string;
  /** Canonical text, at most one a family. The other families get any address. */
  readonly requestedAddresses: readonly string[];
  /** No two claim one port for different ports of the container. */
  readonly portMappings: readonly PortMapping[];
  /** The network is to have a gateway address in the subnet of each address. */
  readonly withGateway: boolean;
  /** DNS names, none twice. */
  readonly aliases: readonly string[];
  /** The pod's end of the link, where the plugin makes one. */
  readonly podEnd?: PodEnd | undefined;
}

/** Counts of a subnet of this node. */
export interface SubnetCounts extends PoolCounts {
  /** Canonical text, "10.244.1.0/24". */
  readonly cidr: string;
}

/** An address of this node's subnets that nobody holds and that is not given out yet. Times are milliseconds since 1970. */
export interface RestingAddress {
  readonly address: string;
  readonly releasedAtMs: number;
  readonly restsUntilMs: number;
}

/** Which addresses an attachment gets, and where they are. */
interface Granted {
  readonly record: AllocationRecord;
  /** To be made durable together; the last one is the attachment's. */
  readonly changes: readonly Change[];
  /** The subnet of each address, in canonical text; of one that is in no subnet of ours any more, the address itself. */
  readonly subnets: readonly string[];
  /** The network's gateway in each of them; empty unless asked for. */
  readonly gateways: readonly string[];
  /** An address is used again before its rest was over, because no other was left or because it was asked for. */
  readonly restCutShort: boolean;
}

/** Why an attachment gets nothing. Nothing of any family is given then. */
export type Refusal =
  /** No address of this family is left. */
  | { readonly kind: "exhausted"; readonly family: Family; readonly subnets: readonly SubnetCounts[] }
  /** None of the subnets, whose texts these are, gives out an address that was asked for. */
  | {
      readonly kind: "outOfRange";
      readonly address: string;
      /** The subnet that has it and keeps it back. */
      readonly reservedIn: string | undefined;
      readonly subnets: readonly string[];
    }
  /** An address that was asked for is somebody's. */
  | { readonly kind: "addressTaken"; readonly address: string; readonly holder: AllocationRecord }
  /** A port that was asked for is somebody's. */
  | {
      readonly kind: "portTaken";
      readonly wanted: PortMapping;
      readonly held: PortMapping;
      readonly holder: AllocationRecord;
    }
  /** The attachment holds other addresses than it asks for. */
  | { readonly kind: "differs"; readonly requested: readonly string[]; readonly record: AllocationRecord }
  /** The attachment holds an address of a subnet that is not ours any more, in which no gateway can be had. */
  | { readonly kind: "noGateway"; readonly address: string; readonly record: AllocationRecord };

export type AllocatePlan =
  | (Granted & { readonly kind: "new" })
  /** The attachment holds addresses; it keeps them. */
  | (Granted & { readonly kind: "existed" })
  | Refusal;

export type ReleasePlan =
  | { readonly kind: "released"; readonly record: AllocationRecord; readonly change: Change }
  | { readonly kind: "unknown" }
  /** The DEL was for an earlier life of the attachment, which has been added again since. */
  | { readonly kind: "readded"; readonly record: AllocationRecord };

/** Where an address is in the configured subnets. */
interface Place {
  readonly pool: Pool;
  readonly index: number;
}

/** What a family would get. */
interface Choice {
  readonly pool: Pool;
  readonly candidate: Candidate;
  readonly restCutShort: boolean;
  /** The new gateway of the network in this pool, where it needs one. */
  readonly gateway: Candidate | undefined;
}

export class Allocator {
  readonly #pools: readonly Pool[];
  readonly #cooldownMs: number;
  readonly #allocations = new Map<string, AllocationRecord>();
  /** The unique index: address to the key of its one holder, in whatever subnet. */
  readonly #holders = new Map<string, string>();
  readonly #ports = new PortIndex();
  /** Addresses of the gateways of each network. */
  readonly #gateways = new Map<string, Set<string>>();

  /**
   * @param subnets tried in this order within a family; at least one, none overlapping another
   * @throws IpamError IPAM_INVALID
   */
  constructor(subnets: readonly Prefix[], cooldownMs: number) {
    if (subnets.length === 0) throw new IpamError("IPAM_INVALID", "no subnet is configured");
    if (!Number.isSafeInteger(cooldownMs) || cooldownMs < 0) {
      throw new IpamError("IPAM_INVALID", `cooldownMs is ${cooldownMs}, not a whole number of milliseconds`);
    }
    for (const [i, a] of subnets.entries()) {
      const b = subnets.slice(0, i).find((other) => overlaps(a, other));
      if (b !== undefined) {
        throw new IpamError("IPAM_INVALID", `subnet ${formatPrefix(a)} overlaps subnet ${formatPrefix(b)}`);
      }
    }
    this.#cooldownMs = cooldownMs;
    this.#pools = subnets.map((prefix) => new Pool(prefix, cooldownMs));
  }

  /** An allocator that knows what the database says. Takes time in the number of records (and their order by release). */
  static restore(subnets: readonly Prefix[], cooldownMs: number, snapshot: Snapshot, nowMs: number): Allocator {
    const allocator = new Allocator(subnets, cooldownMs);
    for (const record of snapshot.allocations.values()) allocator.#hold(record);
    const released = [...snapshot.released].sort(([, a], [, b]) => a.releasedAtMs - b.releasedAtMs);
    for (const [address, { releasedAtMs }] of released) {
      const place = allocator.#place(address);
      // A time in the future is from before the clock was set back; counted from now on it ends.
      place?.pool.release(place.index, Math.min(releasedAtMs, nowMs));
    }
    return allocator;
  }

  /** Which addresses the attachment gets. Changes nothing. */
  planAllocate(request: AllocationRequest, bootId: string, nowMs: number): AllocatePlan {
    const key = attachmentKey(request.attachment);
    const existing = this.#allocations.get(key);
    if (existing !== undefined) {
      const held = request.requestedAddresses.every((address) => existing.addresses.includes(address));
      if (!held) return { kind: "differs", requested: request.requestedAddresses, record: existing };
    }
    const conflict = this.#ports.conflict(key, request.portMappings);
    if (conflict !== undefined) {
      const { wanted, held, holder } = conflict;
      return { kind: "portTaken", wanted, held, holder: this.#allocations.get(holder) as AllocationRecord };
    }
    return existing === undefined
      ? this.#planNew(request, bootId, nowMs)
      : this.#planExisting(existing, request, bootId, nowMs);
  }

  #planNew(request: AllocationRequest, bootId: string, nowMs: number): AllocatePlan {
    const choices: Choice[] = [];
    const requested = new Map<Family, Place>();
    for (const address of request.requestedAddresses) {
      const place = this.#place(address);
      if (place === undefined) return this.#outOfRange(address);
      const holder = this.#holders.get(address);
      if (holder !== undefined) {
        return { kind: "addressTaken", address, holder: this.#allocations.get(holder) as AllocationRecord };
      }
      requested.set(place.pool.prefix.family, place);
    }
    for (const family of [4, 6] as const) {
      const pools = this.#pools.filter((pool) => pool.prefix.family === family);
      if (pools.length === 0) continue;
      const choice = this.#choose(pools, requested.get(family), request, nowMs);
      if (choice === undefined) {
        return { kind: "exhausted", family, subnets: pools.map((pool) => countsOf(pool, nowMs)) };
      }
      choices.push(choice);
    }
    const { attachment, pod, netns, hostIfname, portMappings, aliases, podEnd } = request;
    const common = { allocatedAtMs: nowMs, confirmedAtMs: nowMs, bootId, extra: {} };
    const addresses = choices.map(({ pool, candidate }) => textAt(pool, candidate.index));
    const record = { ...common, attachment, pod, netns, hostIfname, addresses, portMappings, aliases, podEnd };
    const made = choices.map(({ pool, gateway }) =>
      gateway === undefined ? undefined : newGateway(attachment.network, textAt(pool, gateway.index), bootId, nowMs),
    );
    return {
      kind: "new",
      record,
      changes: [...holds(made), { kind: "hold", record }],
      subnets: choices.map(({ pool }) => formatPrefix(pool.prefix)),
      gateways: request.withGateway
        ? choices.map(({ pool }, i) => made[i]?.addresses[0] ?? (this.#gatewayIn(attachment.network, pool) as string))
        : [],
      restCutShort: choices.some(({ restCutShort }) => restCutShort),
    };
  }

  #planExisting(existing: AllocationRecord, request: AllocationRequest, bootId: string, nowMs: number): AllocatePlan {
    const { pod, netns, hostIfname, portMappings, aliases, podEnd, attachment } = request;
    const wanted = { pod, netns, hostIfname, portMappings, aliases, podEnd };
    const record = { ...existing, ...wanted, confirmedAtMs: nowMs, bootId };
    const pools = existing.addresses.map((address) => this.#poolOf(address));
    const made: (AllocationRecord | undefined)[] = [];
    const gateways: string[] = [];
    let restCutShort = false;
    for (const [i, pool] of request.withGateway ? pools.entries() : []) {
      if (pool === undefined) return { kind: "noGateway", address: existing.addresses[i] as string, record: existing };
      const known = this.#gatewayIn(attachment.network, pool);
      if (known === undefined) {
        const candidate = chooseGateway(pool, undefined, nowMs);
        if (candidate === undefined) {
          return { kind: "exhausted", family: pool.prefix.family, subnets: [countsOf(pool, nowMs)] };
        }
        restCutShort ||= !pool.hasRested(candidate, nowMs);
        made.push(newGateway(attachment.network, textAt(pool, candidate.index), bootId, nowMs));
      }
      gateways.push(known ?? (made.at(-1)?.addresses[0] as string));
    }
    return {
      kind: "existed",
      record,
      changes: [...holds(made), { kind: "confirm", record }],
      subnets: pools.map((pool, i) => subnetText(pool, existing.addresses[i] as string)),
      gateways,
      restCutShort,
    };
  }

  /**
   * What a release gives back. Changes nothing.
   *
   * @param deletedAtMs when the DEL happened, if it is told later (the journal). The addresses stay held if an ADD came
   * after it. When the clock was set back between the two, their order cannot be known; the addresses stay held then
   * too, because a leaked address can still be collected and a pod that lost its address cannot be helped.
   */
  planRelease(attachment: Attachment, nowMs: number, deletedAtMs?: number): ReleasePlan {
    const record = this.#allocations.get(attachmentKey(attachment));
    // A gateway is its network's; no DEL ends it.
    if (record === undefined || isGateway(record.attachment)) return { kind: "unknown" };
    if (deletedAtMs !== undefined) {
      const sameClock = deletedAtMs <= nowMs || record.confirmedAtMs > nowMs;
      if (deletedAtMs < record.confirmedAtMs || !sameClock) return { kind: "readded", record };
    }
    return { kind: "released", record, change: { kind: "free", record, releasedAtMs: nowMs } };
  }

  /**
   * Which release records are of no use: of addresses that no pool gives out (the subnets were changed) and that have
   * rested, should their subnet come back. Undefined when there are none.
   */
  planForget(released: Snapshot["released"], nowMs: number): Change | undefined {
    const addresses: string[] = [];
    for (const [address, { releasedAtMs }] of released) {
      const rested = nowMs - releasedAtMs >= this.#cooldownMs || releasedAtMs > nowMs;
      if (rested && this.#place(address) === undefined) addresses.push(address);
    }
    return addresses.length === 0 ? undefined : { kind: "forget", addresses };
  }

  /** Takes a planned change into memory. To be called before anything else is planned. */
  apply(change: Change): void {
    switch (change.kind) {
      case "hold":
        this.#hold(change.record);
        break;
      case "confirm": {
        const key = attachmentKey(change.record.attachment);
        this.#ports.release(key, this.#allocations.get(key)?.portMappings ?? []);
        this.#ports.hold(key, change.record.portMappings);
        this.#allocations.set(key, change.record);
        break;
      }
      case "free":
        this.#allocations.delete(attachmentKey(change.record.attachment));
        this.#ports.release(attachmentKey(change.record.attachment), change.record.portMappings);
        for (const address of change.record.addresses) {
          this.#holders.delete(address);
          const place = this.#place(address);
          place?.pool.release(place.index, change.releasedAtMs);
        }
        break;
      case "forget":
        break;
    }
  }

  /** Counts of every subnet, in the configured order. */
  counts(nowMs: number): SubnetCounts[] {
    return this.#pools.map((pool) => countsOf(pool, nowMs));
  }

  /** The addresses that rest, subnet by subnet in the configured order, the longest released first. */
  resting(nowMs: number): RestingAddress[] {
    return this.#pools.flatMap((pool) =>
      pool.resting(nowMs).map(({ index, ...times }) => ({ address: textAt(pool, index), ...times })),
    );
  }

  #hold(record: AllocationRecord): void {
    const key = attachmentKey(record.attachment);
    for (const address of record.addresses) {
      const holder = this.#holders.get(address);
      // Cannot happen: the plan chose an address nobody holds. If it does, nothing may be handed out on top of it.
      if (holder !== undefined) throw new Error(`${address} is held by ${holder} and was planned for ${key}`);
    }
    for (const address of record.addresses) {
      this.#holders.set(address, key);
      const place = this.#place(address);
      place?.pool.hold(place.index);
    }
    this.#allocations.set(key, record);
    this.#ports.hold(key, record.portMappings);
    if (isGateway(record.attachment)) {
      const { network } = record.attachment;
      const ofNetwork = this.#gateways.get(network) ?? new Set();
      for (const address of record.addresses) ofNetwork.add(address);
      this.#gateways.set(network, ofNetwork);
    }
  }

  /**
   * The next address of a family: the one that was asked for, or one of the first pool that has one ready, or else the
   * longest rested of all of them. Where the network still needs a gateway, the pool has to have room for both.
   */
  #choose(
    pools: readonly Pool[],
    requested: Place | undefined,
    { attachment, withGateway }: AllocationRequest,
    nowMs: number,
  ): Choice | undefined {
    const needsGateway = (pool: Pool) => withGateway && this.#gatewayIn(attachment.network, pool) === undefined;
    if (requested !== undefined) {
      const { pool, index } = requested;
      const candidate = pool.at(index, nowMs);
      const gateway = needsGateway(pool) ? chooseGateway(pool, index, nowMs) : undefined;
      if (candidate === undefined || (needsGateway(pool) && gateway === undefined)) return undefined;
      return choiceOf(pool, candidate, gateway, nowMs);
    }
    const offers = pools.flatMap((pool): Choice[] => {
      const gateway = needsGateway(pool) ? chooseGateway(pool, undefined, nowMs) : undefined;
      if (needsGateway(pool) && gateway === undefined) return [];
      const candidate = pool.available(nowMs, gateway?.index) ?? pool.oldest(nowMs, gateway?.index);
      return candidate === undefined ? [] : [choiceOf(pool, candidate, gateway, nowMs)];
    });
    const ready = offers.find(({ pool, candidate }) => pool.hasRested(candidate, nowMs));
    if (ready !== undefined) return ready;
    const releasedAtMs = ({ candidate }: Choice) => candidate.releasedAtMs ?? 0;
    // Of two released at once the earlier pool's, as the sort is stable.
    return offers.toSorted((a, b) => releasedAtMs(a) - releasedAtMs(b))[0];
  }

  /** The network's gateway in the pool's subnet. Should there be several, since subnets were joined, always the same one. */
  #gatewayIn(network: string, pool: Pool): string | undefined {
    const here = [...(this.#gateways.get(network) ?? [])].filter((address) => this.#poolOf(address) === pool);
    return here.sort()[0];
  }

  #outOfRange(address: string): Refusal {
    const pool = this.#poolOf(address);
    const family = familyOf(parseAddress(address));
    const subnets = this.#pools
      .filter(({ prefix }) => prefix.family === family)
      .map(({ prefix }) => formatPrefix(prefix));
    const reservedIn = pool === undefined ? undefined : formatPrefix(pool.prefix);
    return { kind: "outOfRange", address, reservedIn, subnets };
  }

  /** The pool whose subnet has the address, whether it gives it out or not. */
  #poolOf(address: string): Pool | undefined {
    const bytes = parseAddress(address);
    return this.#pools.find((pool) => indexOf(pool.prefix, bytes) !== undefined);
  }

  #place(address: string): Place | undefined {
    const pool = this.#poolOf(address);
    const index = pool === undefined ? undefined : indexOf(pool.prefix, parseAddress(address));
    if (pool === undefined || index === undefined || !pool.contains(index)) return undefined;
    return { pool, index: Number(index) };
  }
}

function choiceOf(pool: Pool, candidate: Candidate, gateway: Candidate | undefined, nowMs: number): Choice {
  const rested = pool.hasRested(candidate, nowMs) && (gateway === undefined || pool.hasRested(gateway, nowMs));
  return { pool, candidate, gateway, restCutShort: !rested };
}

/** A gateway for the pool's subnet: its first usable address if that can be had, since people expect it there. */
function chooseGateway(pool: Pool, except: number | undefined, nowMs: number): Candidate | undefined {
  const first = pool.first === except ? undefined : pool.at(pool.first, nowMs);
  if (first !== undefined && pool.hasRested(first, nowMs)) return first;
  return pool.available(nowMs, except) ?? pool.oldest(nowMs, except);
}

function newGateway(network: string, address: string, bootId: string, nowMs: number): AllocationRecord {
  return {
    attachment: gatewayAttachment(network, address),
    pod: undefined,
    netns: "",
    hostIfname: "",
    addresses: [address],
    allocatedAtMs: nowMs,
    confirmedAtMs: nowMs,
    bootId,
    portMappings: [],
    aliases: [],
    extra: {},
  };
}

function holds(records: readonly (AllocationRecord | undefined)[]): Change[] {
  return records.filter((record) => record !== undefined).map((record) => ({ kind: "hold", record }));
}

function textAt(pool: Pool, index: number): string {
  return formatAddress(addressAt(pool.prefix, index));
}

function subnetText(pool: Pool | undefined, address: string): string {
  return pool === undefined ? `${address}/${hostLength(familyOf(parseAddress(address)))}` : formatPrefix(pool.prefix);
}

function countsOf(pool: Pool, nowMs: number): SubnetCounts {
  return { cidr: formatPrefix(pool.prefix), ...pool.counts(nowMs) };
}
