// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { createScreen } from "./screen.ts";

function record(options: { isTTY: boolean; columns?: number }) {
  const output = { ...options, text: "", write: (text: string) => (output.text += text) };
  return output;
}

test("on a terminal progress rewrites one line, cut to the terminal's width", () => {
  const output = record({ isTTY: true, columns: 10 });
  const screen = createScreen(output);
  screen.progress("one of many things");
  screen.progress("two");
  screen.line("done");
  expect(output.text).toBe("one of ma\r\x1b[2Ktwo\r\x1b[2Kdone\n");
});

test("elsewhere only lines that stay are written", () => {
  const output = record({ isTTY: false });
  const screen = createScreen(output);
  screen.progress("one");
  screen.clear();
  screen.line("done");
  expect(output.text).toBe("done\n");
});
