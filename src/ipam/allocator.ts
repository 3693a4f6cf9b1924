// SPDX-License-Identifier: Apache-2.0
//
// Who holds which address, and who gets the next one. Decisions are data: a plan function looks and returns a Change (or a
// refusal), `apply` takes it into memory, and the service makes it durable. Nothing here waits, and time is an argument.
import { type Family, familyOf, hostLength, parseAddress } from "../net/address.ts";
import { type Attachment, attachmentKey } from "../net/names.ts";
import type { Prefix } from "../net/prefix.ts";
import {
  AddressSpace,
  type Area,
  type Neighbours,
  type Place,
  type RestingAddress,
  type SubnetCounts,
  textAt,
} from "./address-space.ts";
import type { AdoptionRequest } from "./adoption-request.ts";
import { IpamError } from "./errors.ts";
import { type AddressRules, DEFAULT_POOL } from "./layout.ts";
import type { AdoptPlan, AllocatePlan, AllocationRequest, Holders, Refusal, ReleasePlan } from "./plans.ts";
import type { Candidate } from "./pool.ts";
import { PortIndex } from "./port-index.ts";
import { type AllocationRecord, type Change, gatewayAttachment, isGateway, type Snapshot } from "./records.ts";
import { isRecovered, recoveredAttachment } from "./recovered.ts";

/** How long an address rests by default: longer than the longest conntrack entry of a half-open flow (SYN_SENT, 120 s). */
export const DEFAULT_COOLDOWN_MS = 120_000;

/** How many holders of a full pool are named. */
const NAMED_HOLDERS = 3;

/** What a family would get. */
interface Choice {
  readonly area: Area;
  readonly candidate: Candidate;
  /** The new gateway of the network in this subnet, where it needs one. */
  readonly gateway: Candidate | undefined;
}

export class Allocator {
  readonly #space: AddressSpace;
  readonly #cooldownMs: number;
  readonly #allocations = new Map<string, AllocationRecord>();
  /** The unique index: address to the key of its one holder, in whatever subnet. */
  readonly #holders = new Map<string, string>();
  readonly #strays = new Set<string>();
  readonly #ports = new PortIndex();
  /** Name of a host link to the key of its one attachment. */
  readonly #links = new Map<string, string>();
  /** Keys of recovered records. */
  readonly #recovered = new Set<string>();
  /** Addresses of the gateways of each network. */
  readonly #gateways = new Map<string, Set<string>>();
  /** When somebody last looked at the clock, and how far back it was set since the start, both in milliseconds. */
  #seenMs = 0;
  #setBackMs = 0;

  /**
   * @param subnets tried in this order within a family; at least one, none overlapping another
   * @throws IpamError IPAM_INVALID
   */
  constructor(subnets: readonly Prefix[], cooldownMs: number, rules: AddressRules = {}) {
    if (!Number.isSafeInteger(cooldownMs) || cooldownMs < 0) {
      throw new IpamError("IPAM_INVALID", `cooldownMs is ${cooldownMs}, not a whole number of milliseconds`);
    }
    this.#cooldownMs = cooldownMs;
    this.#space = new AddressSpace(subnets, cooldownMs, rules);
  }

  /** An allocator that knows what the database says. Takes time in the number of records, and what sorting releases takes. */
  static restore(
    subnets: readonly Prefix[],
    cooldownMs: number,
    snapshot: Snapshot,
    nowMs: number,
    rules: AddressRules = {},
  ): Allocator {
    const allocator = new Allocator(subnets, cooldownMs, rules);
    allocator.#steady(nowMs);
    for (const record of snapshot.allocations.values()) allocator.#hold(record);
    const released = [...snapshot.released].sort(([, a], [, b]) => a.releasedAtMs - b.releasedAtMs);
    for (const [address, { releasedAtMs, sticky }] of released) {
      const place = allocator.#space.place(address);
      // A time in the future is from before the clock was set back; counted from now on it ends.
      place?.area.addresses.release(place.index, Math.min(releasedAtMs, nowMs), sticky);
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
    const linkHolder = this.#links.get(request.hostIfname);
    if (linkHolder !== undefined && linkHolder !== key) {
      const holder = this.#allocations.get(linkHolder) as AllocationRecord;
      return { kind: "linkTaken", hostIfname: request.hostIfname, holder };
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
    const pool = request.pool ?? this.#space.poolOfNamespace(request.pod?.namespace ?? "");
    const known = this.#space.poolNames;
    if (!known.includes(pool)) return { kind: "unknownPool", pool, known };
    const steadyMs = this.#steady(nowMs);
    const requested = new Map<Family, Place>();
    for (const address of request.requestedAddresses) {
      const place = this.#requestable(address, pool, request, steadyMs);
      if ("kind" in place) return place;
      requested.set(place.area.prefix.family, place);
    }
    const choices: Choice[] = [];
    for (const family of this.#space.families) {
      const choice = this.#choose(pool, family, requested.get(family), request, steadyMs);
      if (choice === undefined) return this.#exhausted(family, pool, steadyMs);
      choices.push(choice);
    }
    const { attachment, pod, netns, hostIfname, portMappings, aliases, podEnd, sticky, bandwidth } = request;
    const record: AllocationRecord = {
      attachment,
      pod,
      netns,
      hostIfname,
      addresses: choices.map(({ area, candidate }) => textAt({ area, index: candidate.index })),
      portMappings,
      aliases,
      podEnd,
      bandwidth,
      allocatedAtMs: nowMs,
      confirmedAtMs: nowMs,
      bootId,
      ...(pool === DEFAULT_POOL ? {} : { pool }),
      ...(sticky === undefined ? {} : { sticky }),
      extra: {},
    };
    const made = choices.map(({ area, gateway }) =>
      gateway === undefined
        ? undefined
        : newGateway(attachment.network, textAt({ area, index: gateway.index }), bootId, nowMs),
    );
    const given = choices.flatMap(({ area, candidate, gateway }) =>
      [candidate, gateway].filter((one) => one !== undefined).map((one) => ({ area, candidate: one })),
    );
    const foreign = given.filter(({ candidate: { owner } }) => owner === undefined || owner !== sticky?.owner);
    return {
      kind: "new",
      record,
      changes: [...holds(made), { kind: "hold", record }],
      subnets: choices.map(({ area }) => area.cidr),
      gateways: request.withGateway
        ? choices.map(
            ({ area }, i) => made[i]?.addresses[0] ?? (this.#gatewayIn(attachment.network, area.cidr) as string),
          )
        : [],
      restCutShort: foreign.some(({ candidate }) => !isReady(candidate, steadyMs)),
      takenFrom: foreign.flatMap(({ candidate: { owner } }) => owner ?? []),
      usedBefore: given
        .filter(({ candidate }) => candidate.releasedAtMs !== undefined)
        .map(({ area, candidate }) => textAt({ area, index: candidate.index })),
    };
  }

  #planExisting(existing: AllocationRecord, request: AllocationRequest, bootId: string, nowMs: number): AllocatePlan {
    const { pod, netns, hostIfname, portMappings, aliases, podEnd, bandwidth, attachment } = request;
    const { sticky: _, ...rest } = existing;
    const sticky = request.sticky === undefined ? {} : { sticky: request.sticky };
    const attributes = { pod, netns, hostIfname, portMappings, aliases, podEnd, bandwidth, adoption: undefined };
    const record = { ...rest, ...sticky, ...attributes, confirmedAtMs: nowMs, bootId };
    const steadyMs = this.#steady(nowMs);
    const made: AllocationRecord[] = [];
    const chosen: Candidate[] = [];
    const gateways: string[] = [];
    for (const address of request.withGateway ? existing.addresses : []) {
      const cidr = this.#space.subnetOf(address);
      const known = cidr === undefined ? undefined : this.#gatewayIn(attachment.network, cidr);
      const area = this.#space.place(address)?.area;
      if (known === undefined) {
        if (area === undefined || area.draining) return { kind: "noGateway", address, record: existing };
        const candidate = chooseGateway(area, undefined, steadyMs);
        if (candidate === undefined) return this.#exhausted(area.prefix.family, area.pool, steadyMs);
        chosen.push(candidate);
        made.push(newGateway(attachment.network, textAt({ area, index: candidate.index }), bootId, nowMs));
      }
      gateways.push(known ?? (made.at(-1)?.addresses[0] as string));
    }
    return {
      kind: "existed",
      record,
      changes: [...holds(made), { kind: "confirm", record }],
      subnets: existing.addresses.map((address) => this.#space.subnetOf(address) ?? hostText(address)),
      gateways,
      restCutShort: chosen.some((candidate) => !isReady(candidate, steadyMs)),
      takenFrom: chosen.flatMap(({ owner }) => owner ?? []),
      usedBefore: made
        .filter((_gateway, i) => chosen[i]?.releasedAtMs !== undefined)
        .flatMap(({ addresses }) => addresses),
    };
  }

  /** Whether an attachment can take over its addresses from another plugin. Changes nothing. */
  planAdopt(request: AdoptionRequest, bootId: string, nowMs: number): AdoptPlan {
    const { attachment, pod, netns, addresses, adoption } = request;
    const existing = this.#allocations.get(attachmentKey(attachment));
    if (existing !== undefined) {
      const same = existing.addresses.join() === addresses.join();
      return same ? { kind: "existed" } : { kind: "differs", requested: addresses, record: existing };
    }
    for (const address of addresses) {
      // Also what a subnet keeps back, or gives out no more: it is in use, whatever is configured.
      if (this.#space.subnetOf(address) === undefined) return this.#outOfRange(address);
      const holder = this.#holders.get(address);
      if (holder !== undefined) {
        return { kind: "addressTaken", address, holder: this.#allocations.get(holder) as AllocationRecord };
      }
    }
    const times = { allocatedAtMs: nowMs, confirmedAtMs: nowMs, bootId };
    const none = { hostIfname: "", portMappings: [], aliases: [], extra: {} };
    return {
      kind: "adopted",
      change: { kind: "hold", record: { attachment, pod, netns, addresses, adoption, ...times, ...none } },
    };
  }

  /** Whether there are records of which nobody knows whose they are. */
  get hasRecovered(): boolean {
    return this.#recovered.size > 0;
  }

  /**
   * Whether the attachment is the one that a recovered record stands for: the link's name says so. Changes nothing.
   * @param hostIfname the name that the attachment's host link has
   */
  planClaim(attachment: Attachment, hostIfname: string): Change | undefined {
    const recovered = this.#allocations.get(attachmentKey(recoveredAttachment(hostIfname)));
    if (recovered === undefined || this.#allocations.has(attachmentKey(attachment))) return undefined;
    return { kind: "claim", recovered, record: { ...recovered, attachment } };
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
    for (const [address, { releasedAtMs, sticky }] of released) {
      const restMs = Math.max(this.#cooldownMs, sticky?.ttlMs ?? 0);
      const rested = nowMs - releasedAtMs >= restMs || releasedAtMs > nowMs;
      if (rested && this.#space.place(address) === undefined) addresses.push(address);
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
        const before = this.#allocations.get(attachmentKey(change.record.attachment));
        if (before !== undefined) this.#drop(before);
        this.#index(change.record);
        break;
      }
      case "claim":
        this.#drop(change.recovered);
        this.#index(change.record);
        break;
      case "free":
        this.#drop(change.record);
        this.#forgetGateway(change.record);
        for (const address of change.record.addresses) {
          const place = this.#space.place(address);
          const { sticky } = change.record;
          place?.area.addresses.release(place.index, this.#steady(change.releasedAtMs), sticky);
        }
        break;
      case "forget":
        break;
    }
  }

  /** Counts of every subnet, in the configured order. */
  counts(nowMs: number): SubnetCounts[] {
    return this.#space.counts(this.#steady(nowMs));
  }

  /** Some network has a gateway here, so that its subnet is on another plugin's bridge or link. */
  get hasGateways(): boolean {
    return this.#gateways.size > 0;
  }

  /** Addresses that attachments hold in no subnet of this node any more. */
  get strays(): ReadonlySet<string> {
    return this.#strays;
  }

  /** What is given to nobody; some of it may be held from before. */
  get keptBack(): Neighbours[] {
    return this.#space.keptBack;
  }

  /** The addresses that rest, subnet by subnet in the configured order, the longest released first. */
  resting(nowMs: number): RestingAddress[] {
    return this.#space.resting(this.#steady(nowMs)).map(({ releasedAtMs, restsUntilMs, ...one }) => {
      return { ...one, releasedAtMs: releasedAtMs - this.#setBackMs, restsUntilMs: restsUntilMs - this.#setBackMs };
    });
  }

  /** Takes a record out of every index. The pools keep its addresses as held. */
  #drop(record: AllocationRecord): void {
    const key = attachmentKey(record.attachment);
    this.#allocations.delete(key);
    for (const address of record.addresses) {
      this.#holders.delete(address);
      this.#strays.delete(address);
    }
    this.#ports.release(key, record.portMappings);
    this.#links.delete(record.hostIfname);
    this.#recovered.delete(key);
  }

  #hold(record: AllocationRecord): void {
    const key = attachmentKey(record.attachment);
    for (const address of record.addresses) {
      const holder = this.#holders.get(address);
      // Cannot happen: the plan chose an address nobody holds. If it does, nothing may be handed out on top of it.
      if (holder !== undefined) throw new Error(`${address} is held by ${holder} and was planned for ${key}`);
    }
    for (const address of record.addresses) {
      const place = this.#space.place(address);
      place?.area.addresses.hold(place.index);
    }
    this.#index(record);
  }

  /** Takes a record into every index. */
  #index(record: AllocationRecord): void {
    const key = attachmentKey(record.attachment);
    for (const address of record.addresses) {
      this.#holders.set(address, key);
      if (this.#space.subnetOf(address) === undefined) this.#strays.add(address);
    }
    this.#allocations.set(key, record);
    this.#ports.hold(key, record.portMappings);
    if (record.hostIfname !== "") this.#links.set(record.hostIfname, key);
    if (isRecovered(record.attachment)) this.#recovered.add(key);
    if (isGateway(record.attachment)) {
      const { network } = record.attachment;
      const ofNetwork = this.#gateways.get(network) ?? new Set();
      for (const address of record.addresses) ofNetwork.add(address);
      this.#gateways.set(network, ofNetwork);
    }
  }

  #outOfRange(address: string): Refusal {
    const reservedIn = this.#space.subnetOf(address);
    const subnets = this.#space.subnetsOf(familyOf(parseAddress(address)));
    return { kind: "outOfRange", address, reservedIn, excludedBy: this.#space.excludedBy(address), subnets };
  }

  #forgetGateway({ attachment, addresses }: AllocationRecord): void {
    if (!isGateway(attachment)) return;
    for (const address of addresses) this.#gateways.get(attachment.network)?.delete(address);
  }

  /** Where an address that was asked for is, or why it can't be had. */
  #requestable(address: string, pool: string, { sticky }: AllocationRequest, steadyMs: number): Place | Refusal {
    const place = this.#space.place(address);
    if (place === undefined) return this.#outOfRange(address);
    const { area, index } = place;
    const key = this.#holders.get(address);
    if (key !== undefined) {
      return { kind: "addressTaken", address, holder: this.#allocations.get(key) as AllocationRecord };
    }
    if (area.draining) return { kind: "draining", address, subnet: area.cidr };
    if (area.pool !== pool) return { kind: "otherPool", address, pool: area.pool, wanted: pool };
    const candidate = area.addresses.at(index, steadyMs);
    if (candidate?.owner !== undefined && candidate.owner !== sticky?.owner) {
      const forMs = (candidate.readyAtMs ?? steadyMs) - steadyMs;
      return { kind: "addressKept", address, owner: candidate.owner, forMs };
    }
    return place;
  }

  /**
   * The next address of a family: the one that was asked for, or the one that is kept for the owner, or one of the first
   * subnet that has one ready, or else the longest rested of all of them, those that are kept for others last. Where the
   * network still needs a gateway, the area has to have room for both.
   */
  #choose(
    pool: string,
    family: Family,
    requested: Place | undefined,
    { attachment, withGateway, sticky }: AllocationRequest,
    steadyMs: number,
  ): Choice | undefined {
    /** Together with a gateway, if one is needed; undefined when there is no room for that. */
    const beside = (area: Area, pick: (gateway: bigint | undefined) => Candidate | undefined, taken?: bigint) => {
      const needed = withGateway && this.#gatewayIn(attachment.network, area.cidr) === undefined;
      const gateway = needed ? chooseGateway(area, taken, steadyMs) : undefined;
      const candidate = needed && gateway === undefined ? undefined : pick(gateway?.index);
      return candidate === undefined ? undefined : { area, candidate, gateway };
    };
    if (requested !== undefined) {
      const { area, index } = requested;
      return beside(area, () => area.addresses.at(index, steadyMs), index);
    }
    const areas = this.#space.open(pool, family);
    const own = sticky === undefined ? undefined : this.#keptFor(sticky.owner, areas, steadyMs);
    if (own !== undefined) {
      const choice = beside(own.area, () => own.candidate, own.candidate.index);
      if (choice !== undefined) return choice;
    }
    const offers: Choice[] = [];
    for (const area of areas) {
      const { addresses } = area;
      const offer = beside(
        area,
        (gateway) => addresses.available(steadyMs, gateway) ?? addresses.oldest(steadyMs, gateway),
      );
      if (offer !== undefined && isReady(offer.candidate, steadyMs)) return offer;
      if (offer !== undefined) offers.push(offer);
    }
    // Of two released at once the earlier subnet's, as the sort is stable.
    return offers.toSorted(
      ({ candidate: a }, { candidate: b }) =>
        Number(a.owner !== undefined) - Number(b.owner !== undefined) || (a.releasedAtMs ?? 0) - (b.releasedAtMs ?? 0),
    )[0];
  }

  /** What is kept for an owner in these areas: of several the latest. */
  #keptFor(owner: string, areas: readonly Area[], steadyMs: number): { area: Area; candidate: Candidate } | undefined {
    let latest: { area: Area; candidate: Candidate } | undefined;
    for (const area of areas) {
      const candidate = area.addresses.keptFor(owner, steadyMs);
      if (candidate === undefined) continue;
      if (latest === undefined || (candidate.releasedAtMs ?? 0) > (latest.candidate.releasedAtMs ?? 0)) {
        latest = { area, candidate };
      }
    }
    return latest;
  }

  /** Takes time in the number of records, for the message. */
  #exhausted(family: Family, pool: string, steadyMs: number): Refusal {
    const own = new Set(this.#space.subnetsOf(family));
    const subnets = this.#space.counts(steadyMs).filter(({ cidr }) => own.has(cidr));
    const times = this.#space.open(pool, family).flatMap(({ addresses }) => addresses.nextReadyMs(steadyMs) ?? []);
    const nextFreeMs = times.length === 0 ? undefined : Math.min(...times) - steadyMs;
    return { kind: "exhausted", family, pool, subnets, holders: this.#holdersOf(family, pool), nextFreeMs };
  }

  /** Who has a pool's addresses of a family, those of draining subnets left out. */
  #holdersOf(family: Family, pool: string): Holders {
    const counts = new Map<string, number>();
    let oldest: AllocationRecord | undefined;
    let total = 0;
    for (const [address, key] of this.#holders) {
      const area = this.#space.place(address)?.area;
      if (area === undefined || area.draining || area.pool !== pool || area.prefix.family !== family) continue;
      const record = this.#allocations.get(key) as AllocationRecord;
      const gateway = isGateway(record.attachment);
      const name = gateway ? "gateways" : record.pod?.namespace || `network ${record.attachment.network}`;
      counts.set(name, (counts.get(name) ?? 0) + 1);
      total++;
      if (!gateway && (oldest === undefined || record.allocatedAtMs < oldest.allocatedAtMs)) oldest = record;
    }
    const inOrder = [...counts].map(([name, count]) => ({ name, count })).sort((a, b) => b.count - a.count);
    const most = inOrder.slice(0, NAMED_HOLDERS);
    return { total, most, others: inOrder.length - most.length, oldest };
  }

  /** The network's gateway in a subnet. Should there be several, since subnets were joined, always the same one. */
  #gatewayIn(network: string, cidr: string): string | undefined {
    const here = [...(this.#gateways.get(network) ?? [])].filter((address) => this.#space.subnetOf(address) === cidr);
    return here.sort()[0];
  }

  /**
   * The time for everything that rests, in milliseconds. It goes on from where it was when the clock is set back, so that
   * nothing rests longer for it, and what came first stays first.
   */
  #steady(nowMs: number): number {
    if (nowMs < this.#seenMs) this.#setBackMs += this.#seenMs - nowMs;
    this.#seenMs = nowMs;
    return nowMs + this.#setBackMs;
  }
}

/** Whether anybody may have it: never used, or rested long enough. */
function isReady({ readyAtMs }: Candidate, steadyMs: number): boolean {
  return readyAtMs === undefined || readyAtMs <= steadyMs;
}

/** A gateway for the area's subnet: its first usable address if that can be had, since people expect it there. */
function chooseGateway({ addresses }: Area, except: bigint | undefined, steadyMs: number): Candidate | undefined {
  const { first } = addresses;
  const candidate = first === undefined || first === except ? undefined : addresses.at(first, steadyMs);
  if (candidate !== undefined && isReady(candidate, steadyMs)) return candidate;
  return addresses.available(steadyMs, except) ?? addresses.oldest(steadyMs, except);
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

/** An address as the subnet that it is by itself. */
function hostText(address: string): string {
  return `${address}/${hostLength(familyOf(parseAddress(address)))}`;
}
