// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { sha256 } from "./sha256.ts";

const byNode = (text: string): string => createHash("sha256").update(text).digest("hex");
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("the example of FIPS 180-2, appendix B.1", () => {
  expect(hex(sha256("abc"))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});

test("every length around the ends of blocks is padded as Node's has it", () => {
  for (let length = 0; length <= 200; length++)
    expect(hex(sha256("x".repeat(length)))).toBe(byNode("x".repeat(length)));
});

test("any text has the hash that Node gives it", () => {
  fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => hex(sha256(text)) === byNode(text)));
});
