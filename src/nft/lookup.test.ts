// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { toHex } from "../../test/helpers/hex.ts";
import type { Message } from "../netlink/message.ts";
import { dataOf, drops, getElement, isDormant, ruleOf, usesOf } from "./lookup.ts";
import { addElements, removeElements, replaceTable, ruleMark } from "./table.ts";

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

test("each rule of a table is known by its chain and its place in it", () => {
  const NEWRULE = 0xa06;
  const chains = ["a", "b"].map((name) => ({ name, rules: [[], []] }));
  const requests = replaceTable({ name: "t", sets: [], chains }).flat();
  const rules = requests.filter(({ type }) => type === NEWRULE).map(({ body }) => ruleOf(answer(body)));
  expect(rules).toEqual(["a", "a", "b", "b"].map((chain, i) => ({ chain, mark: ruleMark(chain, i % 2) })));
  expect(new Set(rules.map(({ mark }) => toHex(mark ?? new Uint8Array()))).size).toBe(4);
});

test("an answer of any bytes is read without failing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (body) => {
      expect([isDormant(answer(body)), drops(answer(body))]).not.toContain(undefined);
      expect(usesOf(answer(body))).toBeGreaterThanOrEqual(0);
      expect(ruleOf(answer(body)).mark ?? body).toBeInstanceOf(Uint8Array);
      expect(dataOf(answer(body)) ?? body).toBeInstanceOf(Uint8Array);
    }),
  );
});
