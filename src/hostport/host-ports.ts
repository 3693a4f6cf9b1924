// SPDX-License-Identifier: Apache-2.0
//
// Keeps flatnet's nftables table: as a whole when the daemon starts, a few elements for a pod after that. What is thought
// to be in the kernel is kept in memory, and no transaction is in flight beside another.
import { attachmentKey, NFT_TABLE } from "../net/names.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import { NetlinkError, type Request } from "../netlink/message.ts";
import { listRules, ruleOf } from "../nft/lookup.ts";
import { BATCH_BEGIN, BATCH_END } from "../nft/message.ts";
import { addElements, removeElements, removeTable, replaceTable } from "../nft/table.ts";
import { type Change, Contents } from "./contents.ts";
import { type Entry, entriesOf, type PortRecord, type TranslatedPort } from "./entries.ts";
import { HostPortError } from "./errors.ts";
import { partsOf, problemsOf } from "./inspection.ts";
import { desiredTable } from "./ruleset.ts";
import { type FlowTable, StaleFlows } from "./stale-flows.ts";

export interface HostPortOptions {
  /** Drop what pods send from foreign addresses. */
  readonly antiSpoof: boolean;
  /** Told of what went wrong without being the caller's failure; `what` is a sentence. */
  readonly onError: (error: unknown, what: string) => void;
}

/** What is needed of a socket to NETLINK_NETFILTER. */
export type FilterSocket = Pick<Netlink, "transaction"> & FlowTable;

export class HostPorts {
  readonly #netlink: FilterSocket;
  readonly #options: HostPortOptions;
  readonly #contents: Contents;
  readonly #flows: StaleFlows;
  /** The chains for hostPorts are in the table. They stay when the last hostPort goes, until the next start. */
  #present: boolean;
  /** The end of what is under way. */
  #tail: Promise<unknown> = Promise.resolve();

  private constructor(netlink: FilterSocket, options: HostPortOptions, contents: Contents) {
    this.#netlink = netlink;
    this.#options = options;
    this.#contents = contents;
    this.#present = contents.size > 0;
    this.#flows = new StaleFlows(netlink, (error) => options.onError(error, "old connections could not be deleted"));
  }

  /**
   * Makes the table what these records say, whatever was in it. A record that can't be is left out and told.
   * @param netlink stays the caller's to close, after `idle`
   * @throws NetlinkError when the kernel refuses: then the table is as it was
   */
  static async start(
    netlink: FilterSocket,
    records: Iterable<PortRecord>,
    options: HostPortOptions,
  ): Promise<HostPorts> {
    const contents = new Contents();
    for (const record of records) {
      try {
        contents.apply(contents.planSet(attachmentKey(record.attachment), entriesOf(record)));
      } catch (error) {
        options.onError(error, `the hostPorts of ${attachmentKey(record.attachment)} are left out`);
      }
    }
    const hostPorts = new HostPorts(netlink, options, contents);
    await hostPorts.#replace(hostPorts.#present ? contents.entries() : undefined);
    hostPorts.#flows.ofPorts(portsOf(contents.entries()));
    return hostPorts;
  }

  /**
   * Makes the record's ports lead to its addresses, whatever its attachment had before: in one transaction, all or nothing.
   * UDP clients that had been sending to them before are led there a moment later.
   * @throws HostPortError
   */
  set(record: PortRecord): Promise<void> {
    return this.#queue(async () => {
      const change = this.#contents.planSet(attachmentKey(record.attachment), entriesOf(record));
      await this.#apply(change, record);
      this.#flows.ofPorts(portsOf(change.add));
    });
  }

  /**
   * Takes away what the record's attachment has, and a moment later the connections of its addresses. Nothing being there
   * is success.
   * @throws HostPortError
   */
  clear(record: PortRecord): Promise<void> {
    return this.#queue(async () => {
      await this.#apply(this.#contents.planSet(attachmentKey(record.attachment), []), record);
      this.#flows.ofPods(record.addresses);
    });
  }

  /**
   * What of the record's ports is not in the kernel as it should be, a sentence each. Asks for these elements alone, whatever
   * others there are, and for the table's few rules, and changes nothing.
   * @throws HostPortError HOSTPORT_KERNEL when the kernel can't be asked
   */
  check(record: PortRecord): Promise<string[]> {
    return this.#queue(async () => {
      let entries: readonly Entry[];
      try {
        entries = entriesOf(record);
      } catch (error) {
        // From a store of another version, perhaps: it was left out when the daemon started.
        if (error instanceof HostPortError) return [error.message];
        throw error;
      }
      if (entries.length === 0) return [];
      const parts = partsOf(entries);
      try {
        const rules = (await this.#netlink.dump(listRules(NFT_TABLE))).map(ruleOf);
        return problemsOf(parts, await this.#netlink.submit(parts.map(({ request }) => request)), rules);
      } catch (cause) {
        if (!(cause instanceof NetlinkError)) throw cause;
        const message = `the hostPorts of ${attachmentKey(record.attachment)} could not be looked up: ${cause.message}`;
        throw new HostPortError("HOSTPORT_KERNEL", message, cause);
      }
    });
  }

  /** Ends the connections of addresses whose pod is gone, with hostPorts or without. In the background. */
  forget(addresses: readonly string[]): void {
    this.#flows.ofPods(addresses);
  }

  /**
   * The same for addresses that are given again: resolves when none of their connections is left. Never rejects.
   * @param reachable packets to addresses that nobody has go somewhere: another plugin's bridge has their subnet
   */
  forgetNow(addresses: readonly string[], reachable: boolean): Promise<void> {
    return this.#flows.ofPodsNow(addresses, reachable);
  }

  /** Resolves when nothing is under way any more, in the background neither. */
  async idle(): Promise<void> {
    await this.#tail;
    await this.#flows.idle();
  }

  #queue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#tail.then(work);
    this.#tail = done.catch(() => {});
    return done;
  }

  async #apply(change: Change, { attachment }: PortRecord): Promise<void> {
    if (change.add.length === 0 && change.remove.length === 0) return;
    try {
      if (this.#present) await this.#update(change);
      else await this.#replace(this.#contents.entries(change));
    } catch (cause) {
      if (!(cause instanceof NetlinkError)) throw cause;
      const message = `the hostPorts of ${attachmentKey(attachment)} could not be changed: ${cause.message}`;
      throw new HostPortError("HOSTPORT_KERNEL", message, cause);
    }
    this.#contents.apply(change);
    this.#present = true;
  }

  /** A few elements; the whole table if it isn't what it is thought to be, because somebody else was at it. */
  async #update(change: Change): Promise<void> {
    try {
      await this.#transaction([
        ...grouped(change.remove).flatMap(([set, elements]) => removeElements(NFT_TABLE, set, elements)),
        ...grouped(change.add).flatMap(([set, elements]) => addElements(NFT_TABLE, set, elements)),
      ]);
    } catch (error) {
      if (!(error instanceof NetlinkError) || error.code !== "NETLINK_REFUSED") throw error;
      await this.#replace(this.#contents.entries(change));
      this.#options.onError(error, `nftables table ${NFT_TABLE} had been changed by somebody else and was made anew`);
    }
  }

  /** @param entries undefined: without the chains for hostPorts */
  async #replace(entries: Iterable<Entry> | undefined): Promise<void> {
    const table = desiredTable(this.#options.antiSpoof, entries);
    const transactions = table === undefined ? [removeTable(NFT_TABLE)] : replaceTable(table);
    for (const transaction of transactions) await this.#transaction(transaction);
  }

  async #transaction(requests: readonly Request[]): Promise<void> {
    await this.#netlink.transaction(BATCH_BEGIN, requests, BATCH_END);
    globalThis.faultPoint?.("daemon.nft-transaction-done");
  }
}

function portsOf(entries: Iterable<Entry>): TranslatedPort[] {
  return [...entries].flatMap(({ port }) => (port === undefined ? [] : [port]));
}

function grouped(entries: readonly Entry[]): [string, Entry[]][] {
  return Object.entries(Object.groupBy(entries, ({ set }) => set));
}
