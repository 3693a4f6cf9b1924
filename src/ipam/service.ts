// SPDX-License-Identifier: Apache-2.0
//
// The node's address service. Decides in memory, makes it durable, and only then speaks.
//
// The allocator runs ahead of the disk: it knows decisions whose commit is under way, so that two requests never choose
// one address and no port twice. What is said comes from behind the disk. Requests for one attachment wait for each other, so a retry finds
// either a durable allocation or none. After a failed commit the memory is not repaired but read from the disk again,
// since whether a failed write is there only the disk knows; until that works, nothing is served.
import { createHash } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { type Attachment, attachmentKey, hostLinkName } from "../net/names.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Neighbours, RestingAddress, SubnetCounts } from "./address-space.ts";
import type { AdoptionRequest } from "./adoption-request.ts";
import { Allocator, DEFAULT_COOLDOWN_MS } from "./allocator.ts";
import { type ConsistencyReport, compareWithKernel, inBoth } from "./consistency.ts";
import { IpamError } from "./errors.ts";
import {
  expiredKeys,
  type HistoryPage,
  type HistoryQuery,
  HistoryWriter,
  type ReleaseCause,
  readHistory,
} from "./history.ts";
import { KeyedLock } from "./keyed-lock.ts";
import { type AddressRules, DEFAULT_POOL } from "./layout.ts";
import type { AllocationRequest } from "./plans.ts";
import { type AllocationRecord, type Bandwidth, type Change, formatWrite, type Snapshot, writesOf } from "./records.ts";
import { type KernelMark, planRecovery, type Recovery } from "./recovered.ts";
import { refusalError } from "./refusals.ts";
import type { RecordStore } from "./store.ts";

/**
 * What has to be in the kernel while an attachment holds ports of the node. Called only for records that have port
 * mappings, for one attachment at a time, though for several attachments at once. After a restart nobody calls `set` for
 * what is on disk: whoever implements this brings the kernel in line with `list` first.
 */
export interface AttachmentEffects {
  /** Makes the kernel agree with the record, whatever was there of its attachment. All of it or nothing. */
  set(record: AllocationRecord): Promise<void>;
  /** Removes what is there of the record's attachment; nothing being there is success. */
  clear(record: AllocationRecord): Promise<void>;
  /** What of the record is not in the kernel as `set` made it, a sentence each; changes nothing. */
  check?(record: AllocationRecord): Promise<string[]>;
  /** Ends what is left of the conversations of addresses that were given back. In the background: nobody waits for it. */
  forget?(addresses: readonly string[]): void;
  /**
   * The same for addresses that somebody had before and that are given again: the answer waits until it resolves. What was
   * begun after the release may not have been done, as after a crash. Never rejects.
   *
   * @param reachable connections may have come since, too: a network of another plugin has its subnet on a bridge, where
   * packets to addresses that nobody has are not dropped at once
   */
  forgetNow?(addresses: readonly string[], reachable: boolean): Promise<void>;
}

/** Who has to know of every attachment: before anything can be sent from its addresses, and once they are given back. */
export interface AttachmentGuard {
  /**
   * For each ADD, once its addresses are durable; the answer waits for it. May come again for the same attachment.
   * @throws whatever it can't do: then the ADD fails
   */
  admit(record: AllocationRecord): Promise<void>;
  /** Its addresses are given back, and may be somebody else's from now on. */
  dismiss(record: AllocationRecord): void;
}

/** Where the service tells what it could not do and went on without; pino's shape. */
export interface ServiceLog {
  error(fields: object, message: string): void;
}

export interface IpamOptions {
  /** The node's subnets; several of a family are tried in order. */
  readonly subnets: readonly Prefix[];
  /** What in them is drained, excluded, or a pool's own. */
  readonly rules?: AddressRules;
  /** How long a released address rests. */
  readonly cooldownMs?: number;
  /** The kernel's boot_id, for the records. */
  readonly bootId: string;
  /** Wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
  /** How long it stays known who held an address, in milliseconds; 0, which is the default, for not at all. */
  readonly historyMs?: number;
  /** None when missing: port mappings are kept, and that is all. */
  readonly effects?: AttachmentEffects;
  /** Nobody when missing. */
  readonly guard?: AttachmentGuard | undefined;
  /** Silent when missing. */
  readonly log?: ServiceLog;
}

export interface AllocateResult {
  /** Durable. IPv4 first. */
  readonly addresses: readonly string[];
  /** The subnet of each, in canonical text; of one that is in no subnet of ours any more, the address itself. */
  readonly subnets: readonly string[];
  /** The network's gateway in each of these subnets, durable; empty unless asked for. */
  readonly gateways: readonly string[];
  /** The attachment had them already. */
  readonly existed: boolean;
  /** An address is used again before its rest was over, for want of another or on request; worth a line in the log. */
  readonly restCutShort: boolean;
  /** Name of the pool that the addresses were asked of when they were given. */
  readonly pool: string;
  /** The pod's limits, as the record has them. */
  readonly bandwidth: Bandwidth | undefined;
  /** Whom the addresses were kept for, and who lost them for want of another; worth a line in the log too. */
  readonly takenFrom: readonly string[];
}

export interface ReleaseResult {
  /** Given back now; empty when the attachment was not known or was added again since. */
  readonly addresses: readonly string[];
  /** The DEL came too late: the attachment has been added again after it, and keeps its addresses. */
  readonly readded: boolean;
}

export interface CheckResult {
  /** Durable. */
  readonly record: AllocationRecord;
  /** What of its ports is not in the kernel as it should be, a sentence each. */
  readonly problems: readonly string[];
}

/** How full the subnets are. */
export interface IpamCounts {
  readonly subnets: readonly SubnetCounts[];
  /** Addresses that are held and are in none of them any more. */
  readonly strays: ReadonlySet<string>;
}

export interface IpamState extends IpamCounts {
  /** In the order of their keys. */
  readonly allocations: readonly AllocationRecord[];
}

/** Most tenures that are kept, whatever their age: some 30 MB on disk. */
const HISTORY_MAX = 100_000;

/** As many may have come since the history was looked through last. */
const HISTORY_SLACK = 10_000;

/** And as much time may have passed, in milliseconds. */
const HISTORY_PRUNE_MS = 3_600_000;

/** Between two looks at the kernel: an ADD is done with its links and routes in a few milliseconds. */
const SECOND_LOOK_MS = 250;

/** How many entries go in one batch, which an ADD may be waiting in. */
const PRUNE_BATCH = 100;

/** Every method throws IpamError. */
export class IpamService {
  readonly #store: RecordStore;
  readonly #subnets: readonly Prefix[];
  readonly #rules: AddressRules;
  readonly #cooldownMs: number;
  readonly #bootId: string;
  readonly #now: () => number;
  readonly #historyMs: number;
  readonly #effects: AttachmentEffects | undefined;
  readonly #guard: AttachmentGuard | undefined;
  readonly #log: ServiceLog;
  readonly #lock = new KeyedLock();
  #allocator: Allocator;
  #history: HistoryWriter;
  /** When the history was looked through last, and how many tenures have ended since. */
  #pruned = { atMs: Number.NEGATIVE_INFINITY, endedSince: 0 };
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
    this.#rules = options.rules ?? {};
    this.#cooldownMs = options.cooldownMs ?? DEFAULT_COOLDOWN_MS;
    this.#bootId = options.bootId;
    this.#now = options.now ?? Date.now;
    this.#historyMs = options.historyMs ?? 0;
    this.#effects = options.effects;
    this.#guard = options.guard;
    this.#log = options.log ?? { error() {} };
    this.#allocator = Allocator.restore(this.#subnets, this.#cooldownMs, snapshot, this.#now(), this.#rules);
    this.#history = new HistoryWriter(snapshot.lastTenure);
    this.#durable = new Map(snapshot.allocations);
  }

  /** A service on what the store holds, after removing records that are of no use any more. */
  static async start(store: RecordStore, snapshot: Snapshot, options: IpamOptions): Promise<IpamService> {
    const service = new IpamService(store, snapshot, options);
    const forget = service.#allocator.planForget(snapshot.released, service.#now());
    if (forget !== undefined) await service.#commit([forget]);
    return service;
  }

  /**
   * Gives the attachment its addresses and ports, once they are durable. Asked again it gives the same addresses.
   *
   * @param isAbandoned whether nobody waits for the answer any more; asked at the end, and what this call made goes then
   */
  async allocate(request: AllocationRequest, isAbandoned?: () => Promise<boolean>): Promise<AllocateResult> {
    return this.#exclusively(request.attachment, async () => {
      const claim = this.#planClaim(request.attachment, request.hostIfname);
      if (claim !== undefined) await this.#commit([claim]);
      const before = this.#durable.get(attachmentKey(request.attachment));
      // Plan, apply and the start of the commit are one turn of the event loop: nobody plans in between.
      const plan = this.#allocator.planAllocate(request, this.#bootId, this.#now());
      if (plan.kind !== "new" && plan.kind !== "existed") throw refusalError(plan);
      globalThis.faultPoint?.("daemon.allocation-planned");
      const committed = this.#commit(plan.changes);
      const { usedBefore } = plan;
      const reachable = this.#allocator.hasGateways;
      const forgotten = usedBefore.length === 0 ? undefined : this.#effects?.forgetNow?.(usedBefore, reachable);
      await Promise.all([committed, forgotten]);
      globalThis.faultPoint?.("daemon.allocation-durable");
      if (plan.record.portMappings.length > 0) await this.#setEffects(plan.record, plan.kind === "new");
      else if (before !== undefined) await this.#clearEffects(before);
      await this.#admit(plan.record, plan.kind === "new");
      globalThis.faultPoint?.("daemon.allocation-in-effect");
      if (plan.kind === "new" && (await isAbandoned?.()) === true) {
        // Before anybody else's turn: the same attachment's next ADD may be in line, and what it gets has to stay.
        await this.#takeBack(plan.record, "abandoned");
        const key = attachmentKey(request.attachment);
        throw new IpamError("IPAM_ABANDONED", `whoever asked for the addresses of ${key} has gone`);
      }
      const { record, kind, subnets, gateways, restCutShort, takenFrom } = plan;
      const existed = kind === "existed";
      const { addresses, pool = DEFAULT_POOL, bandwidth } = record;
      return { addresses, subnets, gateways, existed, restCutShort, pool, bandwidth, takenFrom };
    });
  }

  /**
   * Takes the attachment's addresses and ports back, once that is durable. An unknown attachment is no error.
   *
   * @param deletedAtMs when the DEL was, if it is told late: see Allocator.planRelease
   * @param cause for the history
   */
  async release(
    attachment: Attachment,
    deletedAtMs?: number,
    cause: ReleaseCause = deletedAtMs === undefined ? "del" : "journal",
  ): Promise<ReleaseResult> {
    return this.#exclusively(attachment, async () => {
      const claim = this.#planClaim(attachment);
      if (claim !== undefined) await this.#commit([claim]);
      return this.#release(attachment, deletedAtMs, cause);
    });
  }

  /**
   * Takes back what an attachment has that is gone without a DEL, as far as the caller knows from this record of it.
   * @returns false when the attachment is not known any more or was added again since; nothing has changed then
   */
  async retire(seen: AllocationRecord): Promise<boolean> {
    return this.#exclusively(seen.attachment, async () => {
      return this.#isSame(seen) && (await this.#release(seen.attachment, undefined, "retired")).addresses.length > 0;
    });
  }

  /** Takes over addresses of another plugin, once that is durable. @returns whether the attachment had them already */
  async adopt(request: AdoptionRequest): Promise<boolean> {
    return this.#exclusively(request.attachment, async () => {
      const plan = this.#allocator.planAdopt(request, this.#bootId, this.#now());
      if (plan.kind === "existed") return true;
      if (plan.kind !== "adopted") throw refusalError(plan);
      await this.#commit([plan.change]);
      return false;
    });
  }

  /** Gives back what an adoption took over and no ADD has asked for since, gateways too. @returns what it was */
  async undoAdoption(id: string): Promise<AllocationRecord[]> {
    const released: AllocationRecord[] = [];
    for (const { attachment } of (await this.list()).allocations.filter((record) => record.adoption?.id === id)) {
      await this.#exclusively(attachment, async () => {
        const record = this.#durable.get(attachmentKey(attachment));
        if (record?.adoption?.id !== id) return;
        await this.#commit([{ kind: "free", record, releasedAtMs: this.#now() }], "adoption-undone");
        released.push(record);
      });
    }
    return released;
  }

  /**
   * Holds the addresses that the kernel has for links whose record is lost, once that is durable. To be called before anything is
   * served.
   * @param nowMs from before the kernel was looked at
   */
  async recover(marks: readonly KernelMark[], nowMs: number): Promise<Recovery> {
    this.#refuseWhenClosed();
    await this.#healthy();
    const known = { allocations: this.#durable, released: new Map() };
    const recovery = planRecovery(known, marks, this.#bootId, nowMs);
    if (recovery.records.length > 0) await this.#commit(recovery.records.map((record) => ({ kind: "hold", record })));
    return recovery;
  }

  /**
   * Runs `work` while nothing else is done for the attachment: no ADD or DEL of it is between its record and its answer.
   * @returns false when the attachment is not known any more or was added again since; `work` has not run then
   */
  async whileHeld(seen: AllocationRecord, work: () => void): Promise<boolean> {
    return this.#exclusively(seen.attachment, async () => {
      const held = this.#isSame(seen);
      if (held) work();
      return held;
    });
  }

  #isSame(seen: AllocationRecord): boolean {
    const record = this.#durable.get(attachmentKey(seen.attachment));
    return record?.confirmedAtMs === seen.confirmedAtMs && record.bootId === seen.bootId;
  }

  /**
   * What is on disk against what is in the kernel; changes nothing.
   * @param look at the kernel; called a second time where something differs
   */
  async consistency(look: () => Promise<readonly KernelMark[]>): Promise<ConsistencyReport> {
    const compare = async () => {
      const marks = await look();
      const { allocations } = await this.list();
      return { findings: compareWithKernel(allocations, marks), attachments: allocations.length, links: marks.length };
    };
    const first = await compare();
    if (first.findings.length === 0) return first;
    await setTimeout(SECOND_LOOK_MS);
    const second = await compare();
    return { ...second, findings: inBoth(first.findings, second.findings) };
  }

  /** All durable allocations, gateways too, and the counts of the subnets (which know of commits under way). */
  async list(): Promise<IpamState> {
    this.#refuseWhenClosed();
    await this.#healthy();
    const inOrder = [...this.#durable].sort(([a], [b]) => (a < b ? -1 : 1));
    return { allocations: inOrder.map(([, record]) => record), ...this.#counts() };
  }

  /** The addresses that rest, subnet by subnet; like the counts, they know of commits under way. */
  async resting(): Promise<RestingAddress[]> {
    this.#refuseWhenClosed();
    await this.#healthy();
    return this.#allocator.resting(this.#now());
  }

  /** What is given to nobody, subnet by subnet; some of it may be held from before. */
  get keptBack(): Neighbours[] {
    return this.#allocator.keptBack;
  }

  /** The durable allocation of an attachment. @throws IpamError IPAM_UNKNOWN too */
  async get(attachment: Attachment): Promise<AllocationRecord> {
    this.#refuseWhenClosed();
    await this.#healthy();
    const key = attachmentKey(attachment);
    const record = this.#durable.get(key);
    if (record === undefined) throw new IpamError("IPAM_UNKNOWN", `attachment ${key} has no address`);
    return record;
  }

  /** The durable allocation of an attachment, compared with the kernel. @throws IpamError IPAM_UNKNOWN too */
  async check(attachment: Attachment): Promise<CheckResult> {
    // Not beside an ADD or a DEL of it: between the disk and the kernel they look like a difference.
    return this.#exclusively(attachment, async () => {
      const claim = this.#planClaim(attachment);
      if (claim !== undefined) await this.#commit([claim]);
      const record = await this.get(attachment);
      if (record.portMappings.length === 0) return { record, problems: [] };
      try {
        return { record, problems: (await this.#effects?.check?.(record)) ?? [] };
      } catch (cause) {
        const key = attachmentKey(attachment);
        throw new IpamError("IPAM_EFFECT", `the ports of ${key} could not be checked: ${messageOf(cause)}`, cause);
      }
    });
  }

  /** Counts of the subnets. Touches the disk only when a write has failed: whether that is over is part of the answer. */
  async counts(): Promise<IpamCounts> {
    this.#refuseWhenClosed();
    await this.#healthy();
    return this.#counts();
  }

  #counts(): IpamCounts {
    return { subnets: this.#allocator.counts(this.#now()), strays: this.#allocator.strays };
  }

  /** Who has held addresses, and who holds them now. In the time of the query's interval and what came after it. */
  async history(query: HistoryQuery): Promise<HistoryPage> {
    this.#refuseWhenClosed();
    await this.#healthy();
    try {
      return await readHistory(this.#store, this.#durable.values(), query);
    } catch (cause) {
      throw storeError(cause);
    }
  }

  /**
   * Drops what of the history is too old or too much, when it is time to look. To be called in the background, often.
   * @returns how many entries went
   */
  async pruneHistory(): Promise<number> {
    this.#refuseWhenClosed();
    const nowMs = this.#now();
    const { atMs, endedSince } = this.#pruned;
    if (endedSince < HISTORY_SLACK && Math.abs(nowMs - atMs) < HISTORY_PRUNE_MS) return 0;
    await this.#healthy();
    this.#pruned = { atMs: nowMs, endedSince: 0 };
    const beforeMs = this.#historyMs === 0 ? Number.POSITIVE_INFINITY : nowMs - this.#historyMs;
    try {
      // The oldest first, so that what is left has no holes whenever this ends.
      const keys = (await expiredKeys(this.#store, { beforeMs, entriesMax: HISTORY_MAX })).reverse();
      for (let at = 0; at < keys.length; at += PRUNE_BATCH) {
        await this.#store.commit(keys.slice(at, at + PRUNE_BATCH).map((key) => ({ type: "del", key })));
        globalThis.faultPoint?.("daemon.history-pruned");
      }
      return keys.length;
    } catch (cause) {
      throw storeError(cause);
    }
  }

  /**
   * Writes what is in the database already, as every writer does: through to the disk.
   * @throws IpamError IPAM_STORE, IPAM_CLOSED
   */
  async tryWrite(): Promise<void> {
    this.#refuseWhenClosed();
    await this.#healthy();
    try {
      await this.#store.commit([formatWrite()]);
    } catch (cause) {
      throw storeError(cause);
    }
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

  /** What makes an attachment that is recognised take over what was recovered of it; undefined when nothing was. */
  #planClaim(attachment: Attachment, hostIfname = hostLinkName(attachment, sha256)): Change | undefined {
    return this.#allocator.hasRecovered ? this.#allocator.planClaim(attachment, hostIfname) : undefined;
  }

  async #release(attachment: Attachment, deletedAtMs: number | undefined, cause: ReleaseCause): Promise<ReleaseResult> {
    let plan = this.#allocator.planRelease(attachment, this.#now(), deletedAtMs);
    globalThis.faultPoint?.("daemon.release-begun");
    if (plan.kind === "released" && plan.record.portMappings.length > 0) {
      await this.#clearEffects(plan.record);
      globalThis.faultPoint?.("daemon.ports-cleared");
      // Meanwhile the memory may have been read anew, though this attachment is the same: its requests wait.
      await this.#healthy();
      plan = this.#allocator.planRelease(attachment, this.#now(), deletedAtMs);
    }
    if (plan.kind !== "released") return { addresses: [], readded: plan.kind === "readded" };
    await this.#commit([plan.change], cause);
    globalThis.faultPoint?.("daemon.release-durable");
    this.#effects?.forget?.(plan.record.addresses);
    return { addresses: plan.record.addresses, readded: false };
  }

  /**
   * @param rollBack take the allocation back if it fails. One that existed before stays with its new ports: it is the next
   * ADD's or DEL's to deal with, and the ports it had may be somebody else's by now.
   */
  async #setEffects(record: AllocationRecord, rollBack: boolean): Promise<void> {
    try {
      await this.#effects?.set(record);
    } catch (cause) {
      const key = attachmentKey(record.attachment);
      if (rollBack) await this.#takeBack(record, "failed-add");
      throw new IpamError("IPAM_EFFECT", `the ports of ${key} could not be set up: ${messageOf(cause)}`, cause);
    }
  }

  /** @param rollBack take the allocation back if it fails */
  async #admit(record: AllocationRecord, rollBack: boolean): Promise<void> {
    try {
      await this.#guard?.admit(record);
    } catch (cause) {
      const key = attachmentKey(record.attachment);
      if (rollBack) await this.#takeBack(record, "failed-add");
      throw new IpamError("IPAM_EFFECT", `the policies of ${key} could not be enforced: ${messageOf(cause)}`, cause);
    }
  }

  /** Never throws: what is left is the runtime's DEL's to end. */
  async #takeBack(record: AllocationRecord, cause: ReleaseCause): Promise<void> {
    try {
      await this.#healthy();
      await this.#release(record.attachment, undefined, cause);
    } catch (err) {
      this.#log.error({ err, ...record.attachment }, "an allocation that failed could not be taken back");
    }
  }

  /** Never throws: DEL always ends, and whoever implements the effects compares with `list` anyway. */
  async #clearEffects(record: AllocationRecord): Promise<void> {
    if (record.portMappings.length === 0) return;
    try {
      await this.#effects?.clear(record);
    } catch (err) {
      this.#log.error({ err, ...record.attachment }, "the ports of an attachment could not be taken away");
    }
  }

  /**
   * Makes the changes durable, all of them or none.
   * @param cause why what they end has ended
   */
  async #commit(changes: readonly Change[], cause: ReleaseCause = "del"): Promise<void> {
    for (const change of changes) this.#allocator.apply(change);
    const tenures = this.#historyMs === 0 ? [] : changes.flatMap((change) => this.#history.writesOf(change, cause));
    this.#pruned.endedSince += tenures.length;
    try {
      await this.#store.commit([...changes.flatMap(writesOf), ...tenures]);
    } catch (cause) {
      throw storeError(cause);
    }
    for (const change of changes) this.#remember(change);
  }

  /** Takes a change that is on disk into what is known to be there. */
  #remember(change: Change): void {
    switch (change.kind) {
      case "hold":
      case "confirm":
        this.#durable.set(attachmentKey(change.record.attachment), change.record);
        break;
      case "claim":
        this.#durable.delete(attachmentKey(change.recovered.attachment));
        this.#durable.set(attachmentKey(change.record.attachment), change.record);
        break;
      case "free":
        this.#durable.delete(attachmentKey(change.record.attachment));
        this.#guard?.dismiss(change.record);
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
      globalThis.faultPoint?.("daemon.database-reopened");
    } catch (cause) {
      throw storeError(cause);
    }
    this.#allocator = Allocator.restore(this.#subnets, this.#cooldownMs, snapshot, this.#now(), this.#rules);
    this.#history = new HistoryWriter(snapshot.lastTenure);
    this.#durable.clear();
    for (const [key, record] of snapshot.allocations) this.#durable.set(key, record);
    globalThis.faultPoint?.("daemon.recovered");
  }
}

function sha256(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

function storeError(cause: unknown): IpamError {
  return new IpamError("IPAM_STORE", messageOf(cause), cause);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
