// SPDX-License-Identifier: Apache-2.0
//
// Who reached whom, beside who should have, for people: what a test says that found it otherwise.

/** A try to reach somebody. */
export interface Reach {
  /** What is tried: "IPv4 TCP/80". */
  readonly what: string;
  readonly from: string;
  readonly to: string;
  readonly expected: boolean;
  readonly got: boolean;
}

/** All tries of each kind of which one is wrong, as matrices side by side; "" when none is. */
export function wrongMatrices(all: readonly Reach[]): string {
  const wrong = new Set(all.filter(({ expected, got }) => expected !== got).map(({ what }) => what));
  return [...wrong].map((what) => matrices(all.filter((one) => one.what === what))).join("\n\n");
}

/** Rows are who sends, columns who is sent to: "." arrives, "X" doesn't. */
function matrices(all: readonly Reach[]): string {
  const names = (pick: (one: Reach) => string) => [...new Set(all.map(pick))].sort();
  const [rows, columns] = [names(({ from }) => from), names(({ to }) => to)];
  const width = Math.max(...[...rows, ...columns].map(({ length }) => length)) + 1;
  const line = (cells: readonly string[]) => cells.map((cell) => cell.padEnd(width)).join("");
  const table = (cell: (one: Reach) => string) => [
    line(["", ...columns]),
    ...rows.map((from) =>
      line([
        from,
        ...columns.map((to) => {
          const found = all.find((one) => one.from === from && one.to === to);
          return found === undefined ? "" : cell(found);
        }),
      ]),
    ),
  ];
  const mark = (arrives: boolean) => (arrives ? "." : "X");
  const expected = table((one) => mark(one.expected));
  const got = table((one) => `${mark(one.got)}${one.got === one.expected ? "" : " !"}`);
  const title = [`${all[0]?.what}, expected:`, "got:"];
  const wide = Math.max(title[0]?.length ?? 0, ...expected.map(({ length }) => length)) + 4;
  return [title, ...expected.map((text, i) => [text, got[i] ?? ""])]
    .map(([left = "", right = ""]) => `${left.padEnd(wide)}${right}`.trimEnd())
    .join("\n");
}
