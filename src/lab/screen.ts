// SPDX-License-Identifier: Apache-2.0
//
// What a person sees while the lab works: on a terminal one line that is rewritten, elsewhere only lines that stay.

export interface Output {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
  /** Streams report here that nobody reads them any more. */
  on?(event: "error", listener: (error: Error) => void): unknown;
}

export interface Screen {
  /** Something that will be replaced soon, such as a count. */
  progress(text: string): void;
  /** Something that stays. */
  line(text?: string): void;
  /** Takes the last progress away. */
  clear(): void;
}

/** Columns of the output. No terminal has none, and one that doesn't know its size says 0. */
export function widthOf(output: Output): number {
  return output.columns || 100;
}

export function createScreen(output: Output): Screen {
  let shown = false;
  const clear = () => {
    // ECMA-48: carriage return, then erase in line.
    if (shown) output.write("\r\x1b[2K");
    shown = false;
  };
  return {
    progress(text) {
      if (output.isTTY !== true) return;
      clear();
      // A line that wraps could not be taken back.
      output.write(text.slice(0, widthOf(output) - 1));
      shown = true;
    },
    line(text = "") {
      clear();
      output.write(`${text}\n`);
    },
    clear,
  };
}

/** Shows nothing, for `--json`. */
export const NO_SCREEN: Screen = { progress() {}, line() {}, clear() {} };
