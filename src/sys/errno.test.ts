// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import { expect, test } from "vitest";
import { errnoName } from "./errno.ts";

// Two names of one number: the other one is what is printed.
const ALIASES: Readonly<Record<string, string>> = {
  EWOULDBLOCK: "EAGAIN",
  ENOTSUP: "EOPNOTSUPP",
  EDEADLOCK: "EDEADLK",
};

test("every error number that the runtime knows has the runtime's name", () => {
  const known = Object.entries(constants.errno);
  expect(known.length).toBeGreaterThan(70);
  for (const [name, number] of known) expect(errnoName(number)).toBe(ALIASES[name] ?? name);
});

test.for([
  [1, "EPERM"],
  [17, "EEXIST"],
  [40, "ELOOP"],
  [42, "ENOMSG"],
  [95, "EOPNOTSUPP"],
  [105, "ENOBUFS"],
  [117, "EUCLEAN"],
  [133, "EHWPOISON"],
] as const)("%i is %s", ([errno, name]) => {
  expect(errnoName(errno)).toBe(name);
});

test("a number without a name is told as a number", () => {
  for (const errno of [0, 41, 58, 134, 524, 4095, -1]) expect(errnoName(errno)).toBe(`errno ${errno}`);
});
