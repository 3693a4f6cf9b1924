// SPDX-License-Identifier: Apache-2.0
//
// What is in a namespace and in some directories, as sets of lines, so that before and after can be told apart. What the
// kernel changes by itself (indexes, counters, carrier, link-local addresses) is left out, and so is the loopback.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { isObject } from "./conf.ts";
import { commandIn, type Netns } from "./sandbox.ts";

/** Lines such as `link veth0 …`, each once. */
export type Snapshot = ReadonlySet<string>;

type Entry = Readonly<Record<string, unknown>>;

const SEPARATOR = "=====";

/** One shell and no pipes: nothing of it may fail silently. `|| true`: nft may be missing, and then there are no rules. */
const SCRIPT = [
  "ip -N -j -d address show",
  "ip -N -j -4 route show table all",
  "ip -N -j -6 route show table all",
  "ip -N -j -4 rule show",
  "ip -N -j -6 rule show",
  "ip -N -j neighbour show nud permanent",
  "if command -v nft >/dev/null; then nft -j list ruleset; fi",
].join(` && echo && echo ${SEPARATOR} && `);

/** Links, addresses, routes of all tables, rules, permanent neighbours and nftables rules of a namespace. */
export async function snapshotNetns(netns: Netns): Promise<Snapshot> {
  const parts = (await commandIn(netns, "sh", "-c", SCRIPT)).split(SEPARATOR);
  const [links = [], v4 = [], v6 = [], rules4 = [], rules6 = [], neighbours = []] = parts.slice(0, 6).map(parseList);
  return numbered([
    ...links.filter(isNotLoopback).map(linkLine),
    ...links.filter(isNotLoopback).flatMap(addressLines),
    ...[...v4, ...v6].filter(isMadeByHand).map((route) => `route ${fields(route, ROUTE_NOISE)}`),
    ...rules4.map((rule) => `rule IPv4 ${fields(rule, [])}`),
    ...rules6.map((rule) => `rule IPv6 ${fields(rule, [])}`),
    ...neighbours.map((neighbour) => `neighbour ${fields(neighbour, ["state"])}`),
    ...nftLines(parts[6] ?? ""),
  ]);
}

/** Equal lines (the same rule twice) are told apart by a number. */
function numbered(lines: readonly string[]): Snapshot {
  const counts = new Map<string, number>();
  return new Set(
    lines.map((line) => {
      const count = (counts.get(line) ?? 0) + 1;
      counts.set(line, count);
      return count === 1 ? line : `${line} (${count}.)`;
    }),
  );
}

/** Every file and directory below, by path. A directory that isn't there is empty. */
export function snapshotFiles(directories: readonly string[], without: readonly string[]): Snapshot {
  const lines = new Set<string>();
  const visit = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (without.includes(path)) continue;
      lines.add(`file ${path}`);
      if (entry.isDirectory()) visit(path);
    }
  };
  for (const directory of directories) if (existsSync(directory)) visit(directory);
  return lines;
}

/** What is new and what is missing, as lines for people. Empty when nothing changed. */
export function difference(before: Snapshot, after: Snapshot, where: string): string[] {
  return [
    ...[...after].filter((line) => !before.has(line)).map((line) => `left ${where}: ${line}`),
    ...[...before].filter((line) => !after.has(line)).map((line) => `missing ${where}: ${line}`),
  ];
}

function parseList(json: string): Entry[] {
  // iproute2 prints nothing for an empty list, and empty objects for what a filter left out.
  const list = json.trim() === "" ? [] : (JSON.parse(json) as Entry[]);
  return list.filter((entry) => Object.keys(entry).length > 0);
}

function isNotLoopback(link: Entry): boolean {
  return link["ifname"] !== "lo" && link["ifname"] !== undefined;
}

function linkLine(link: Entry): string {
  const info = link["linkinfo"];
  const kind = isObject(info) ? String(info["info_kind"]) : "";
  const up = Array.isArray(link["flags"]) && link["flags"].includes("UP") ? "up" : "down";
  const { ifname, address, mtu, master, group, ifalias } = link;
  return `link ${ifname} ${kind} ${up} ${fields({ address, mtu, master, group, ifalias }, [])}`;
}

function addressLines(link: Entry): string[] {
  const list = Array.isArray(link["addr_info"]) ? (link["addr_info"] as Entry[]) : [];
  return list
    .filter(({ local }) => local !== undefined && !String(local).startsWith("fe80:"))
    .map(({ local, prefixlen, scope }) => `address ${local}/${prefixlen} scope ${scope} on ${link["ifname"]}`);
}

/** What comes and goes with a route's device, or is only how ip prints it. */
const ROUTE_NOISE = ["flags", "pref", "expires", "cache", "used", "error"];

/** Routes that the kernel makes for every IPv6 link come late, and so does what is of the loopback. */
function isMadeByHand(route: Entry): boolean {
  const dst = String(route["dst"]);
  if (route["dev"] === "lo") return false;
  return !(dst.startsWith("fe80:") || dst.startsWith("ff00:") || String(route["type"]) === "anycast");
}

function fields(entry: Entry, noise: readonly string[]): string {
  return Object.entries(entry)
    .filter(([key, value]) => value !== undefined && !noise.includes(key))
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .sort()
    .join(" ");
}

function nftLines(json: string): string[] {
  if (json.trim() === "") return [];
  const { nftables } = JSON.parse(json) as { nftables: Entry[] };
  return nftables
    .filter((entry) => !("metainfo" in entry))
    .map((entry) => `nftables ${JSON.stringify(entry, (key, value) => (NFT_NOISE.includes(key) ? undefined : value))}`);
}

const NFT_NOISE = ["handle", "packets", "bytes"];
