// SPDX-License-Identifier: Apache-2.0
//
// Header blocks of HTTP/2 (HPACK, RFC 7541) for a connection without dynamic tables: we announce
// SETTINGS_HEADER_TABLE_SIZE 0 and never index what we send, so both directions are free of state. Everything a peer says
// is bounded. Part of the plugin's hot path: tables are built when first needed, and no regular expression is loaded.

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

let staticNames: string[] | undefined;
let staticValues: string[] = [];

function buildStaticTable(): string[] {
  const names = STATIC_TABLE.split("\n");
  staticValues = names.map(() => "");
  for (let i = 0; i < names.length; i++) {
    const entry = names[i] as string;
    const space = entry.indexOf(" ");
    if (space < 0) continue;
    names[i] = entry.slice(0, space);
    staticValues[i] = entry.slice(space + 1);
  }
  staticNames = names;
  return names;
}

/**
 * A header block of the fields, in their order: literals that are never indexed and not Huffman-coded, or a reference where
 * the static table has the whole field.
 * @throws HpackError HPACK_FIELD for a name that is not lower case, or a value that is not printable ASCII
 */
export function encodeHeaderBlock(fields: readonly HeaderField[]): Uint8Array {
  const names = staticNames ?? buildStaticTable();
  const out: number[] = [];
  for (const [name, value] of fields) {
    assertSendable(name, value);
    const first = names.indexOf(name);
    let exact = first;
    while (exact >= 0 && (names[exact] !== name || staticValues[exact] !== value)) {
      exact = names.indexOf(name, exact + 1);
    }
    if (exact >= 0 && value !== "") {
      out.push(0x80 | (exact + 1)); // section 6.1; the table has 61 entries, so the index always fits
      continue;
    }
    pushInteger(out, 0x00, 4, first + 1); // section 6.2.2, literal without indexing; 0 means that the name follows
    if (first < 0) pushString(out, name);
    pushString(out, value);
  }
  return new Uint8Array(out);
}

function assertSendable(name: string, value: string): void {
  let good = name !== "" && name !== ":";
  for (let i = 0; i < name.length && good; i++) {
    const c = name.charCodeAt(i);
    // a-z, 0-9, "-", "_", "."; ":" begins a pseudo-header.
    good = (c >= 97 && c <= 122) || (c >= 48 && c <= 57) || c === 45 || c === 46 || c === 95 || (c === 58 && i === 0);
  }
  if (!good) throw new HpackError("HPACK_FIELD", `${JSON.stringify(name)} is not the name of a header field`);
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    if (c < 0x20 || c > 0x7e) {
      throw new HpackError(
        "HPACK_FIELD",
        `value of header field ${name} is not printable ASCII: ${JSON.stringify(value)}`,
      );
    }
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

function pushString(out: number[], text: string): void {
  pushInteger(out, 0x00, 7, text.length);
  for (let i = 0; i < text.length; i++) out.push(text.charCodeAt(i));
}

/**
 * The fields of a whole header block (HEADERS and its CONTINUATIONs), in their order.
 * @throws HpackError HPACK_BLOCK, HPACK_TOO_LARGE
 */
export function decodeHeaderBlock(block: Uint8Array): HeaderField[] {
  if (block.length > MAX_HEADER_LIST) throw tooLarge();
  const names = staticNames ?? buildStaticTable();
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
      name = names[index] as string;
      value = staticValues[index] as string;
    } else if ((first & 0xe0) === 0x20) {
      // Section 6.3: at the beginning of a block only, and not above what we announced.
      const tableSize = readInteger(cursor, 5);
      if (fields.length > 0) throw malformed("a table size update behind a field");
      if (tableSize !== 0) throw malformed(`a table size update to ${tableSize}, above the 0 we announced`);
      continue;
    } else {
      // Section 6.2: a literal. A peer may ask to index it (first bits 01); in a table of size 0 that leaves nothing behind.
      const index = staticIndex(readInteger(cursor, first & 0x40 ? 6 : 4));
      name = index < 0 ? readString(cursor) : (names[index] as string);
      value = readString(cursor);
    }
    size += 32 + name.length + value.length;
    if (size > MAX_HEADER_LIST) throw tooLarge();
    fields.push([name, value]);
  }
  return fields;
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
 * RFC 7541, appendix B, which is a canonical Huffman code: codes of one length are consecutive in the order of their symbols,
 * so the lengths say everything. One base-36 digit a symbol, 0 to 255 and then EOS.
 */
const HUFFMAN_LENGTHS =
  "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca" +
  "d67777777777777777777777878djde6f56565666577666567655677777fbeds" +
  "kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn" +
  "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu";

interface HuffmanTable {
  /** How many codes have this length. */
  readonly counts: Uint16Array;
  /** Where in `symbols` the codes of this length begin. */
  readonly starts: Uint16Array;
  /** The symbols in the order of their codes. */
  readonly symbols: Uint16Array;
}

let huffman: HuffmanTable | undefined;

function buildHuffmanTable(): HuffmanTable {
  const counts = new Uint16Array(MAX_CODE + 1);
  const starts = new Uint16Array(MAX_CODE + 2);
  const symbols = new Uint16Array(257);
  const lengthOf = (symbol: number) => {
    const digit = HUFFMAN_LENGTHS.charCodeAt(symbol);
    return digit < 58 ? digit - 48 : digit - 87;
  };
  for (let symbol = 0; symbol < 257; symbol++) (counts[lengthOf(symbol)] as number) += 1;
  for (let length = 1; length <= MAX_CODE; length++) {
    starts[length + 1] = (starts[length] as number) + (counts[length] as number);
  }
  const next = starts.slice();
  for (let symbol = 0; symbol < 257; symbol++) {
    const length = lengthOf(symbol);
    symbols[next[length] as number] = symbol;
    (next[length] as number) += 1;
  }
  huffman = { counts, starts, symbols };
  return huffman;
}

/** Bits of the longest code. */
const MAX_CODE = 30;
/** The symbol that ends a string and is never sent. */
const EOS = 256;

/** Section 5.2: the text of a Huffman-coded string, which ends in less than a byte of ones. */
function decodeHuffman(block: Uint8Array, start: number, end: number): string {
  const { counts, starts, symbols } = huffman ?? buildHuffmanTable();
  let text = "";
  let code = 0;
  let length = 0;
  let first = 0; // the first code of the length so far
  for (let i = start; i < end; i++) {
    const byte = block[i] as number;
    for (let bit = 7; bit >= 0; bit--) {
      code = (code << 1) | ((byte >> bit) & 1);
      first = (first + (counts[length] as number)) << 1;
      length++;
      const offset = code - first;
      if (offset >= (counts[length] as number)) continue; // the code is complete, so this ends at length 30 at the latest
      const symbol = symbols[(starts[length] as number) + offset] as number;
      if (symbol === EOS) throw malformed("an EOS symbol in a Huffman-coded string");
      text += String.fromCharCode(symbol);
      code = 0;
      length = 0;
      first = 0;
    }
  }
  if (length > 7 || code !== (1 << length) - 1) throw malformed("a Huffman-coded string with wrong padding");
  return text;
}
