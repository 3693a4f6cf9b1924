// SPDX-License-Identifier: Apache-2.0
//
// A subnet as a picture: one character an address, a letter for each namespace. Pure.
import type { AddressRange, Allocation, RestingAddress } from "../gen/flatnet/ipam/v1/ipam.ts";
import { formatAddress, parseAddress } from "../net/address.ts";
import { indexOf, type Prefix, prefixBytes, prefixSize } from "../net/prefix.ts";
import { formatCount } from "./words.ts";

/** Addresses of one row of the picture, in groups of eight. */
const ROW = 32;
const GROUP = 8;

/** A picture of more rows than this shows only those in which something is, and of these as many. */
const MOST_ROWS = 64;

/** More addresses than this in a row are nobody's count. */
const MOST_COUNTED = 65_536n;

const FREE = ".";
const RESTING = "~";
const KEPT_BACK = "-";
const GATEWAY = "^";
/** Outside Kubernetes, and of namespaces that got no letter. */
const OTHER = "#";

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** What a picture is made of. */
export interface SubnetSight {
  readonly prefix: Prefix;
  readonly allocations: readonly Allocation[];
  readonly resting: readonly RestingAddress[];
  /** What is given to nobody, of whatever subnet. */
  readonly keptBack: readonly AddressRange[];
}

/** A letter for each namespace that has pods, those with the most pods first, so that the first letters are the common ones. */
export function namespaceLetters(allocations: readonly Allocation[]): Map<string, string> {
  const pods = new Map<string, number>();
  for (const { pod } of allocations) {
    if (pod !== undefined) pods.set(pod.namespace, (pods.get(pod.namespace) ?? 0) + 1);
  }
  const byPods = [...pods].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return new Map(byPods.slice(0, LETTERS.length).map(([namespace], i) => [namespace, LETTERS[i] as string]));
}

/** The lines of the picture: the first address of each row, and its cells. */
export function drawSubnet(sight: SubnetSight, letters: Map<string, string>): string[] {
  const { prefix, allocations, resting } = sight;
  const cells = new Map<bigint, string>();
  const put = (address: string, symbol: string) => {
    const index = indexOf(prefix, parseAddress(address));
    if (index !== undefined) cells.set(index, symbol);
  };
  const size = prefixSize(prefix);
  for (const { address } of resting) put(address, RESTING);
  for (const allocation of allocations) {
    for (const address of allocation.addresses) put(address, symbolOf(allocation, letters));
  }
  const keptBack = keptBackIn(sight);
  const rows = rowsToShow(size, cells);
  const label = (row: bigint) => formatAddress(prefixBytes({ ...prefix, base: prefix.base + row * BigInt(ROW) }));
  const width = Math.max(0, ...rows.shown.map((row) => label(row).length));
  const lines: string[] = [];
  let next = 0n;
  for (const row of rows.shown) {
    if (row > next) lines.push(skipped(next, row, size));
    lines.push(`${label(row).padEnd(width)}  ${drawRow(row, size, cells, keptBack)}`);
    next = row + 1n;
  }
  const all = rowCount(size);
  if (rows.left > 0) lines.push(`… ${formatCount(rows.left)} more rows with addresses; ipam list has them all`);
  else if (next < all) lines.push(skipped(next, all, size));
  return lines;
}

/** What the characters mean: only those that occur, a line each, the namespaces with how many addresses each has here. */
export function legend(sight: SubnetSight, letters: Map<string, string>): [string, string][] {
  const { prefix, allocations, resting } = sight;
  const inside = (address: string) => indexOf(prefix, parseAddress(address)) !== undefined;
  const lines = new Map<string, { names: Set<string>; count: number }>();
  const add = (symbol: string, name: string, count = 1) => {
    const line = lines.get(symbol) ?? { names: new Set(), count: 0 };
    line.names.add(name);
    line.count += count;
    lines.set(symbol, line);
  };
  for (const allocation of allocations) {
    const count = allocation.addresses.filter(inside).length;
    if (count > 0) add(symbolOf(allocation, letters), nameOf(allocation, letters), count);
  }
  const held = [...lines].sort(([a], [b]) => order(a) - order(b));
  for (const { address } of resting) if (inside(address)) add(RESTING, "resting");
  const rest = lines.get(RESTING);
  return [
    ...held.map(([symbol, { names, count }]): [string, string] => [
      symbol,
      `${[...names].join(", ")} (${formatCount(count)})`,
    ]),
    ...(rest === undefined ? [] : [[RESTING, `resting (${formatCount(rest.count)})`] as [string, string]]),
    ...(keptBackIn(sight).length === 0 ? [] : [[KEPT_BACK, "kept back"] as [string, string]]),
    [FREE, "free"],
  ];
}

function symbolOf({ attachment, pod }: Allocation, letters: Map<string, string>): string {
  if (attachment?.ifname === "") return GATEWAY;
  return pod === undefined ? OTHER : (letters.get(pod.namespace) ?? OTHER);
}

function nameOf({ attachment, pod }: Allocation, letters: Map<string, string>): string {
  if (attachment?.ifname === "") return "gateway";
  if (pod === undefined) return "no pod";
  return letters.has(pod.namespace) ? `namespace ${pod.namespace}` : "other namespaces";
}

/** Letters in their order, then the others. */
function order(symbol: string): number {
  const at = LETTERS.indexOf(symbol);
  return at < 0 ? LETTERS.length + [OTHER, GATEWAY].indexOf(symbol) : at;
}

/** Positions in the subnet, `end` excluded. */
interface Span {
  readonly first: bigint;
  readonly end: bigint;
}

function keptBackIn({ prefix, keptBack }: SubnetSight): Span[] {
  return keptBack.flatMap(({ first, last }) => {
    const [start, end] = [indexOf(prefix, parseAddress(first)), indexOf(prefix, parseAddress(last))];
    return start === undefined || end === undefined ? [] : [{ first: start, end: end + 1n }];
  });
}

function rowCount(size: bigint): bigint {
  return (size + BigInt(ROW) - 1n) / BigInt(ROW);
}

function rowsToShow(size: bigint, cells: Map<bigint, string>): { shown: bigint[]; left: number } {
  const all = rowCount(size);
  if (all <= 8n) return { shown: Array.from({ length: Number(all) }, (_, row) => BigInt(row)), left: 0 };
  const populated = [...cells.keys()].map((index) => index / BigInt(ROW));
  const rows = [...new Set(populated)].sort((a, b) => (a < b ? -1 : 1));
  return { shown: rows.slice(0, MOST_ROWS), left: Math.max(0, rows.length - MOST_ROWS) };
}

function drawRow(row: bigint, size: bigint, cells: Map<bigint, string>, keptBack: readonly Span[]): string {
  let text = "";
  for (let i = 0; i < ROW; i++) {
    const index = row * BigInt(ROW) + BigInt(i);
    if (index >= size) break;
    if (i > 0 && i % GROUP === 0) text += " ";
    const kept = keptBack.some(({ first, end }) => index >= first && index < end);
    text += cells.get(index) ?? (kept ? KEPT_BACK : FREE);
  }
  return text;
}

function skipped(from: bigint, to: bigint, size: bigint): string {
  const end = to * BigInt(ROW) > size ? size : to * BigInt(ROW);
  const count = end - from * BigInt(ROW);
  return `… ${count > MOST_COUNTED ? "more" : formatCount(count)} that nobody has`;
}
