// SPDX-License-Identifier: Apache-2.0
import http2 from "node:http2";
import type net from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FRAME_HEADERS, FrameReader } from "./frames.ts";
import { decodeHeaderBlock, encodeHeaderBlock, type HeaderField, HpackError, MAX_HEADER_LIST } from "./hpack.ts";
import { drive, withRawServer } from "./test-server.ts";

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));
const codeOf = (call: () => unknown) => {
  try {
    call();
  } catch (error) {
    if (error instanceof HpackError) return error.code;
    throw error;
  }
  return undefined;
};

describe("the examples of RFC 7541, appendix C, that need no dynamic table are read", () => {
  const examples: [string, string, HeaderField[]][] = [
    ["C.2.1", "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", [["custom-key", "custom-header"]]],
    ["C.2.2", "040c 2f73 616d 706c 652f 7061 7468", [[":path", "/sample/path"]]],
    ["C.2.3", "1008 7061 7373 776f 7264 0673 6563 7265 74", [["password", "secret"]]],
    ["C.2.4", "82", [[":method", "GET"]]],
    [
      "C.3.1",
      "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      [
        [":method", "GET"],
        [":scheme", "http"],
        [":path", "/"],
        [":authority", "www.example.com"],
      ],
    ],
    [
      "C.4.1",
      "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
      [
        [":method", "GET"],
        [":scheme", "http"],
        [":path", "/"],
        [":authority", "www.example.com"],
      ],
    ],
    [
      "C.5.1",
      "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d" +
        "546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      [
        [":status", "302"],
        ["cache-control", "private"],
        ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
        ["location", "https://www.example.com"],
      ],
    ],
    [
      "C.6.1",
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7" +
        "8f0b 97c8 e9ae 82ae 43d3",
      [
        [":status", "302"],
        ["cache-control", "private"],
        ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
        ["location", "https://www.example.com"],
      ],
    ],
  ];
  test.each(examples)("%s", (_name, block, fields) => {
    expect(decodeHeaderBlock(hex(block))).toEqual(fields);
  });
});

test("a reference into the dynamic table, as in RFC 7541 C.3.2, is an error", () => {
  expect(codeOf(() => decodeHeaderBlock(hex("8286 84be 5808 6e6f 2d63 6163 6865")))).toBe("HPACK_BLOCK");
});

test("a literal that asks to be indexed leaves nothing behind", () => {
  const indexed = "4001 6101 62";
  expect(decodeHeaderBlock(hex(indexed))).toEqual([["a", "b"]]);
  expect(codeOf(() => decodeHeaderBlock(hex(`${indexed} be`)))).toBe("HPACK_BLOCK");
});

test("a table size update to 0 is taken at the beginning of a block, any number of times", () => {
  expect(decodeHeaderBlock(hex("2020 88"))).toEqual([[":status", "200"]]);
});

describe("a malformed block is an error", () => {
  test.each([
    ["index 0", "80"],
    ["an index behind the static table", "be"],
    ["a table size update above what was announced", "21 88"],
    ["a table size update behind a field", "88 20"],
    ["an integer that does not end", "ff ff"],
    ["an integer of too many bytes", "ff 8080 8080 8001"],
    ["a name that is missing", "00"],
    ["a value that is missing", "0001 61"],
    ["a string longer than the block", "0001 610a 62"],
    ["Huffman padding of a whole byte", "0001 6182 1fff"],
    ["Huffman padding that is not ones", "0001 6181 18"],
    ["an EOS symbol", "0001 6184 ffff ffff"],
  ])("%s", (_what, block) => {
    expect(codeOf(() => decodeHeaderBlock(hex(block)))).toBe("HPACK_BLOCK");
  });
});

describe("the Huffman codes of characters that no real server sends are those of RFC 7541, appendix B", () => {
  test.each([
    [0x00, 0x1ff8, 13],
    [0x01, 0x7fffd8, 23],
    [0x02, 0xfffffe2, 28],
    [0x08, 0xfffffe8, 28],
    [0x09, 0xffffea, 24],
    [0x0a, 0x3ffffffc, 30],
    [0x0b, 0xfffffe9, 28],
    [0x0d, 0x3ffffffd, 30],
    [0x0e, 0xfffffeb, 28],
    [0x16, 0x3ffffffe, 30],
    [0x1f, 0xffffffb, 28],
    [0x7f, 0xffffffc, 28],
  ])("%i", (symbol, code, length) => {
    const bits = code.toString(2).padStart(length, "0");
    const octets = bits.padEnd(Math.ceil(length / 8) * 8, "1").match(/.{8}/g) ?? [];
    const block = Uint8Array.of(0, 1, 0x61, 0x80 | octets.length, ...octets.map((octet) => Number.parseInt(octet, 2)));
    expect(decodeHeaderBlock(block)).toEqual([["a", String.fromCharCode(symbol)]]);
  });
});

test("headers beyond the announced list size are refused, however few bytes they need", () => {
  expect(codeOf(() => decodeHeaderBlock(new Uint8Array(MAX_HEADER_LIST / 32).fill(0x88)))).toBe("HPACK_TOO_LARGE");
  expect(codeOf(() => decodeHeaderBlock(new Uint8Array(MAX_HEADER_LIST + 1)))).toBe("HPACK_TOO_LARGE");
});

describe("a field that cannot be sent is refused", () => {
  test.each([
    ["an upper-case name", "Traceparent", "x"],
    ["an empty name", "", "x"],
    ["a name with a colon inside", "a:b", "x"],
    ["a value with a line end", "a", "x\r\nb: c"],
    ["a value beyond ASCII", "a", "ä"],
  ])("%s", (_what, name, value) => {
    expect(codeOf(() => encodeHeaderBlock([[name, value]]))).toBe("HPACK_FIELD");
  });
});

const KNOWN: HeaderField[] = [
  [":method", "POST"],
  [":method", "GET"],
  [":method", "PUT"],
  [":status", "200"],
  [":status", "418"],
  ["accept-encoding", "gzip, deflate"],
  ["www-authenticate", ""],
  ["te", "trailers"],
];
const NAME = fc
  .array(fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz0123456789-_."), { minLength: 1, maxLength: 300 })
  .map((characters) => characters.join(""));
const VALUE = fc.string({ unit: "grapheme-ascii", maxLength: 400 });
const FIELD = fc.oneof(
  fc.tuple(NAME, VALUE),
  fc.constantFrom(...KNOWN),
  fc.constantFrom(...KNOWN).chain(([name]) => fc.tuple(fc.constant(name), VALUE)),
);

test("what is encoded is decoded to the same fields", () => {
  fc.assert(
    fc.property(fc.array(FIELD, { maxLength: 20 }), (fields) => {
      expect(decodeHeaderBlock(encodeHeaderBlock(fields))).toEqual(fields);
    }),
  );
});

test("any bytes are fields or an HpackError, never anything else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (block) => {
      codeOf(() => decodeHeaderBlock(block));
    }),
    { numRuns: 2000 },
  );
});

/** The header blocks that a node:http2 server sends on stream 1 for these headers. */
async function blocksFromNode(headers: http2.OutgoingHttpHeaders): Promise<HeaderField[][]> {
  const server = http2.createServer((_request, response) => {
    response.stream.respond(headers, { endStream: true });
  });
  const { received } = await withRawServer((socketPath) => drive(socketPath), server as unknown as net.Server);
  const reader = new FrameReader();
  reader.push(received);
  const blocks: HeaderField[][] = [];
  for (let next = reader.next(); next !== undefined; next = reader.next()) {
    if (next.type === FRAME_HEADERS) blocks.push(decodeHeaderBlock(next.payload));
  }
  return blocks;
}

test("every character that node:http2 can send is read back, Huffman-coded and plain", async () => {
  // Many cheap letters around the rare character make Huffman coding pay; the character alone does not.
  const headers: Record<string, string> = { "content-type": "application/grpc" };
  for (let c = 0x21; c <= 0xff; c++) {
    if (c === 0x7f) continue;
    const character = String.fromCharCode(c);
    headers[`x-${c}-huffman`] = `${"a".repeat(12)}${character}${"e".repeat(12)}`;
    headers[`x-${c}-plain`] = character;
  }
  const [fields] = await blocksFromNode(headers);
  const received = Object.fromEntries(fields ?? []);
  for (const [name, value] of Object.entries(headers)) expect(received[name], name).toBe(value);
});

test("header values made by node:http2 are read back", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: fc.constantFrom(..."ab/0_-~#%\\{}<>|\xe4\xff"), minLength: 1, maxLength: 60 }), {
        maxLength: 20,
      }),
      async (values) => {
        const headers: Record<string, string> = { "content-type": "application/grpc" };
        values.forEach((value, i) => {
          headers[`x-${i}`] = value;
        });
        const [fields] = await blocksFromNode(headers);
        const received = Object.fromEntries(fields ?? []);
        for (const [name, value] of Object.entries(headers)) expect(received[name]).toBe(value);
      },
    ),
    { numRuns: 20 },
  );
});
