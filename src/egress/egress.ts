// SPDX-License-Identifier: Apache-2.0
//
// Keeps the egress table: as a whole when the daemon starts, the intervals that changed after that. What is thought to be
// in the kernel is kept in memory, and no transaction is in flight beside another.
import type { Interval } from "../net/intervals.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import { NetlinkError, type Request } from "../netlink/message.ts";
import { getChain, usesOf } from "../nft/lookup.ts";
import { BATCH_BEGIN, BATCH_END } from "../nft/message.ts";
import { addChains, addElements, removeElements, removeTable, replaceTable } from "../nft/table.ts";
import {
  EGRESS_CHAIN,
  EGRESS_TABLE,
  type EgressRules,
  egressTable,
  elementsOf,
  familyOfSet,
  intervalsOf,
  SET_NAMES,
  type SetName,
} from "./ruleset.ts";

export type FilterSocket = Pick<Netlink, "transaction" | "submit">;

/** What is to be added to and removed from a set. */
interface Change {
  readonly set: SetName;
  readonly add: readonly Interval[];
  readonly remove: readonly Interval[];
}

export class Egress {
  readonly #netlink: FilterSocket;
  #present: Record<SetName, readonly Interval[]>;

  private constructor(netlink: FilterSocket, present: Record<SetName, readonly Interval[]>) {
    this.#netlink = netlink;
    this.#present = present;
  }

  /**
   * Makes the table, whatever was in it, at once. In a cluster of thousands of nodes it takes several transactions, and connections
   * that begin in between may leave without the node's address; none inside the cluster gets one.
   * @param netlink stays the caller's to close
   * @throws NetlinkError when the kernel refuses
   */
  static async start(netlink: FilterSocket, rules: EgressRules): Promise<Egress> {
    const egress = new Egress(netlink, intervalsOf(rules));
    await egress.#replace();
    return egress;
  }

  /** Leaves no such table, for a daemon whose configuration had one before. */
  static async remove(netlink: FilterSocket): Promise<void> {
    await netlink.transaction(BATCH_BEGIN, removeTable(EGRESS_TABLE), BATCH_END);
  }

  /**
   * Brings the sets up to date: a transaction with what changed, or the whole table where somebody else was at it.
   * @returns whether it had to be made anew
   * @throws NetlinkError when the kernel refuses that too; what is thought to be there stays as it was
   */
  async update(rules: EgressRules): Promise<boolean> {
    const before = this.#present;
    this.#present = intervalsOf(rules);
    try {
      if ((await this.#isThere()) && (await this.#change(before))) return false;
      await this.#replace();
      return true;
    } catch (error) {
      this.#present = before;
      throw error;
    }
  }

  /** @returns false when the sets weren't as they were thought to be */
  async #change(before: Record<SetName, readonly Interval[]>): Promise<boolean> {
    const requests = SET_NAMES.flatMap((set) => requestsOf(changeOf(set, before[set], this.#present[set])));
    if (requests.length === 0) return true;
    try {
      await this.#netlink.transaction(BATCH_BEGIN, requests, BATCH_END);
      return true;
    } catch (error) {
      if (error instanceof NetlinkError && error.code === "NETLINK_REFUSED") return false;
      throw error;
    }
  }

  /** Whether the chain has its rules; elements that somebody took away come back with the next start. */
  async #isThere(): Promise<boolean> {
    const [reply] = await this.#netlink.submit([getChain(EGRESS_TABLE, EGRESS_CHAIN.name)]);
    const [chain] = reply?.answers ?? [];
    return chain !== undefined && usesOf(chain) === EGRESS_CHAIN.rules.length;
  }

  /**
   * In one transaction, unless the elements are too many for that. The rules come last: with sets that aren't whole yet, what
   * stays inside would be taken for what leaves.
   */
  async #replace(): Promise<void> {
    const { chains, ...sets } = egressTable(this.#present);
    const transactions = replaceTable({ ...sets, chains: [] });
    transactions.at(-1)?.push(...addChains(EGRESS_TABLE, chains));
    for (const requests of transactions) await this.#netlink.transaction(BATCH_BEGIN, requests, BATCH_END);
  }
}

function changeOf(set: SetName, before: readonly Interval[], wanted: readonly Interval[]): Change {
  const text = ({ first, last }: Interval) => `${first}-${last}`;
  const [had, has] = [new Set(before.map(text)), new Set(wanted.map(text))];
  return {
    set,
    remove: before.filter((interval) => !has.has(text(interval))),
    add: wanted.filter((interval) => !had.has(text(interval))),
  };
}

function requestsOf({ set, add, remove }: Change): Request[] {
  const elements = (intervals: readonly Interval[]) =>
    intervals.flatMap((interval) => elementsOf(interval, familyOfSet(set)));
  return [...removeElements(EGRESS_TABLE, set, elements(remove)), ...addElements(EGRESS_TABLE, set, elements(add))];
}
