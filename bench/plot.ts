// SPDX-License-Identifier: Apache-2.0
//
// The samples of a case as a picture: those of ours and of the peer's, on one axis from zero, so that nobody has to trust a
// median. Of very many it is so many of their ranks, evenly spaced, the least and the greatest among them. Pure; the picture is SVG 1.1, and the same samples give the same bytes.
import { times } from "./figures.ts";
import { type Row, ratio, summarize } from "./samples.ts";

const WIDTH = 860;
const LEFT = 20;
const RIGHT = 24;
const BAND = 104;
const MOST_DOTS = 150;
const COLOURS = { ours: "#1668b8", peer: "#8a8a8a" } as const;
const INK = "#222222";

/** @param rows at least one */
export function distributionSvg(title: string, rows: readonly Row[]): string {
  const height = 44 + rows.length * BAND;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13">`,
    `<title>${escapeXml(title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(LEFT, 26, title, { "font-size": 16, "font-weight": "bold" }),
    ...rows.flatMap((row, i) => band(row, 44 + i * BAND)),
    "</svg>",
    "",
  ].join("\n");
}

function band(row: Row, top: number): string[] {
  const most = Math.max(...row.ours, ...row.peer);
  const step = niceStep(most);
  const end = Math.max(1, Math.ceil(most / step)) * step;
  const x = (value: number) => round(LEFT + (value / end) * (WIDTH - LEFT - RIGHT));
  const axis = top + 78;
  const ticks = Array.from({ length: Math.round(end / step) + 1 }, (_, i) => i * step);
  return [
    text(LEFT, top + 14, `${row.what} (${row.unit}): ${times(ratio(row))} × ${row.peerName}`),
    ...dots(row.ours, x, top + 32, COLOURS.ours),
    ...dots(row.peer, x, top + 58, COLOURS.peer),
    `<line x1="${LEFT}" y1="${axis}" x2="${WIDTH - RIGHT}" y2="${axis}" stroke="${INK}"/>`,
    ...ticks.flatMap((value) => [
      `<line x1="${x(value)}" y1="${axis}" x2="${x(value)}" y2="${axis + 4}" stroke="${INK}"/>`,
      text(x(value), axis + 17, tickText(value, step), { "text-anchor": "middle", "font-size": 11 }),
    ]),
  ];
}

/** The values as they are, or MOST_DOTS of them in order. */
function thinned(values: readonly number[]): readonly number[] {
  if (values.length <= MOST_DOTS) return values;
  const sorted = values.toSorted((a, b) => a - b);
  const rank = (i: number) => Math.round((i * (sorted.length - 1)) / (MOST_DOTS - 1));
  return Array.from({ length: MOST_DOTS }, (_, i) => sorted[rank(i)] as number);
}

/** A dot for each sample, in three rows in turn so that equal ones are seen, and a stroke at the median. */
function dots(values: readonly number[], x: (value: number) => number, y: number, colour: string): string[] {
  const { median } = summarize(values);
  return [
    ...thinned(values).map(
      (value, i) => `<circle cx="${x(value)}" cy="${y + (i % 3) * 6 - 6}" r="3" fill="${colour}" fill-opacity="0.55"/>`,
    ),
    `<line x1="${x(median)}" y1="${y - 11}" x2="${x(median)}" y2="${y + 11}" stroke="${colour}" stroke-width="3"/>`,
  ];
}

/** 1, 2 or 5 times a power of ten, so that four to ten of them reach the greatest value. */
function niceStep(most: number): number {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most / 4));
  return ([1, 2, 5].find((factor) => most / (factor * power) <= 10) ?? 10) * power;
}

function tickText(value: number, step: number): string {
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function text(x: number, y: number, words: string, style: Record<string, string | number> = {}): string {
  const more = Object.entries(style).map(([name, value]) => ` ${name}="${value}"`);
  return `<text x="${x}" y="${y}" fill="${INK}"${more.join("")}>${escapeXml(words)}</text>`;
}

function escapeXml(words: string): string {
  return words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
