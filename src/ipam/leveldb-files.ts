// SPDX-License-Identifier: Apache-2.0
//
// LevelDB's files, as far as telling sound ones from damaged ones needs it. LevelDB has a checksum on everything it writes
// and doesn't look at most of them: opening a database skips damaged records of its log in silence, and reading takes a
// block as it is. So they are looked at here, before it is opened. Formats: doc/log_format.md and doc/table_format.md of
// LevelDB, version_edit.cc, and format_description.txt of Snappy.

/** Something that is not as LevelDB wrote it; empty text never. */
export type Problem = string;

const TABLE = new Uint32Array(256).map((_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc;
});

/** CRC-32C (Castagnoli; RFC 3720, appendix B.4). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) {
    crc = (TABLE[(crc ^ (bytes[i] as number)) & 0xff] as number) ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** How LevelDB stores a checksum (util/crc32c.h). */
export function masked(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** What a log says: the write-ahead log and the manifest have one format. */
export interface LogContent {
  /** Whole records in their order. */
  readonly records: readonly Uint8Array[];
  /** The first thing that is wrong. A file that ends within a record is not: its writer was killed there. */
  readonly problem: Problem | undefined;
}

const LOG_BLOCK = 32_768;
const LOG_HEADER = 7;
const LOG_FULL = 1;
const LOG_FIRST = 2;
const LOG_MIDDLE = 3;
const LOG_LAST = 4;

export function readLog(bytes: Uint8Array): LogContent {
  const view = viewOf(bytes);
  const records: Uint8Array[] = [];
  let parts: Uint8Array[] = [];
  const wrong = (at: number, what: string): LogContent => ({ records, problem: `at byte ${at}: ${what}` });
  for (let start = 0; start < bytes.length; start += LOG_BLOCK) {
    const end = Math.min(start + LOG_BLOCK, bytes.length);
    const isLast = end - start < LOG_BLOCK;
    let at = start;
    while (end - at >= LOG_HEADER) {
      const length = view.getUint16(at + 4, true);
      const type = bytes[at + 6] as number;
      const next = at + LOG_HEADER + length;
      if (next > end) {
        if (isLast) return { records, problem: undefined };
        return wrong(at, "a record that is longer than its block");
      }
      if (view.getUint32(at, true) !== masked(crc32c(bytes.subarray(at + 6, next)))) {
        return wrong(at, "a record whose checksum is wrong");
      }
      const data = bytes.subarray(at + LOG_HEADER, next);
      const begins = type === LOG_FULL || type === LOG_FIRST;
      if ((!begins && type !== LOG_MIDDLE && type !== LOG_LAST) || begins !== (parts.length === 0)) {
        return wrong(at, `a record of type ${type} where none can be`);
      }
      parts.push(data);
      if (type === LOG_FULL || type === LOG_LAST) {
        records.push(parts.length === 1 ? data : Buffer.concat(parts));
        parts = [];
      }
      at = next;
    }
  }
  return { records, problem: undefined };
}

/** What a manifest says is in use. */
export interface ManifestContent {
  /** Numbers of tables. */
  readonly tables: ReadonlySet<number>;
  /** The oldest log that is not in tables yet; 0 in a database that was never open to its end. */
  readonly logNumber: number;
  /** Another one, from old versions of LevelDB; 0 for none. */
  readonly prevLogNumber: number;
}

/** @returns what is wrong with it where something is */
export function readManifest(bytes: Uint8Array): ManifestContent | Problem {
  const { records, problem } = readLog(bytes);
  if (problem !== undefined) return problem;
  const tables = new Set<number>();
  const numbers = { logNumber: 0, prevLogNumber: 0 };
  if (records.length === 0) return "it has no record";
  for (const record of records) {
    const reader = new Reader(record);
    while (!reader.atEnd && !reader.failed) {
      const tag = reader.varint();
      if (tag === 1) reader.skipText();
      else if (tag === 2) numbers.logNumber = reader.varint();
      else if (tag === 3 || tag === 4) reader.varint();
      else if (tag === 5) {
        reader.varint();
        reader.skipText();
      } else if (tag === 6) {
        reader.varint();
        tables.delete(reader.varint());
      } else if (tag === 7) {
        reader.varint();
        tables.add(reader.varint());
        reader.varint();
        reader.skipText();
        reader.skipText();
      } else if (tag === 9) numbers.prevLogNumber = reader.varint();
      else return `it has a field ${tag} that there is none of`;
    }
    if (reader.failed) return "one of its records is cut short";
  }
  return { tables, ...numbers };
}

/** Where a block is in a table: `size` bytes, then its type and its checksum. */
export interface BlockHandle {
  readonly offset: number;
  readonly size: number;
}

export interface TableCheck {
  /** Blocks of data whose checksum is wrong; the others can be read. */
  readonly damaged: readonly BlockHandle[];
  /** Nothing of the table can be relied on. */
  readonly problem: Problem | undefined;
}

const FOOTER = 48;
const BLOCK_TRAILER = 5;
const MAGIC = Uint8Array.of(0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb);

export function checkTable(bytes: Uint8Array): TableCheck {
  const broken = (problem: Problem): TableCheck => ({ damaged: [], problem });
  if (bytes.length < FOOTER) return broken("it is too short for a table");
  const footer = bytes.subarray(bytes.length - FOOTER);
  if (!MAGIC.every((byte, i) => footer[40 + i] === byte)) return broken("its end is not that of a table");
  const reader = new Reader(footer.subarray(0, 40));
  const metaindex = readHandle(reader);
  const index = readHandle(reader);
  if (reader.failed || !isSound(bytes, metaindex) || !isSound(bytes, index)) {
    return broken("the checksum of its index is wrong");
  }
  const handles = handlesIn(bytes, index);
  if (handles === undefined) return broken("its index makes no sense");
  return { damaged: handles.filter((handle) => !isSound(bytes, handle)), problem: undefined };
}

function readHandle(reader: Reader): BlockHandle {
  return { offset: reader.varint(), size: reader.varint() };
}

function isSound(bytes: Uint8Array, { offset, size }: BlockHandle): boolean {
  const end = offset + size;
  if (end + BLOCK_TRAILER > bytes.length) return false;
  return viewOf(bytes).getUint32(end + 1, true) === masked(crc32c(bytes.subarray(offset, end + 1)));
}

/** The handles that an index block has as its values. */
function handlesIn(bytes: Uint8Array, { offset, size }: BlockHandle): BlockHandle[] | undefined {
  const raw = bytes.subarray(offset, offset + size);
  const block = bytes[offset + size] === 1 ? uncompress(raw) : raw;
  if (block === undefined || block.length < 4) return undefined;
  const restarts = viewOf(block).getUint32(block.length - 4, true);
  const end = block.length - 4 - 4 * restarts;
  if (end < 0) return undefined;
  const handles: BlockHandle[] = [];
  const reader = new Reader(block.subarray(0, end));
  while (!reader.atEnd && !reader.failed) {
    reader.varint();
    const keyLength = reader.varint();
    const valueLength = reader.varint();
    reader.take(keyLength);
    handles.push(readHandle(new Reader(reader.take(valueLength))));
  }
  return reader.failed ? undefined : handles;
}

/** Snappy's raw format. @returns undefined when it isn't that */
function uncompress(input: Uint8Array): Uint8Array | undefined {
  const reader = new Reader(input);
  const output = new Uint8Array(Math.min(reader.varint(), 64 * 1024 * 1024));
  let at = 0;
  while (!reader.atEnd && !reader.failed) {
    const tag = reader.byte();
    if ((tag & 3) === 0) {
      const short = tag >>> 2;
      const length = 1 + (short < 60 ? short : reader.littleEndian(short - 59));
      const literal = reader.take(length);
      if (at + literal.length > output.length) return undefined;
      output.set(literal, at);
      at += literal.length;
      continue;
    }
    let length = 1 + (tag >>> 2);
    let distance: number;
    if ((tag & 3) === 1) {
      length = 4 + ((tag >>> 2) & 7);
      distance = ((tag >>> 5) << 8) | reader.byte();
    } else distance = reader.littleEndian((tag & 3) === 2 ? 2 : 4);
    if (distance === 0 || distance > at || at + length > output.length) return undefined;
    // Byte by byte: it may overlap itself.
    for (const end = at + length; at < end; at++) output[at] = output[at - distance] as number;
  }
  return reader.failed || at !== output.length ? undefined : output;
}

/** Reads on and on; past the end it gives zeros and remembers it. */
class Reader {
  failed = false;
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) this.failed = true;
    return byte ?? 0;
  }

  littleEndian(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) value += this.byte() * 2 ** (8 * i);
    return value;
  }

  /** Up to 53 bits: no file of ours has more of anything. */
  varint(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    if (!Number.isSafeInteger(value)) this.failed = true;
    return this.failed ? 0 : value;
  }

  take(count: number): Uint8Array {
    const taken = this.#bytes.subarray(this.#at, this.#at + count);
    if (taken.length < count) this.failed = true;
    this.#at += count;
    return taken;
  }

  skipText(): void {
    this.take(this.varint());
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
