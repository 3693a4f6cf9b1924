// SPDX-License-Identifier: Apache-2.0
//
// The lab as a picture in the terminal: who is where, and who reached whom.
import type { Family } from "../net/address.ts";
import type { Cell } from "./cells.ts";
import { type End, endsOf, type Topology } from "./topology.ts";
import type { Failure } from "./verdict.ts";

/** A node's pods above this number are counted, not listed. */
const MAX_PODS_LISTED = 8;
/** A matrix with more rows than this is drawn node by node. */
const MAX_ROWS = 64;
const MARGIN = "  ";

/** Colours what it is given, or leaves it. */
export interface Palette {
  good(text: string): string;
  bad(text: string): string;
  dim(text: string): string;
}

export const PLAIN: Palette = { good: (text) => text, bad: (text) => text, dim: (text) => text };
/** SGR codes of ECMA-48. */
export const COLOURED: Palette = {
  good: (text) => `\x1b[32m${text}\x1b[0m`,
  bad: (text) => `\x1b[1;31m${text}\x1b[0m`,
  dim: (text) => `\x1b[2m${text}\x1b[0m`,
};

/** The underlay, its nodes with their addresses and subnets, and their pods. */
export function drawTopology(topology: Topology, palette: Palette = PLAIN): string[] {
  const lines: string[] = [];
  const nodeAddresses = columns(topology.nodes.map((node) => [node.name, ...node.addresses]));
  const listed = topology.nodes.flatMap((node) => shown(node.pods).map((pod) => [pod.name, ...pod.addresses]));
  const podAddresses = columns(listed);
  let pod = 0;
  topology.nodes.forEach((node, n) => {
    if (node.link !== topology.nodes[n - 1]?.link) lines.push(MARGIN + drawLink(topology, node.link));
    const last = node.link !== topology.nodes[n + 1]?.link;
    const subnets = palette.dim(`pods in ${node.podCIDRs.join("  ")}`);
    lines.push(`${MARGIN}${palette.dim(last ? "└─" : "├─")} ${nodeAddresses[n]}  ${subnets}`);
    const rail = palette.dim(last ? "   " : "│  ");
    const some = shown(node.pods);
    some.forEach((_, p) => {
      const end = p === some.length - 1 && some.length === node.pods.length;
      lines.push(`${MARGIN}${rail} ${palette.dim(end ? "└─" : "├─")} ${podAddresses[pod++]}`.trimEnd());
    });
    if (some.length < node.pods.length) {
      lines.push(`${MARGIN}${rail} ${palette.dim(`└─ and ${node.pods.length - some.length} more`)}`);
    }
  });
  return lines;
}

function drawLink({ underlay }: Topology, name: string): string {
  const { subnets = [], router = [] } = underlay.links.find((link) => link.name === name) ?? {};
  const words = [router.length === 0 ? "underlay" : name, subnets.join("  ")];
  if (router.length > 0) words.push(` router ${router.join("  ")}`);
  return words.join(" ");
}

function shown<T>(pods: readonly T[]): readonly T[] {
  return pods.length <= MAX_PODS_LISTED ? pods : pods.slice(0, MAX_PODS_LISTED - 1);
}

/** Rows of words, padded so that each column begins at the same place. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((word, i) => {
      widths[i] = Math.max(widths[i] ?? 0, word.length);
    });
  return rows.map((row) => row.map((word, i) => word.padEnd(widths[i] as number)).join("  "));
}

/**
 * Senders down, receivers across: one sign for each ordered pair of ends when `width` columns hold it, else one figure for
 * each ordered pair of nodes.
 */
export function drawMatrix(
  topology: Topology,
  cells: readonly Cell[],
  failures: readonly Failure[],
  width: number,
  palette: Palette = PLAIN,
): string[] {
  const ends = endsOf(topology);
  const groups = topology.nodes.map((node) => ends.filter((end) => end.node === node.name));
  const groupWidth = (group: readonly End[]) => Math.max(group.length, (group[0] as End).name.length);
  const label = Math.max(...ends.map((end) => end.name.length), "from \\ to".length) + 2;
  const needed = groups.reduce((sum, group) => sum + groupWidth(group) + 2, MARGIN.length + label);
  if (needed > width || ends.length > MAX_ROWS) return drawNodeMatrix(topology, cells, failures, palette);

  const tallies = tally(cells, failures, (end) => end.name);
  const lines = [
    `${MARGIN}${"from \\ to".padEnd(label)}${groups.map((group) => (group[0] as End).name.padEnd(groupWidth(group))).join("  ")}`.trimEnd(),
    `${MARGIN}${" ".repeat(label)}${groups.map((group) => palette.dim(group.map(columnSign).join("").padEnd(groupWidth(group)))).join("  ")}`.trimEnd(),
  ];
  for (const from of ends) {
    const row = groups.map((group) => {
      const signs = group.map((to) => sign(from === to, tallies.get(`${from.name} ${to.name}`), palette)).join("");
      return signs + " ".repeat(groupWidth(group) - group.length);
    });
    lines.push(`${MARGIN}${from.name.padEnd(label)}${row.join("  ")}`.trimEnd());
  }
  const legend = ["N the node, 1… its pods; ● all of TCP and UDP over every family"];
  if (failures.length > 0) legend.push("4 or 6 that family fails, ✗ more than one or all fail");
  if ([...tallies.keys()].length < ends.length * (ends.length - 1)) legend.push("· not probed");
  lines.push(...legend.map((text) => MARGIN + palette.dim(text)));
  return lines;
}

function columnSign(end: End, index: number): string {
  return end.kind === "node" ? "N" : String(index % 10);
}

function sign(self: boolean, found: Tally | undefined, palette: Palette): string {
  if (self) return palette.dim("-");
  if (found === undefined) return palette.dim("·");
  if (found.failed === 0) return palette.good("●");
  const [family] = found.failedFamilies;
  if (found.failedFamilies.size === 1 && found.families.size > 1) return palette.bad(String(family));
  return palette.bad("✗");
}

function drawNodeMatrix(
  topology: Topology,
  cells: readonly Cell[],
  failures: readonly Failure[],
  palette: Palette,
): string[] {
  const names = topology.nodes.map((node) => node.name);
  const tallies = tally(cells, failures, (end) => end.node);
  const figure = (from: string, to: string): [string, Tally | undefined] => {
    const found = tallies.get(`${from} ${to}`);
    if (found === undefined) return ["·", found];
    return [found.failed === 0 ? "●" : `✗${found.failed}`, found];
  };
  const wide = Math.max(
    ...names.map((name) => name.replace("node", "").length),
    ...names.flatMap((from) => names.map((to) => figure(from, to)[0].length)),
  );
  const label = Math.max(...names.map((name) => name.length), "from \\ to".length) + 2;
  const lines = [
    `${MARGIN}${"from \\ to".padEnd(label)}${names.map((name) => name.replace("node", "").padStart(wide)).join(" ")}`,
  ];
  for (const from of names) {
    const row = names.map((to) => {
      const [text, found] = figure(from, to);
      const padded = text.padStart(wide);
      if (found === undefined) return palette.dim(padded);
      return found.failed === 0 ? palette.good(padded) : palette.bad(padded);
    });
    lines.push(`${MARGIN}${from.padEnd(label)}${row.join(" ")}`);
  }
  lines.push(MARGIN + palette.dim("between all ends of two nodes: ● every cell holds, ✗n so many fail"));
  return lines;
}

interface Tally {
  failed: number;
  readonly families: Set<Family>;
  readonly failedFamilies: Set<Family>;
}

function tally(cells: readonly Cell[], failures: readonly Failure[], by: (end: End) => string): Map<string, Tally> {
  const tallies = new Map<string, Tally>();
  for (const cell of cells) {
    const key = `${by(cell.from)} ${by(cell.to)}`;
    let found = tallies.get(key);
    if (found === undefined) {
      found = { failed: 0, families: new Set(), failedFamilies: new Set() };
      tallies.set(key, found);
    }
    found.families.add(cell.family);
  }
  for (const { cell } of failures) {
    const found = tallies.get(`${by(cell.from)} ${by(cell.to)}`);
    if (found === undefined) continue;
    found.failed++;
    found.failedFamilies.add(cell.family);
  }
  return tallies;
}
