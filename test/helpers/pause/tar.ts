// SPDX-License-Identifier: Apache-2.0
//
// Writes tar archives of a few small files, enough for a container image.

/** A file or, when `content` is missing, a directory. Paths are relative, of 100 bytes at most, without a leading slash. */
export interface TarEntry {
  readonly path: string;
  readonly mode: number;
  readonly content?: Uint8Array;
}

const BLOCK = 512;

/** A POSIX ustar archive (IEEE Std 1003.1, pax). Everything belongs to root and dates from 1970, so equal input gives equal bytes. */
export function tar(entries: readonly TarEntry[]): Uint8Array {
  const blocks: Uint8Array[] = [];
  for (const entry of entries) {
    const size = entry.content?.length ?? 0;
    blocks.push(header(entry, size));
    if (entry.content !== undefined) {
      blocks.push(entry.content, Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK));
    }
  }
  blocks.push(Buffer.alloc(2 * BLOCK));
  return Buffer.concat(blocks);
}

function header(entry: TarEntry, size: number): Uint8Array {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, offset: number, digits: number) =>
    block.write(`${value.toString(8).padStart(digits, "0")}\0`, offset, "latin1");
  if (Buffer.byteLength(entry.path) > 100) throw new RangeError(`path is too long for ustar: ${entry.path}`);
  block.write(entry.path, 0);
  octal(entry.mode, 100, 7);
  octal(0, 108, 7); // uid
  octal(0, 116, 7); // gid
  octal(size, 124, 11);
  octal(0, 136, 11); // mtime
  block.write(entry.content === undefined ? "5" : "0", 156, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  // The checksum counts its own eight bytes as blanks.
  block.write("        ", 148, "latin1");
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  );
  return block;
}
