// SPDX-License-Identifier: Apache-2.0
//
// Host ends that an ADD began and nobody finished: the plugin was killed, and the runtime didn't come again. ADD brings the
// host end up last of all and sets the alias with it, so one that is down and has none never was up. It may be an ADD's
// that is under way, so it has to look like this in two passes that are the grace period apart, and in all between.
//
// A host end that is up and has no record is no left-over: ADD has the record on disk before it makes the link, and DEL
// deletes the link before the record. The record was lost, and a pod may be running: that is said, and nothing is done.
import type { AllocationRecord } from "../ipam/records.ts";
import { LINK_GROUP, LINK_PREFIX } from "../net/names.ts";
import type { Link } from "../netlink/link.ts";

export interface HalfMadeOptions {
  readonly allocations: { list(): Promise<{ readonly allocations: readonly AllocationRecord[] }> };
  readonly links: () => Promise<Link[]>;
  /** Deletes exactly this link, which may be gone. */
  readonly remove: (link: Link) => Promise<void>;
  readonly graceMs: number;
  readonly log: { info(fields: object, message: string): void; error(fields: object, message: string): void };
  /** In milliseconds, never set back or forth. */
  readonly now: () => number;
}

export class HalfMade {
  readonly #options: HalfMadeOptions;
  /** Since when they have looked half-made, by the link's index, which the kernel gives once. */
  #since = new Map<number, number>();
  /** How many passes in a row have seen a link without a record, by index. One is told of at the second: DEL may be between. */
  #unknown = new Map<number, number>();

  constructor(options: HalfMadeOptions) {
    this.#options = options;
  }

  /** Looks at every link once. @throws when they can't be listed or one can't be removed */
  async pass(): Promise<void> {
    const { links, allocations, graceMs, log, now, remove } = this.#options;
    // The links first: what has a record by the time that those are read had it when the link was made.
    const ends = (await links()).filter(({ group, name }) => group === LINK_GROUP && name.startsWith(LINK_PREFIX));
    const known = new Set((await allocations.list()).allocations.map(({ hostIfname }) => hostIfname));
    const since = new Map<number, number>();
    const unknown = new Map<number, number>();
    const overdue: Link[] = [];
    for (const link of ends) {
      if (link.up || link.alias !== undefined) {
        if (known.has(link.name)) continue;
        const times = (this.#unknown.get(link.index) ?? 0) + 1;
        unknown.set(link.index, times);
        const fields = { link: link.name, alias: link.alias };
        if (times === 2) log.error(fields, "a pod's link has no record, and is left as it is");
        continue;
      }
      const firstMs = this.#since.get(link.index) ?? now();
      since.set(link.index, firstMs);
      if (this.#since.has(link.index) && now() - firstMs >= graceMs) overdue.push(link);
    }
    this.#since = since;
    this.#unknown = unknown;
    for (const link of overdue) {
      await remove(link);
      this.#since.delete(link.index);
      log.info({ link: link.name }, "a link that an ADD began and nobody finished is removed");
    }
  }
}
