// SPDX-License-Identifier: Apache-2.0
//
// Keeps living attachments as their ADDs made them: what is taken away of a pod's link, at either end, comes back. Events
// only say where to look; the look decides, and a look at everything comes at intervals anyway.
//
// Living is an attachment of this boot whose host end was up once: ADD sets the alias with it, last of all. Before that
// the link is an ADD's, after it has gone a DEL's, and neither is touched here; nor is a link that another plugin made.
import type { AllocationRecord } from "../ipam/records.ts";
import { attachmentKey, hostLinkName } from "../net/names.ts";
import { sha256 } from "../net/sha256.ts";
import type { Link } from "../netlink/link.ts";
import type { Difference } from "../podnet/differences.ts";
import { FRESH, judgeLook, type Pace } from "./repair-pace.ts";

/** A look blocks the event loop; after so many milliseconds of looks somebody else has a turn. */
const SLICE_MS = 4;
/** And the looks go on after this many times as long as they took, so that they are a tenth of the daemon at most. */
const REST_FACTOR = 9;
/** A look at everything is made of passes of so many slices, so that what is known to be lost needn't wait for its end. */
const SLICES_OF_ROUND = 4;

/** What the keeper needs of the address service; IpamService has it. */
export interface HeldAllocations {
  list(): Promise<{ readonly allocations: readonly AllocationRecord[] }>;
  whileHeld(seen: AllocationRecord, work: () => void): Promise<boolean>;
}

/** Both ends of attachments; PodEnds has it. */
export interface Ends {
  look(record: AllocationRecord): Difference[];
  repair(record: AllocationRecord, differences: readonly Difference[]): string[];
}

/** Where something may have been taken away. */
export interface News {
  /** Everywhere: it isn't known where. */
  all: boolean;
  /** Indexes of the node's own links. */
  readonly own: Set<number>;
  /** Indexes of links of other namespaces, by the node's number for the namespace; 0 is all of one. */
  readonly others: Map<number, Set<number>>;
}

export interface KeeperLog {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface PodKeeperOptions {
  readonly allocations: HeldAllocations;
  readonly links: () => Promise<Link[]>;
  readonly ends: Ends;
  readonly bootId: string;
  readonly log: KeeperLog;
  /** In milliseconds, never set back or forth. */
  readonly now: () => number;
  readonly sleep: (ms: number) => Promise<void>;
}

export class PodKeeper {
  readonly #options: PodKeeperOptions;
  /** By attachment key; of those that are looked at again, or have been repaired lately. */
  #paces = new Map<string, Pace>();
  /** Keys of attachments that are to be looked at: something was heard of them, or found. */
  #again = new Set<string>();
  /** Keys of attachments whose turn in the look at everything is still to come. */
  #round = new Set<string>();
  /** What was last said of an attachment, so that what stays as it is, is one line and not one a look. */
  #said = new Map<string, string>();

  constructor(options: PodKeeperOptions) {
    this.#options = options;
  }

  /** Whether a pass has something to do now, without news. */
  get restless(): boolean {
    return this.#round.size > 0 || [...this.#again].some((key) => this.#isDue(key));
  }

  #isDue(key: string): boolean {
    return (this.#paces.get(key) ?? FRESH).nextMs <= this.#options.now();
  }

  /** Looks where the news points, and where an earlier look has to be repeated. @throws when nothing can be looked at */
  async pass(news: News): Promise<void> {
    const { allocations, links, now, sleep } = this.#options;
    const byName = new Map((await links()).map((link) => [link.name, link]));
    const living = new Map<string, AllocationRecord>();
    for (const record of (await allocations.list()).allocations) {
      const link = byName.get(record.hostIfname);
      if (link === undefined || !this.#isLiving(record, link)) continue;
      const key = attachmentKey(record.attachment);
      living.set(key, record);
      if (news.all) this.#round.add(key);
      if (isMeant(news, link)) this.#again.add(key);
    }
    this.#forgetAllBut(living);
    let spentMs = 0;
    let slices = 0;
    for (const key of new Set([...this.#again, ...this.#round])) {
      if (slices >= SLICES_OF_ROUND && !this.#again.has(key)) break;
      this.#round.delete(key);
      const record = living.get(key) as AllocationRecord;
      if (!this.#isDue(key)) continue;
      await allocations.whileHeld(record, () => {
        const startMs = now();
        this.#look(key, record);
        spentMs += now() - startMs;
      });
      if (spentMs < SLICE_MS) continue;
      await sleep(REST_FACTOR * spentMs);
      spentMs = 0;
      slices++;
    }
  }

  #isLiving(record: AllocationRecord, link: Link): boolean {
    const ours = record.hostIfname === hostLinkName(record.attachment, sha256);
    return ours && record.bootId === this.#options.bootId && (link.up || link.alias !== undefined);
  }

  #forgetAllBut(living: ReadonlyMap<string, AllocationRecord>): void {
    for (const kept of [this.#paces, this.#again, this.#round, this.#said]) {
      for (const key of kept.keys()) if (!living.has(key)) kept.delete(key);
    }
  }

  /** Never throws: an attachment that can't be looked at stops no other. */
  #look(key: string, record: AllocationRecord): void {
    const { ends, now, log } = this.#options;
    const fields = { ...record.attachment, pod: record.pod, hostIfname: record.hostIfname };
    try {
      const repairable = ends.look(record).filter(({ repair }) => repair.length > 0);
      const texts = repairable.map(({ text }) => text);
      const { repair, pace, again } = judgeLook(this.#paces.get(key) ?? FRESH, texts, now());
      this.#paces.set(key, pace);
      if (again) this.#again.add(key);
      else {
        this.#again.delete(key);
        this.#said.delete(key);
      }
      if (repair.size === 0) return;
      const refusals = ends.repair(
        record,
        repairable.filter(({ text }) => repair.has(text)),
      );
      const problems = [...repair];
      if (!this.#isNew(key, [...problems, ...refusals].join("; "))) return;
      if (refusals.length > 0)
        log.error({ ...fields, problems, refusals }, "an attachment can't be kept as ADD made it");
      else log.info({ ...fields, problems }, "an attachment was not as ADD made it; repaired");
    } catch (err) {
      this.#again.delete(key);
      if (this.#isNew(key, String(err))) log.error({ ...fields, err }, "an attachment can't be kept as ADD made it");
    }
  }

  #isNew(key: string, text: string): boolean {
    const before = this.#said.get(key);
    this.#said.set(key, text);
    return before !== text;
  }
}

function isMeant({ own, others }: News, { index, peerIndex, peerNsid }: Link): boolean {
  if (own.has(index)) return true;
  const there = peerNsid === undefined ? undefined : others.get(peerNsid);
  return there !== undefined && (there.has(0) || (peerIndex !== undefined && there.has(peerIndex)));
}
