// SPDX-License-Identifier: Apache-2.0
//
// Numbers, times and tables as people read them. Pure.

/** "42s", "7m", "3h", "12d": the largest unit that is full; a time to come counts as now. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** "1,984". */
export function formatCount(count: number | bigint): string {
  return count.toLocaleString("en-US");
}

/** "1 address", "3 addresses". */
export function plural(count: number, one: string, many: string): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** Two spaces between columns, each as wide as its widest cell, no spaces at an end. */
export function formatTable(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

/** A column is not cut to less than this, whatever the width. */
const CUT_LEAST = 20;

/**
 * A table whose lines fit in so many columns, by cutting the cells of one of its columns in their middle.
 * @param width any when undefined
 */
export function fitTable(rows: readonly (readonly string[])[], column: number, width: number | undefined): string[] {
  const lines = formatTable(rows);
  const surplus = width === undefined ? 0 : Math.max(0, ...lines.map((line) => line.length)) - width;
  if (surplus <= 0) return lines;
  const longest = Math.max(...rows.map((row) => (row[column] ?? "").length));
  const most = Math.max(CUT_LEAST, longest - surplus);
  return formatTable(rows.map((row) => row.map((cell, i) => (i === column ? cutMiddle(cell, most) : cell))));
}

/** The ends tell names of pods apart: the workload's name and the random part. */
function cutMiddle(text: string, most: number): string {
  if (text.length <= most) return text;
  const tail = Math.floor((most - 1) / 3);
  return `${text.slice(0, most - 1 - tail)}…${text.slice(text.length - tail)}`;
}

/** A runtime's ID is 64 hexadecimal digits; anything else is a name somebody chose, and stays whole. */
export function shortId(containerId: string): string {
  return /^[0-9a-f]{64}$/.test(containerId) ? containerId.slice(0, SHORT_ID) : containerId;
}

/** Characters of a container ID that people tell containers apart by. */
const SHORT_ID = 12;
