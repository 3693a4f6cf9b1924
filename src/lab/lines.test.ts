// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { LineSplitter, lastLines, Tail } from "./lines.ts";

test("lines come out whole however the bytes were cut", () => {
  const line = fc.string({ unit: "binary", minLength: 1 }).filter((text) => !text.includes("\n"));
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat(200)), (lines, cuts) => {
      const bytes = Buffer.from(lines.map((one) => `${one}\n`).join(""));
      const splitter = new LineSplitter(10_000);
      const out: string[] = [];
      let from = 0;
      for (const to of [...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length]) {
        out.push(...splitter.push(bytes.subarray(from, to)));
        from = to;
      }
      expect(out).toEqual(lines.map((one) => one.toWellFormed()));
    }),
  );
});

test("a line that is too long is refused, ended or not", () => {
  expect(() => new LineSplitter(3).push(Buffer.from("abcd"))).toThrow("longer than 3");
  expect(() => new LineSplitter(3).push(Buffer.from("a\nabcd\n"))).toThrow("longer than 3");
  expect(new LineSplitter(3).push(Buffer.from("abc\n\nx"))).toEqual(["abc"]);
});

test("of a growing text its last lines are kept", () => {
  const tail = new Tail(8);
  tail.push(Buffer.from("first\nsecond\n"));
  tail.push(Buffer.from("\nx\n"));
  expect(tail.lines(2)).toEqual(["cond", "x"]);
  expect(lastLines("a\n\nb\nc\n", 2)).toEqual(["b", "c"]);
});
