// SPDX-License-Identifier: Apache-2.0
//
// Who holds which address, and who gets the next one. Decisions are data: a plan function looks and returns a Change (or a
// refusal), `apply` takes it into memory, and the service makes it durable. Nothing here waits, and time is an argument.
import { type Family, formatAddress, parseAddress } from "../net/address.ts";
import { type Attachment, attachmentKey } from "../net/names.ts";
import { addressAt, formatPrefix, indexOf, overlaps, type Prefix } from "../net/prefix.ts";
import { IpamError } from "./errors.ts";
import { type Candidate, Pool, type PoolCounts } from "./pool.ts";
import type { AllocationRecord, Change, PodName, Snapshot } from "./records.ts";

/** How long an address rests by default: longer than the longest conntrack entry of a half-open flow (SYN_SENT, 120 s). */
export const DEFAULT_COOLDOWN_MS = 120_000;

/** A wish for addresses, already validated. */
export interface AllocationRequest {
  readonly attachment: Attachment;
  readonly pod: PodName | undefined;
  readonly netns: string;
  readonly hostIfname: string;
}

/** Counts of a subnet of this node. */
export interface SubnetCounts extends PoolCounts {
  /** Canonical text, "10.244.1.0/24". */
  readonly cidr: string;
}

export type AllocatePlan =
  | {
      readonly kind: "new";
      readonly record: AllocationRecord;
      readonly change: Change;
      /** An address is used again before its rest was over, because no other was left. */
      readonly restCutShort: boolean;
    }
  /** The attachment holds addresses; it keeps them. */
  | { readonly kind: "existed"; readonly record: AllocationRecord; readonly change: Change }
  /** No address of this family is left, so none of any family is given. */
  | { readonly kind: "exhausted"; readonly family: Family; readonly subnets: readonly SubnetCounts[] };

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

export class Allocator {
  readonly #pools: readonly Pool[];
  readonly #cooldownMs: number;
  readonly #allocations = new Map<string, AllocationRecord>();
  /** The unique index: address to the key of its one holder, in whatever subnet. */
  readonly #holders = new Map<string, string>();

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
    const existing = this.#allocations.get(attachmentKey(request.attachment));
    const { attachment, pod, netns, hostIfname } = request;
    if (existing !== undefined) {
      const record = { ...existing, pod, netns, hostIfname, confirmedAtMs: nowMs, bootId };
      return { kind: "existed", record, change: { kind: "confirm", record } };
    }
    const addresses: string[] = [];
    let restCutShort = false;
    for (const family of [4, 6] as const) {
      const pools = this.#pools.filter((pool) => pool.prefix.family === family);
      if (pools.length === 0) continue;
      const choice = choose(pools, nowMs);
      if (choice === undefined) {
        return { kind: "exhausted", family, subnets: pools.map((pool) => countsOf(pool, nowMs)) };
      }
      addresses.push(formatAddress(addressAt(choice.pool.prefix, choice.candidate.index)));
      restCutShort ||= choice.restCutShort;
    }
    const record = {
      attachment,
      pod,
      netns,
      hostIfname,
      addresses,
      allocatedAtMs: nowMs,
      confirmedAtMs: nowMs,
      bootId,
      extra: {},
    };
    return { kind: "new", record, change: { kind: "hold", record }, restCutShort };
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
    if (record === undefined) return { kind: "unknown" };
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
      case "confirm":
        this.#allocations.set(attachmentKey(change.record.attachment), change.record);
        break;
      case "free":
        this.#allocations.delete(attachmentKey(change.record.attachment));
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
  }

  #place(address: string): Place | undefined {
    const bytes = parseAddress(address);
    for (const pool of this.#pools) {
      const index = indexOf(pool.prefix, bytes);
      if (index !== undefined) return pool.contains(index) ? { pool, index: Number(index) } : undefined;
    }
    return undefined;
  }
}

/** The next address of a family: the first pool that has one ready, or else the longest rested of all of them. */
function choose(
  pools: readonly Pool[],
  nowMs: number,
): { pool: Pool; candidate: Candidate; restCutShort: boolean } | undefined {
  for (const pool of pools) {
    const candidate = pool.available(nowMs);
    if (candidate !== undefined) return { pool, candidate, restCutShort: false };
  }
  let best: { pool: Pool; candidate: Candidate; restCutShort: boolean } | undefined;
  for (const pool of pools) {
    const candidate = pool.oldest(nowMs);
    if (candidate === undefined) continue;
    if (best === undefined || (candidate.releasedAtMs ?? 0) < (best.candidate.releasedAtMs ?? 0)) {
      best = { pool, candidate, restCutShort: true };
    }
  }
  return best;
}

function countsOf(pool: Pool, nowMs: number): SubnetCounts {
  return { cidr: formatPrefix(pool.prefix), ...pool.counts(nowMs) };
}
