// SPDX-License-Identifier: Apache-2.0
//
// Who held an address, from when to when: one entry for each tenure that has ended, written in the batch that ends it.
//
//   h/<order>/<n>/<address>    {"v":1, who it was, "allocatedAtMs":…, "releasedAtMs":…, "cause":…}
//
// <order> is the time of the release in milliseconds, but never less than that of the entry before: with <n>, which counts
// the entries of one <order>, keys are in the order of events whatever the clock does, and none is ever written twice.
// No entry that ended at t or later has an <order> below t, which makes the key the time index too: a search for t begins
// there. Nothing of this is read at start but the last key.
import { type Attachment, attachmentKey } from "../net/names.ts";
import {
  type AllocationRecord,
  type Change,
  FORMAT_VERSION,
  type HistoryPosition,
  type PodName,
  parsePod,
  parseValue,
  RecordError,
  string as requireString,
  time as requireTime,
  type Write,
} from "./records.ts";

const HISTORY_PREFIX = "h/";

/** Digits of <order>, those of Number.MAX_SAFE_INTEGER, so that text sorts as numbers do. */
const ORDER_DIGITS = 16;
/** Digits of <n>. */
const COUNT_DIGITS = 10;

/** Bounds of LevelDB keys. */
export interface KeyRange {
  readonly gte?: string;
  readonly lt?: string;
}

/** The keys of all entries. */
export const HISTORY_RANGE: Required<KeyRange> = { gte: HISTORY_PREFIX, lt: "h0" };

/** Why a tenure ended: "del", "journal", "gc", "failed-add", "retired", "adoption-undone", and what later versions add. */
export type ReleaseCause = string;

/** An attachment's time with an address. */
export interface Tenure {
  readonly address: string;
  readonly attachment: Attachment;
  readonly pod: PodName | undefined;
  /** Milliseconds since 1970, as is the other; a clock that was set back meanwhile can make it the later one. */
  readonly allocatedAtMs: number;
  /** Undefined while the address is held. */
  readonly releasedAtMs: number | undefined;
  /** "" while the address is held. */
  readonly cause: ReleaseCause;
}

/** Makes the entries of tenures that end; knows the last entry's position. */
export class HistoryWriter {
  #last: HistoryPosition | undefined;

  /** @param last the position of the last entry in the database */
  constructor(last: HistoryPosition | undefined) {
    this.#last = last;
  }

  /** The entries that a change leaves, to be written together with it: one for each address that is given back. */
  writesOf(change: Change, cause: ReleaseCause): Write[] {
    if (change.kind !== "free") return [];
    const { record, releasedAtMs } = change;
    return record.addresses.map((address) => {
      this.#last = positionAfter(this.#last, Math.max(releasedAtMs, record.allocatedAtMs));
      return putTenure(this.#last, record, address, releasedAtMs, cause);
    });
  }
}

function positionAfter(last: HistoryPosition | undefined, nowMs: number): HistoryPosition {
  if (last === undefined || nowMs > last.orderMs) return { orderMs: nowMs, count: 0 };
  return { orderMs: last.orderMs, count: last.count + 1 };
}

function putTenure(
  position: HistoryPosition,
  { attachment: { network, containerId, ifname }, pod, allocatedAtMs }: AllocationRecord,
  address: string,
  releasedAtMs: number,
  cause: ReleaseCause,
): Write {
  const key = `${historyKeyFrom(position.orderMs)}${`${position.count}`.padStart(COUNT_DIGITS, "0")}/${address}`;
  const value = { v: FORMAT_VERSION, network, containerId, ifname, pod, allocatedAtMs, releasedAtMs, cause };
  return { type: "put", key, value: JSON.stringify(value) };
}

/** What the keys of entries of that order begin with; no entry that ended then or later has a key before it. */
export function historyKeyFrom(orderMs: number): string {
  return `${HISTORY_PREFIX}${`${orderMs}`.padStart(ORDER_DIGITS, "0")}/`;
}

/** The parts of an entry's key. @throws RecordError */
export function parseHistoryKey(key: string): HistoryPosition & { readonly address: string } {
  const match = /^h\/(\d{16})\/(\d{10})\/(.+)$/.exec(key);
  if (match === null) throw new RecordError("RECORD_INVALID", key, "its key is not that of a history entry");
  const [, order, count, address] = match as unknown as [string, string, string, string];
  return { orderMs: Number(order), count: Number(count), address };
}

/** One entry. @throws RecordError */
export function parseTenure(key: string, value: string): Tenure {
  const { address } = parseHistoryKey(key);
  const { network, containerId, ifname, pod, allocatedAtMs, releasedAtMs, cause } = parseValue(key, value);
  return {
    address,
    attachment: {
      network: requireString(key, "network", network),
      containerId: requireString(key, "containerId", containerId),
      ifname: requireString(key, "ifname", ifname),
    },
    pod: pod === undefined ? undefined : parsePod(key, pod),
    allocatedAtMs: requireTime(key, "allocatedAtMs", allocatedAtMs),
    releasedAtMs: requireTime(key, "releasedAtMs", releasedAtMs),
    cause: requireString(key, "cause", cause),
  };
}

/** Whom to look for. */
export interface HistoryQuery {
  /** Canonical text; every address when undefined. */
  readonly address: string | undefined;
  /** Tenures of this interval, both ends included, in milliseconds since 1970. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Most tenures of an answer, at least one. */
  readonly limit: number;
  /** `next` of the answer before; undefined for the first. */
  readonly after: string | undefined;
}

export interface HistoryPage {
  /** Those that go on, by address, and then those that have ended, latest first. */
  readonly tenures: readonly Tenure[];
  /** To be handed in for the rest; undefined when this was all. */
  readonly next: string | undefined;
}

/** What is read of a database's history. */
export interface HistoryReader {
  /** Keys in the range, last first, in pieces; a moment's, whatever is written meanwhile. */
  historyKeys(range: KeyRange): AsyncIterable<readonly string[]>;
  /** The values of keys; undefined for what is not there (any more). */
  historyValues(keys: readonly string[]): Promise<(string | undefined)[]>;
}

/** Where an answer goes on among those that hold an address now. */
const HELD_TOKEN = "held/";
/** After all of them: no address has this character. */
const HELD_END = `${HELD_TOKEN}~`;

/** Whether the text can be an answer's `next`. */
export function isHistoryToken(text: string): boolean {
  return text.startsWith(HELD_TOKEN) || /^h\/\d{16}\/\d{10}\//.test(text);
}

/**
 * One page of an answer.
 * @param held what is held now, looked at before anything is awaited: what ends meanwhile is told twice and not never
 * @throws RecordError on an entry that makes no sense; what the reader throws
 */
export async function readHistory(
  reader: HistoryReader,
  held: Iterable<AllocationRecord>,
  query: HistoryQuery,
): Promise<HistoryPage> {
  const { after, limit } = query;
  const tenures: Tenure[] = [];
  if (after === undefined || after.startsWith(HELD_TOKEN)) {
    const from = after === undefined ? "" : after.slice(HELD_TOKEN.length);
    for (const tenure of heldTenures(held, query)) {
      if (tenure.address <= from) continue;
      if (tenures.length === limit) return { tenures, next: HELD_TOKEN + (tenures.at(-1)?.address ?? from) };
      tenures.push(tenure);
    }
  }
  const seen = new Set(tenures.map(tenureId));
  const lt = after !== undefined && !after.startsWith(HELD_TOKEN) ? after : HISTORY_RANGE.lt;
  let last = lt;
  for await (const keys of reader.historyKeys({ gte: historyKeyFrom(query.fromMs), lt })) {
    const wanted = keys.filter((key) => query.address === undefined || parseHistoryKey(key).address === query.address);
    const values = await reader.historyValues(wanted);
    for (const [i, key] of wanted.entries()) {
      const value = values[i];
      const tenure = value === undefined ? undefined : parseTenure(key, value);
      if (tenure === undefined || !meets(tenure, query) || seen.has(tenureId(tenure))) continue;
      if (tenures.length === limit) return { tenures, next: last === lt ? HELD_END : last };
      tenures.push(tenure);
      last = key;
    }
  }
  return { tenures, next: undefined };
}

function heldTenures(held: Iterable<AllocationRecord>, query: HistoryQuery): Tenure[] {
  const tenures: Tenure[] = [];
  for (const { attachment, pod, allocatedAtMs, addresses } of held) {
    for (const address of addresses) {
      const tenure = { address, attachment, pod, allocatedAtMs, releasedAtMs: undefined, cause: "" };
      if ((query.address === undefined || query.address === address) && meets(tenure, query)) tenures.push(tenure);
    }
  }
  return tenures.sort((a, b) => (a.address < b.address ? -1 : 1));
}

/** Whether a tenure has a part in the interval. When the clock was set back in it, it counts from the one end to the other. */
function meets(
  { allocatedAtMs, releasedAtMs = Number.POSITIVE_INFINITY }: Tenure,
  { fromMs, toMs }: HistoryQuery,
): boolean {
  return Math.min(allocatedAtMs, releasedAtMs) <= toMs && Math.max(allocatedAtMs, releasedAtMs) >= fromMs;
}

function tenureId({ address, attachment, allocatedAtMs }: Tenure): string {
  return `${allocatedAtMs}/${address}/${attachmentKey(attachment)}`;
}

/** How long and how much is kept. */
export interface Retention {
  /** Entries of before this go, in milliseconds since 1970. */
  readonly beforeMs: number;
  /** And the oldest of more than these. */
  readonly entriesMax: number;
}

/** The keys of the entries that have had their time, oldest last. Reads keys only. @throws what the reader throws */
export async function expiredKeys(reader: HistoryReader, { beforeMs, entriesMax }: Retention): Promise<string[]> {
  const expired: string[] = [];
  const cut = historyKeyFrom(Math.max(0, Math.min(beforeMs, Number.MAX_SAFE_INTEGER)));
  let count = 0;
  for await (const keys of reader.historyKeys(HISTORY_RANGE)) {
    for (const key of keys) if (++count > entriesMax || key < cut) expired.push(key);
  }
  return expired;
}
