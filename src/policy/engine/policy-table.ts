// SPDX-License-Identifier: Apache-2.0
//
// Keeps the policies' nftables table. What is thought to be in the kernel is kept in memory; a change is the difference as one
// transaction, and where that can't be, because somebody else was at the table or nobody knows what is there, the whole table as one
// transaction: no packet ever meets a half of it.
import { familyOf, parseAddress } from "../../net/address.ts";
import type { Netlink } from "../../netlink/event-loop.ts";
import { NetlinkError, type Request } from "../../netlink/message.ts";
import {
  chainOf,
  elementsIn,
  type FoundElement,
  foundRule,
  GET_GENERATION,
  generationOf,
  LIST_CHAINS,
  listElements,
  listSets,
  setOf,
} from "../../nft/contents.ts";
import { logToGroup } from "../../nft/expressions.ts";
import { getElement, getTable, listRules } from "../../nft/lookup.ts";
import {
  addElements,
  concat,
  type Element,
  removeElements,
  removeTable,
  replaceTableAtOnce,
  textOfMark,
} from "../../nft/table.ts";
import type { Transactor } from "../../nft/transactor.ts";
import { closedSet, podMap, selfSet } from "../base-chains.ts";
import { UNKNOWN_CHAIN } from "../profile.ts";
import { isEmpty, POLICY_TABLE, type PolicyRule, type Ruleset, type RulesetChange } from "../ruleset.ts";
import { differences, type FoundTable } from "./compare.ts";
import { type EncodeOptions, placeIn, SAMPLE_BYTES } from "./encode.ts";
import { PolicyError } from "./errors.ts";
import { changeRequests, replaceRequests } from "./requests.ts";

/** What is asked of the kernel. */
export interface PolicyKernel {
  /** For what is read. */
  readonly netlink: Pick<Netlink, "dump" | "submit">;
  readonly transactor: Pick<Transactor, "transaction">;
}

/** The ruleset that is wanted, which changes while this works. */
export interface RulesetSource {
  /** As it is now. */
  readonly ruleset: Ruleset;
  /** What of it is other than when this was last called. */
  take(): RulesetChange;
}

/** What became of a change. */
export interface Applied {
  readonly change: RulesetChange;
  /** The whole table was made. */
  readonly whole: boolean;
  /** Why, although it was thought to be known: the kernel's refusal of the change. */
  readonly refusal: NetlinkError | undefined;
}

/** A rule with how many packets it has seen since its chain was made. */
export interface CountedRule {
  readonly chain: string;
  readonly rule: PolicyRule;
  readonly place: number;
  readonly packets: bigint;
  readonly bytes: bigint;
}

export class PolicyTable {
  readonly #kernel: PolicyKernel;
  readonly #source: RulesetSource;
  readonly #options: EncodeOptions;
  /** The table is what the source was when it was last taken from. */
  #known = false;
  /** It has been known before. */
  #synced = false;
  /** The generation of the namespace's rulesets when the table was last seen to be right. */
  #generation: number | undefined;
  /** How many transactions of ours there have been since: each makes the generation one more. */
  #own = 0;
  /** The end of what is under way. */
  #tail: Promise<unknown> = Promise.resolve();

  private constructor(kernel: PolicyKernel, source: RulesetSource, options: EncodeOptions) {
    this.#kernel = kernel;
    this.#source = source;
    this.#options = options;
  }

  /**
   * Changes nothing: what a daemon before has left stays in force until `sync`.
   * @param source which nobody else takes from
   * @param logGroup of NFLOG, for samples of denied packets; where the kernel has no NFLOG there are none
   * @throws PolicyError POLICY_KERNEL
   */
  static async open(kernel: PolicyKernel, source: RulesetSource, logGroup: number): Promise<PolicyTable> {
    const logs = await canLog(kernel, logGroup);
    return new PolicyTable(kernel, source, { logGroup: logs ? logGroup : undefined });
  }

  /** Whether denied packets are sampled. */
  get samples(): boolean {
    return this.#options.logGroup !== undefined;
  }

  /**
   * Makes the table what the source is when this call's turn comes.
   * @throws PolicyError POLICY_KERNEL: then it is as it was
   */
  sync(): Promise<Applied> {
    return this.#queue(() => this.#sync());
  }

  async #sync(): Promise<Applied> {
    // Taken, encoded and sent in one turn of the event loop: what comes meanwhile is the next call's.
    const change = this.#source.take();
    if (!this.#known) {
      await this.#replace();
      return { change, whole: true, refusal: undefined };
    }
    if (isEmpty(change)) return { change, whole: false, refusal: undefined };
    try {
      await this.#transaction(changeRequests(change, this.#source.ruleset, this.#options));
      return { change, whole: false, refusal: undefined };
    } catch (error) {
      if (!(error instanceof NetlinkError) || error.code !== "NETLINK_REFUSED") throw failed(error);
      this.#source.take();
      await this.#replace();
      return { change, whole: true, refusal: error };
    }
  }

  /**
   * Compares what is in the kernel with what should be, and makes the table anew where it is anything else.
   * @returns what was different, a sentence each
   * @throws PolicyError POLICY_KERNEL
   */
  verify(): Promise<string[]> {
    return this.#queue(async () => {
      if (!this.#known) return [];
      try {
        const generation = await this.#readGeneration();
        // Nobody but this has changed anything in this namespace since it was right.
        if (generation !== undefined && generation === (this.#generation ?? Number.NaN) + this.#own) return [];
        const found = await this.#read();
        const meanwhile = this.#source.take();
        const problems = isEmpty(meanwhile) ? differences(this.#source.ruleset, found, this.#options) : [];
        if (problems.length > 0 || !isEmpty(meanwhile)) {
          await this.#replace();
          this.#generation = undefined;
        } else [this.#generation, this.#own] = [generation, 0];
        return problems;
      } catch (error) {
        throw failed(error);
      }
    });
  }

  /**
   * For addresses of new pods before the first `sync`: nothing is known of their policies, and the table is as a daemon before left it.
   * They are closed, or open, whatever somebody who had them was; nothing else changes. After the first `sync` it does nothing.
   * @param addresses canonical text
   * @throws PolicyError POLICY_KERNEL
   */
  hold(addresses: readonly string[], as: "closed" | "open"): Promise<void> {
    return this.#queue(async () => {
      if (this.#synced) return;
      try {
        const { netlink, transactor } = this.#kernel;
        const parts = addresses.flatMap(partsOf);
        const questions = parts.map(({ set, element }) => getElement(POLICY_TABLE, set, element.key));
        const [table, ...replies] = await netlink.submit([getTable(POLICY_TABLE), ...questions]);
        const isThere = table?.error === undefined;
        if (!isThere && as === "open") return;
        const there = parts.filter((_, i) => isThere && replies[i]?.error === undefined);
        await transactor.transaction([
          ...(isThere ? [] : replaceRequests(this.#source.ruleset, this.#options)),
          ...there.flatMap(({ set, element }) => removeElements(POLICY_TABLE, set, [element])),
          ...(as === "open" ? [] : parts.flatMap(({ set, element }) => addElements(POLICY_TABLE, set, [element]))),
        ]);
      } catch (error) {
        throw failed(error);
      }
    });
  }

  /** The rules that count, with what they have counted. Empty before the first `sync`. @throws PolicyError POLICY_KERNEL */
  counters(): Promise<CountedRule[]> {
    return this.#queue(async () => {
      if (!this.#known) return [];
      const { chains } = this.#source.ruleset;
      try {
        return (await this.#kernel.netlink.dump(listRules(POLICY_TABLE))).flatMap((message) => {
          const { chain, mark, counter } = foundRule(message);
          const place = mark === undefined ? undefined : placeIn(textOfMark(mark) ?? "");
          const rule = place === undefined ? undefined : chains.get(chain)?.rules[place];
          if (counter === undefined || rule === undefined || place === undefined) return [];
          return [{ chain, rule, place, ...counter }];
        });
      } catch (error) {
        throw failed(error);
      }
    });
  }

  /** Resolves when nothing is under way any more. */
  async idle(): Promise<void> {
    await this.#tail;
  }

  #queue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#tail.then(work);
    this.#tail = done.catch(() => {});
    return done;
  }

  async #replace(): Promise<void> {
    try {
      await this.#transaction(replaceRequests(this.#source.ruleset, this.#options));
    } catch (error) {
      throw failed(error);
    }
  }

  /** One that fails leaves behind what nobody knows: what it was to bring is taken from the source already. */
  async #transaction(requests: readonly Request[]): Promise<void> {
    this.#known = false;
    await this.#kernel.transactor.transaction(requests);
    this.#known = true;
    this.#synced = true;
    this.#own++;
  }

  async #readGeneration(): Promise<number | undefined> {
    const [reply] = await this.#kernel.netlink.submit([GET_GENERATION]);
    const [answer] = reply?.answers ?? [];
    return answer === undefined ? undefined : generationOf(answer);
  }

  async #read(): Promise<FoundTable> {
    const { netlink } = this.#kernel;
    const chains = (await netlink.dump(LIST_CHAINS)).map(chainOf);
    if (!chains.some(({ table }) => table === POLICY_TABLE)) {
      return { chains: [], rules: [], sets: [], elements: new Map() };
    }
    const rules = (await netlink.dump(listRules(POLICY_TABLE))).map(foundRule);
    const sets = (await netlink.dump(listSets(POLICY_TABLE))).map(setOf);
    const elements = new Map<string, FoundElement[]>();
    for (const { name } of sets) {
      elements.set(name, (await netlink.dump(listElements(POLICY_TABLE, name))).flatMap(elementsIn));
    }
    return { chains, rules, sets, elements };
  }
}

/** What closes an address in each direction, by set. */
function partsOf(text: string): { set: string; element: Element }[] {
  const key = parseAddress(text);
  const family = familyOf(key);
  return [
    ...(["ingress", "egress"] as const).flatMap((direction) => [
      { set: podMap(direction, family), element: { key, jump: UNKNOWN_CHAIN.name } },
      { set: closedSet(direction, family), element: { key } },
    ]),
    { set: selfSet(family), element: { key: concat(key, key) } },
  ];
}

/** Whether rules may sample to NFLOG: tried in a transaction that leaves nothing. */
async function canLog({ transactor }: PolicyKernel, group: number): Promise<boolean> {
  const name = `${POLICY_TABLE}_trial`;
  const chains = [{ name: "trial", rules: [[logToGroup(group, "trial", SAMPLE_BYTES)]] }];
  try {
    await transactor.transaction([...replaceTableAtOnce({ name, sets: [], chains }), ...removeTable(name)]);
    return true;
  } catch (error) {
    if (error instanceof NetlinkError && error.code === "NETLINK_REFUSED" && error.errnoName === "ENOENT") return false;
    throw failed(error);
  }
}

function failed(cause: unknown): unknown {
  if (!(cause instanceof NetlinkError)) return cause;
  return new PolicyError(
    "POLICY_KERNEL",
    `the rules of network policies could not be changed: ${cause.message}`,
    cause,
  );
}
