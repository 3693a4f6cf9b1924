// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { toHex } from "../../test/helpers/hex.ts";
import type { Message } from "../netlink/message.ts";
import { dataOf, getElement, usesOf } from "./lookup.ts";
import { addElements, removeElements } from "./table.ts";

function answer(body: Uint8Array): Message {
  return { type: 0, flags: 0, seq: 1, body };
}

test("an element is asked for by its key alone, as it is removed", () => {
  const key = Uint8Array.of(6, 0, 0, 0, 0x1f, 0x90, 0, 0);
  const [removal] = removeElements("t", "m", [{ key }]);
  expect(toHex(getElement("t", "m", key).body)).toBe(toHex(removal?.body ?? new Uint8Array()));
});

test("the data that an element was added with is found in it, and none where it has none", () => {
  const bytes = fc.uint8Array({ minLength: 4, maxLength: 64 });
  fc.assert(
    fc.property(bytes, fc.option(bytes, { nil: undefined }), (key, data) => {
      const [request] = addElements("t", "m", [{ key, ...(data !== undefined && { data }) }]);
      expect(dataOf(answer(request?.body ?? new Uint8Array()))).toEqual(data);
    }),
  );
});

test("an answer of any bytes is read without failing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (body) => {
      expect(usesOf(answer(body))).toBeGreaterThanOrEqual(0);
      expect(dataOf(answer(body)) ?? body).toBeInstanceOf(Uint8Array);
    }),
  );
});
