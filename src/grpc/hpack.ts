// SPDX-License-Identifier: Apache-2.0
//
// Header blocks of HTTP/2 (HPACK, RFC 7541) for a connection without dynamic tables: we announce
// SETTINGS_HEADER_TABLE_SIZE 0 and never index what we send, so both directions are free of state. Everything a peer says
// is bounded. Part of the plugin's hot path: a process decodes two header blocks in its life, so the tables are strings that
// are searched as they are, nothing is built from them, and no regular expression is loaded.

/** One field. A received value has one character a byte (0 to 255). */
export type HeaderField = readonly [name: string, value: string];

/**
 * A header block that cannot be read or written. HPACK_BLOCK: the peer's block is malformed. HPACK_TOO_LARGE: it is larger
 * than MAX_HEADER_LIST. HPACK_FIELD: we were asked to send a field that HTTP/2 or gRPC does not allow.
 */
export class HpackError extends Error {
  override readonly name = "HpackError";
  readonly code: "HPACK_BLOCK" | "HPACK_TOO_LARGE" | "HPACK_FIELD";
  constructor(code: HpackError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Bytes of the largest header list we read, counted as SETTINGS_MAX_HEADER_LIST_SIZE does: 32 a field, plus name and value.
 * A header block may not be longer either.
 */
export const MAX_HEADER_LIST = 65536;

/** RFC 7541, appendix A, from index 1: name, and after a space the value. */
const STATIC_TABLE =
  ":authority\n:method GET\n:method POST\n:path /\n:path /index.html\n:scheme http\n:scheme https\n:status 200\n" +
  ":status 204\n:status 206\n:status 304\n:status 400\n:status 404\n:status 500\naccept-charset\n" +
  "accept-encoding gzip, deflate\naccept-language\naccept-ranges\naccept\naccess-control-allow-origin\nage\nallow\n" +
  "authorization\ncache-control\ncontent-disposition\ncontent-encoding\ncontent-language\ncontent-length\n" +
  "content-location\ncontent-range\ncontent-type\ncookie\ndate\netag\nexpect\nexpires\nfrom\nhost\nif-match\n" +
  "if-modified-since\nif-none-match\nif-range\nif-unmodified-since\nlast-modified\nlink\nlocation\nmax-forwards\n" +
  "proxy-authenticate\nproxy-authorization\nrange\nreferer\nrefresh\nretry-after\nserver\nset-cookie\n" +
  "strict-transport-security\ntransfer-encoding\nuser-agent\nvary\nvia\nwww-authenticate";

let staticEntries: string[] | undefined;

/** The static table's entries, index 1 at position 0. */
function staticTable(): string[] {
  staticEntries ??= STATIC_TABLE.split("\n");
  return staticEntries;
}

/** How many entries, all of pseudo-headers, are before the first plain name. */
const PSEUDO_ENTRIES = 14;

/**
 * A header block of the fields, in their order: literals that are never indexed and not Huffman-coded, or a reference where
 * the static table has the whole field.
 * @throws HpackError HPACK_FIELD for a name that is not lower case, or a value that is not printable ASCII
 */
export function encodeHeaderBlock(fields: readonly HeaderField[]): Uint8Array {
  const table = staticTable();
  const out: number[] = [];
  for (const [name, value] of fields) {
    const exact = value === "" ? -1 : table.indexOf(`${name} ${value}`);
    if (exact >= 0) {
      out.push(0x80 | (exact + 1)); // section 6.1; the table has 61 entries, so the index always fits
      continue;
    }
    const named = positionOfName(table, name);
    pushInteger(out, 0x00, 4, named + 1); // section 6.2.2, literal without indexing; 0 means that the name follows
    if (named < 0) pushName(out, name);
    pushValue(out, name, value);
  }
  return new Uint8Array(out);
}

/** Where the static table has the name, or -1. It has that of a pseudo-header with values only. */
function positionOfName(table: string[], name: string): number {
  const position = table.indexOf(name);
  if (position >= 0 || !name.startsWith(":")) return position;
  const prefix = `${name} `;
  for (let i = 0; i < PSEUDO_ENTRIES; i++) if (table[i]?.startsWith(prefix)) return i;
  return -1;
}

function pushName(out: number[], name: string): void {
  let good = name !== "" && name !== ":";
  pushInteger(out, 0x00, 7, name.length);
  for (let i = 0; i < name.length; i++) {
    const c = name.charCodeAt(i);
    // a-z, 0-9, "-", "_", "."; ":" begins a pseudo-header.
    good &&= (c >= 97 && c <= 122) || (c >= 48 && c <= 57) || c === 45 || c === 46 || c === 95 || (c === 58 && i === 0);
    out.push(c);
  }
  if (!good) throw new HpackError("HPACK_FIELD", `${JSON.stringify(name)} is not the name of a header field`);
}

function pushValue(out: number[], name: string, value: string): void {
  pushInteger(out, 0x00, 7, value.length);
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    if (c < 0x20 || c > 0x7e) {
      const shown = JSON.stringify(value);
      throw new HpackError("HPACK_FIELD", `value of header field ${name} is not printable ASCII: ${shown}`);
    }
    out.push(c);
  }
}

/** Section 5.1: an integer whose first byte has `prefix` bits for it, under the bits of `pattern`. */
function pushInteger(out: number[], pattern: number, prefix: number, value: number): void {
  const limit = (1 << prefix) - 1;
  if (value < limit) {
    out.push(pattern | value);
    return;
  }
  out.push(pattern | limit);
  let rest = value - limit;
  for (; rest >= 0x80; rest >>>= 7) out.push((rest & 0x7f) | 0x80);
  out.push(rest);
}

/**
 * The fields of a whole header block (HEADERS and its CONTINUATIONs), in their order.
 * @throws HpackError HPACK_BLOCK, HPACK_TOO_LARGE
 */
export function decodeHeaderBlock(block: Uint8Array): HeaderField[] {
  if (block.length > MAX_HEADER_LIST) throw tooLarge();
  const table = staticTable();
  const fields: HeaderField[] = [];
  const cursor = { block, at: 0 };
  let size = 0;
  while (cursor.at < block.length) {
    const first = block[cursor.at] as number;
    let name: string;
    let value: string;
    if (first & 0x80) {
      // Section 6.1: a whole field of the table.
      const index = staticIndex(readInteger(cursor, 7));
      if (index < 0) throw malformed("an index of 0");
      const entry = table[index] as string;
      name = nameOf(entry);
      value = entry.slice(name.length + 1);
    } else if ((first & 0xe0) === 0x20) {
      // Section 6.3: at the beginning of a block only, and not above what we announced.
      const tableSize = readInteger(cursor, 5);
      if (fields.length > 0) throw malformed("a table size update behind a field");
      if (tableSize !== 0) throw malformed(`a table size update to ${tableSize}, above the 0 we announced`);
      continue;
    } else {
      // Section 6.2: a literal. A peer may ask to index it (first bits 01); in a table of size 0 that leaves nothing behind.
      const index = staticIndex(readInteger(cursor, first & 0x40 ? 6 : 4));
      name = index < 0 ? readString(cursor) : nameOf(table[index] as string);
      value = readString(cursor);
    }
    size += 32 + name.length + value.length;
    if (size > MAX_HEADER_LIST) throw tooLarge();
    fields.push([name, value]);
  }
  return fields;
}

/** The name of an entry of the static table. */
function nameOf(entry: string): string {
  const space = entry.indexOf(" ");
  return space < 0 ? entry : entry.slice(0, space);
}

interface Cursor {
  readonly block: Uint8Array;
  at: number;
}

/** Position in the static table of a field's index, -1 for index 0. */
function staticIndex(index: number): number {
  if (index > 61) throw malformed(`index ${index} into a dynamic table, which has size 0`);
  return index - 1;
}

function readInteger(cursor: Cursor, prefix: number): number {
  const { block } = cursor;
  const limit = (1 << prefix) - 1;
  let value = (block[cursor.at++] as number) & limit;
  if (value < limit) return value;
  for (let shift = 0; ; shift += 7) {
    const byte = block[cursor.at++];
    if (byte === undefined) throw malformed("an integer that does not end");
    // Four bytes say more than any length or index that can be right here, and stay far from overflow.
    if (shift > 21) throw malformed("an integer of more than four further bytes");
    value += (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

function readString(cursor: Cursor): string {
  const { block } = cursor;
  const first = block[cursor.at];
  if (first === undefined) throw malformed("a field that does not end");
  const length = readInteger(cursor, 7);
  const end = cursor.at + length;
  if (end > block.length) throw malformed(`a string of ${length} bytes, longer than the block`);
  const start = cursor.at;
  cursor.at = end;
  if (first & 0x80) return decodeHuffman(block, start, end);
  let text = "";
  for (let i = start; i < end; i++) text += String.fromCharCode(block[i] as number);
  return text;
}

function malformed(what: string): HpackError {
  return new HpackError("HPACK_BLOCK", `header block has ${what}`);
}

function tooLarge(): HpackError {
  return new HpackError("HPACK_TOO_LARGE", `headers larger than ${MAX_HEADER_LIST} bytes`);
}

/**
 * RFC 7541, appendix B, which is a canonical Huffman code: codes of one length are consecutive, and the first one of a length
 * follows from the last one before. So it is enough to know how many codes have each length, from 0 to 30 bits, ...
 */
const HUFFMAN_COUNTS = [
  0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4,
];

/** ... and the symbols in the order of their codes. Behind the last one is EOS, which is never sent. */
const HUFFMAN_SYMBOLS =
  "012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz" +
  "&*,;XZ!\"()?'+|#>\x00$@[]~^}<`{\\\xc3\xd0" +
  "\x80\x82\x83\xa2\xb8\xc2\xe0\xe2\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6\x81\x84\x85\x86\x88" +
  "\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9\x01\x87\x89\x8a\x8b" +
  "\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef\x09\x8e" +
  "\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed\xc7\xcf\xea\xeb\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0" +
  "\xf2\xf3\xff\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe\x02\x03\x04\x05" +
  "\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9\x0a" +
  "\x0d\x16";

/** Section 5.2: the text of a Huffman-coded string, which ends in less than a byte of ones. */
function decodeHuffman(block: Uint8Array, start: number, end: number): string {
  let text = "";
  let code = 0;
  let length = 0;
  let first = 0; // the first code of the length so far
  let position = 0; // of its symbol
  for (let i = start; i < end; i++) {
    const byte = block[i] as number;
    for (let bit = 7; bit >= 0; bit--) {
      const shorter = HUFFMAN_COUNTS[length++] as number;
      code = (code << 1) | ((byte >> bit) & 1);
      first = (first + shorter) << 1;
      position += shorter;
      // The code is complete, so a length of 30 is never gone beyond.
      if (code - first >= (HUFFMAN_COUNTS[length] as number)) continue;
      const symbol = HUFFMAN_SYMBOLS[position + code - first];
      if (symbol === undefined) throw malformed("an EOS symbol in a Huffman-coded string");
      text += symbol;
      code = 0;
      length = 0;
      first = 0;
      position = 0;
    }
  }
  if (length > 7 || code !== (1 << length) - 1) throw malformed("a Huffman-coded string with wrong padding");
  return text;
}
