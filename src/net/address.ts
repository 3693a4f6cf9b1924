// SPDX-License-Identifier: Apache-2.0
//
// IP addresses as bytes, the form they have in netlink and in headers. Written by hand because the plugin parses one or
// two addresses per start and can't afford a library's load time; prefix.ts, which only the daemon loads, uses one.

export type Family = 4 | 6;

/** Text that is not an IP address. `value` is the text. */
export class AddressError extends Error {
  override readonly name = "AddressError";
  readonly code = "ADDRESS_INVALID";
  readonly value: string;
  constructor(value: string) {
    super(`${JSON.stringify(value)} is not an IP address`);
    this.value = value;
  }
}

/** 4 for a 4-byte address, 6 for a 16-byte one. */
export function familyOf(address: Uint8Array): Family {
  return address.length === 4 ? 4 : 6;
}

/** Length in bits of an address of the family: the prefix length of a single host. */
export function hostLength(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/**
 * Text to 4 or 16 bytes in network order. Accepts dotted quads without leading zeros, and RFC 4291 section 2.2 forms
 * without a zone.
 * @throws AddressError
 */
export function parseAddress(text: string): Uint8Array {
  const bytes = text.includes(":") ? parseV6(text) : parseV4(text);
  if (bytes === undefined) throw new AddressError(text);
  return bytes;
}

function parseV4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    const part = parts[i] as string;
    const value = digits(part, 10, 3);
    // "010" is 8 to some parsers and 10 to others, so it is nothing here.
    if (value === undefined || value > 255 || (part.length > 1 && part[0] === "0")) return undefined;
    bytes[i] = value;
  }
  return bytes;
}

function parseV6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  // Only the last 32 bits can be a dotted quad: "1.2.3.4::" is no address.
  const head = groups(halves[0] as string, halves.length === 1);
  const tail = halves.length === 2 ? groups(halves[1] as string, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  // "::" stands for one group or more (RFC 5952 section 4.2.2 forbids writing it for one, not reading it).
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const bytes = new Uint8Array(16);
  const all = [...head, ...new Array<number>(missing).fill(0), ...tail];
  for (let i = 0; i < 8; i++) {
    bytes[2 * i] = (all[i] as number) >> 8;
    bytes[2 * i + 1] = (all[i] as number) & 0xff;
  }
  return bytes;
}

/** The 16-bit groups of one side of "::", the last possibly a dotted quad where the text ends the address. */
function groups(text: string, atEnd: boolean): number[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const out: number[] = [];
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] as string;
    if (atEnd && i === parts.length - 1 && part.includes(".")) {
      const quad = parseV4(part);
      if (quad === undefined) return undefined;
      out.push(((quad[0] as number) << 8) | (quad[1] as number), ((quad[2] as number) << 8) | (quad[3] as number));
      continue;
    }
    const value = digits(part, 16, 4);
    if (value === undefined) return undefined;
    out.push(value);
  }
  return out;
}

function digits(text: string, radix: 10 | 16, most: number): number | undefined {
  if (text.length === 0 || text.length > most) return undefined;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    let digit = -1;
    if (c >= 48 && c <= 57) digit = c - 48;
    else if (radix === 16 && c >= 97 && c <= 102) digit = c - 87;
    else if (radix === 16 && c >= 65 && c <= 70) digit = c - 55;
    if (digit < 0) return undefined;
    value = value * radix + digit;
  }
  return value;
}

/** The canonical text of 4 or 16 bytes: dotted quad, or RFC 5952 (lower case, the longest run of zeros as "::"). */
export function formatAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join(".");
  const out: number[] = [];
  for (let i = 0; i < 16; i += 2) out.push(((address[i] as number) << 8) | (address[i + 1] as number));
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && out[i + run] === 0) run++;
    if (run > length) {
      start = i;
      length = run;
    }
  }
  const text = (from: number, to: number) =>
    out
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(":");
  return start < 0 ? text(0, 8) : `${text(0, start)}::${text(start + length, 8)}`;
}
