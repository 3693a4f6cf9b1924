// SPDX-License-Identifier: Apache-2.0
//
// The node's address service. Decides in memory, makes it durable, and only then speaks.
//
// The allocator runs ahead of the disk: it knows decisions whose commit is under way, so that two requests never choose
// one address. What is said comes from behind the disk. Requests for one attachment wait for each other, so a retry finds
// either a durable allocation or none. After a failed commit the memory is not repaired but read from the disk again,
// since whether a failed write is there only the disk knows; until that works, nothing is served.
import { type Attachment, attachmentKey } from "../net/names.ts";
import type { Prefix } from "../net/prefix.ts";
import {
  type AllocatePlan,
  type AllocationRequest,
  Allocator,
  DEFAULT_COOLDOWN_MS,
  type SubnetCounts,
} from "./allocator.ts";
import { IpamError } from "./errors.ts";
import { KeyedLock } from "./keyed-lock.ts";
import { type AllocationRecord, type Change, type Snapshot, writesOf } from "./records.ts";
import type { RecordStore } from "./store.ts";

export interface IpamOptions {
  /** The node's subnets; several of a family are tried in order. */
  readonly subnets: readonly Prefix[];
  /** How long a released address rests. */
  readonly cooldownMs?: number;
  /** The kernel's boot_id, for the records. */
  readonly bootId: string;
  /** Wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

export interface AllocateResult {
  /** Durable. IPv4 first. */
  readonly addresses: readonly string[];
  /** The attachment had them already. */
  readonly existed: boolean;
  /** An address is used again before its rest was over; worth a line in the log. */
  readonly restCutShort: boolean;
}

export interface ReleaseResult {
  /** Given back now; empty when the attachment was not known or was added again since. */
  readonly addresses: readonly string[];
  /** The DEL came too late: the attachment has been added again after it, and keeps its addresses. */
  readonly readded: boolean;
}

export interface IpamState {
  readonly allocations: readonly AllocationRecord[];
  readonly subnets: readonly SubnetCounts[];
}

/** Every method throws IpamError. */
export class IpamService {
  readonly #store: RecordStore;
  readonly #subnets: readonly Prefix[];
  readonly #cooldownMs: number;
  readonly #bootId: string;
  readonly #now: () => number;
  readonly #lock = new KeyedLock();
  #allocator: Allocator;
  /** What is known to be on disk, by attachment key. */
  readonly #durable: Map<string, AllocationRecord>;
  #recovery: Promise<void> | undefined;
  #closed = false;

  /**
   * @param store is the service's from now on; `close` closes it
   * @param snapshot what the store holds
   * @throws IpamError IPAM_INVALID when the subnets make no sense together
   */
  constructor(store: RecordStore, snapshot: Snapshot, options: IpamOptions) {
    this.#store = store;
    this.#subnets = options.subnets;
    this.#cooldownMs = options.cooldownMs ?? DEFAULT_COOLDOWN_MS;
    this.#bootId = options.bootId;
    this.#now = options.now ?? Date.now;
    this.#allocator = Allocator.restore(this.#subnets, this.#cooldownMs, snapshot, this.#now());
    this.#durable = new Map(snapshot.allocations);
  }

  /** A service on what the store holds, after removing records that are of no use any more. */
  static async start(store: RecordStore, snapshot: Snapshot, options: IpamOptions): Promise<IpamService> {
    const service = new IpamService(store, snapshot, options);
    const forget = service.#allocator.planForget(snapshot.released, service.#now());
    if (forget !== undefined) await service.#commit(forget);
    return service;
  }

  /** Gives the attachment its addresses, once they are durable. Asked again it gives the same ones. */
  async allocate(request: AllocationRequest): Promise<AllocateResult> {
    return this.#exclusively(request.attachment, async () => {
      // Plan, apply and the start of the commit are one turn of the event loop: nobody plans in between.
      const plan = this.#allocator.planAllocate(request, this.#bootId, this.#now());
      if (plan.kind === "exhausted") throw exhausted(plan);
      await this.#commit(plan.change);
      const restCutShort = plan.kind === "new" && plan.restCutShort;
      return { addresses: plan.record.addresses, existed: plan.kind === "existed", restCutShort };
    });
  }

  /**
   * Takes the attachment's addresses back, once that is durable. An unknown attachment is no error.
   *
   * @param deletedAtMs when the DEL was, if it is told late: see Allocator.planRelease
   */
  async release(attachment: Attachment, deletedAtMs?: number): Promise<ReleaseResult> {
    return this.#exclusively(attachment, async () => {
      const plan = this.#allocator.planRelease(attachment, this.#now(), deletedAtMs);
      if (plan.kind !== "released") return { addresses: [], readded: plan.kind === "readded" };
      await this.#commit(plan.change);
      return { addresses: plan.record.addresses, readded: false };
    });
  }

  /** All durable allocations, and the counts of the subnets (which know of commits under way). */
  async list(): Promise<IpamState> {
    this.#refuseWhenClosed();
    await this.#healthy();
    return { allocations: [...this.#durable.values()], subnets: this.#allocator.counts(this.#now()) };
  }

  /** Refuses new requests, waits for those under way, and closes the store. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#lock.idle();
    await this.#store.close();
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new IpamError("IPAM_CLOSED", "the address service is stopping");
  }

  /** Runs `work`, synchronous up to its commit, on memory that agrees with the disk, alone for this attachment. */
  async #exclusively<T>(attachment: Attachment, work: () => Promise<T>): Promise<T> {
    this.#refuseWhenClosed();
    return this.#lock.run(attachmentKey(attachment), async () => {
      if (this.#store.failed || this.#recovery !== undefined) await this.#healthy();
      return work();
    });
  }

  async #commit(change: Change): Promise<void> {
    this.#allocator.apply(change);
    try {
      await this.#store.commit(writesOf(change));
    } catch (cause) {
      throw storeError(cause);
    }
    switch (change.kind) {
      case "hold":
      case "confirm":
        this.#durable.set(attachmentKey(change.record.attachment), change.record);
        break;
      case "free":
        this.#durable.delete(attachmentKey(change.record.attachment));
        break;
      case "forget":
        break;
    }
  }

  /** Resolves when memory agrees with the disk. */
  async #healthy(): Promise<void> {
    // Again, because between the recovery and our turn another write may have failed.
    while (this.#store.failed || this.#recovery !== undefined) {
      this.#recovery ??= this.#recover().finally(() => {
        this.#recovery = undefined;
      });
      await this.#recovery;
    }
  }

  async #recover(): Promise<void> {
    let snapshot: Snapshot;
    try {
      snapshot = await this.#store.reopen();
    } catch (cause) {
      throw storeError(cause);
    }
    this.#allocator = Allocator.restore(this.#subnets, this.#cooldownMs, snapshot, this.#now());
    this.#durable.clear();
    for (const [key, record] of snapshot.allocations) this.#durable.set(key, record);
  }
}

function storeError(cause: unknown): IpamError {
  return new IpamError("IPAM_STORE", cause instanceof Error ? cause.message : String(cause), cause);
}

function exhausted(plan: Extract<AllocatePlan, { kind: "exhausted" }>): IpamError {
  const subnets = plan.subnets.map(({ cidr, used, capacity }) => `${cidr} (${used} of ${capacity} in use)`);
  return new IpamError("IPAM_EXHAUSTED", `no IPv${plan.family} address is left in ${subnets.join(", ")}`);
}
