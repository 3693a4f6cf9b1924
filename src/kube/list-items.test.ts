// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { ListItems } from "./list-items.ts";
import { WatchLines } from "./watch-lines.ts";

function readList(text: string, cuts: readonly number[] = []): { items: unknown[]; end: ReturnType<ListItems["end"]> } {
  const items: unknown[] = [];
  const reader = new ListItems((item) => items.push(item));
  for (const piece of pieces(text, cuts)) reader.push(piece);
  return { items, end: reader.end() };
}

function pieces(text: string, cuts: readonly number[]): Uint8Array[] {
  const bytes = Buffer.from(text);
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
}

test("a list's items are read as they come, whatever pieces it comes in", () => {
  const object = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }));
  const cuts = fc.array(fc.nat(5000), { maxLength: 30 });
  fc.assert(
    fc.property(
      fc.array(object, { maxLength: 5 }),
      fc.string(),
      cuts,
      fc.boolean(),
      (items, next, at, metadataLast) => {
        const metadata = { resourceVersion: "7", continue: next, selfLink: '"items":[{' };
        const list = metadataLast ? { kind: "NodeList", items, metadata } : { metadata, kind: "NodeList", items };
        const text = JSON.stringify(list, undefined, at.length % 2 === 0 ? 0 : 2);
        expect(readList(text, at)).toEqual({
          items: JSON.parse(JSON.stringify(items)),
          end: { resourceVersion: "7", next: next === "" ? undefined : next },
        });
      },
    ),
  );
});

test.each([
  ["items that are null", '{"kind":"NodeList","metadata":{"resourceVersion":"7"},"items":null}'],
  [
    "an array of that name elsewhere",
    '{"kind":"NodeList","metadata":{"resourceVersion":"7","items":[{"a":1}]},"items":[]}',
  ],
])("a list with %s has none", (_, text) => {
  expect(readList(text)).toEqual({ items: [], end: { resourceVersion: "7", next: undefined } });
});

test.each([
  ["ends in the middle", '{"kind":"NodeList","metadata":{"resourceVersion":"7"},"items":[{"a":1}'],
  ["is of something else", '{"kind":"Status","metadata":{}}'],
  ["is no JSON", "<html>"],
  ["is empty", ""],
])("a list that %s is refused", (_, text) => {
  expect(() => readList(text)).toThrow(expect.objectContaining({ code: "KUBE_PROTOCOL" }));
});

test("an object without an end is given up", () => {
  const reader = new ListItems(() => {});
  reader.push(Buffer.from('{"items":[{"a":"'));
  const piece = Buffer.alloc(1024 * 1024, "a");
  expect(() => {
    for (let i = 0; i < 10; i++) reader.push(piece);
  }).toThrow("more than 8388608 bytes");
});

test("a watch's events are read line by line, whatever pieces they come in", () => {
  fc.assert(
    fc.property(
      fc.array(fc.jsonValue(), { maxLength: 8 }),
      fc.array(fc.nat(2000), { maxLength: 20 }),
      (events, cuts) => {
        const lines = new WatchLines();
        const text = events.map((event) => `${JSON.stringify(event)}\n`).join("");
        const read = pieces(text, cuts).flatMap((piece) => lines.push(piece));
        expect(read).toEqual(JSON.parse(JSON.stringify(events)));
      },
    ),
  );
});

test("an event that is no JSON, or has no end, is refused", () => {
  expect(() => new WatchLines().push(Buffer.from("<html>\n"))).toThrow("not JSON");
  const lines = new WatchLines();
  const piece = Buffer.alloc(1024 * 1024, "a");
  expect(() => {
    for (let i = 0; i < 10; i++) lines.push(piece);
  }).toThrow("more than 8388608 bytes");
});
