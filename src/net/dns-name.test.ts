// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { isAlias } from "./dns-name.ts";

const LABEL = "a".repeat(63);
const LONGEST = `${LABEL}.${LABEL}.${LABEL}.${"a".repeat(61)}`;

test.for([
  "db",
  "my-container",
  "web_1",
  "7f3c0a",
  "DB.Prod",
  "_grpc._tcp.db",
  "xn--bcher-kva.example",
  LABEL,
  LONGEST,
])("%s is an alias", (text) => {
  expect(isAlias(text)).toBe(true);
});

test.for([
  "",
  ".",
  "db.",
  ".db",
  "a..b",
  "a b",
  "a/b",
  "bücher",
  "a\0",
  "a\n",
  "*",
  `${LABEL}a`,
  `a.${LABEL}a`,
  `${LONGEST}a`,
])("%j is none", (text) => {
  expect(isAlias(text)).toBe(false);
});
