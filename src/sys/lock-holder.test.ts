// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { holdersIn } from "./lock-holder.ts";

test("the holder of a lock is found by device and inode, or by inode where the file system hides its device", () => {
  const locks = [
    "1: FLOCK  ADVISORY  WRITE 100 fe:00:4242 0 EOF",
    "2: POSIX  ADVISORY  WRITE 200 00:2a:4242 0 EOF",
    "2: -> POSIX  ADVISORY  WRITE 300 00:2a:4242 0 EOF",
    "3: POSIX  ADVISORY  READ  400 fe:00:42421 128 128",
    "4: OFDLCK ADVISORY  WRITE -1 00:05:7 0 0",
    "",
  ].join("\n");
  expect(holdersIn(locks, { ino: 4242n, dev: 0xfe00n })).toEqual([100]);
  expect(holdersIn(locks, { ino: 4242n, dev: 0x2an })).toEqual([200]);
  expect(holdersIn(locks, { ino: 4242n, dev: 0x99n })).toEqual([100, 200]);
  expect(holdersIn(locks, { ino: 7n, dev: 5n })).toEqual([]);
  expect(holdersIn("", { ino: 1n, dev: 1n })).toEqual([]);
});
