// SPDX-License-Identifier: Apache-2.0
//
// Subnets: what a node owns and what a route leads to. For the daemon and the operator's commands; the plugin never
// loads this file.
import { Address4, Address6 } from "ip-address";
import { type Family, familyOf, formatAddress, hostLength, parseAddress } from "./address.ts";

/** A block of addresses. Two equal prefixes have equal text (`formatPrefix`), so the text can be a key. */
export interface Prefix {
  readonly family: Family;
  /** The first address of the block, as a number. */
  readonly base: bigint;
  /** 0 to 32 or 128. */
  readonly length: number;
}

/** Text that is not a subnet. `value` is the text; `code` is stable. */
export class PrefixError extends Error {
  override readonly name = "PrefixError";
  readonly code: "PREFIX_INVALID" | "PREFIX_HOST_BITS";
  readonly value: string;
  constructor(code: PrefixError["code"], value: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.value = value;
  }
}

/**
 * "10.244.1.0/24" or "fd00:10:244:1::/64" to a prefix. Bits behind the length must be zero: a subnet written with them is
 * a typing error more often than not, and hiding it hides the wrong subnet.
 * @throws PrefixError
 */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf("/");
  const invalid = (cause?: unknown) =>
    new PrefixError("PREFIX_INVALID", text, `${JSON.stringify(text)} is not a subnet like 10.244.1.0/24`, cause);
  // Like an octet, a length has no leading zero: to some readers it would be octal.
  if (slash < 0 || !/^\/(0|[1-9]\d{0,2})$/.test(text.slice(slash))) throw invalid();
  let address: Uint8Array;
  try {
    address = parseAddress(text.slice(0, slash));
  } catch (cause) {
    throw invalid(cause);
  }
  const family = familyOf(address);
  const length = Number(text.slice(slash + 1));
  if (length > hostLength(family)) throw invalid();
  const base = bytesToBigint(address);
  if ((base & ((1n << BigInt(hostLength(family) - length)) - 1n)) !== 0n) {
    // Only for people, and only here: the library takes a hundred times as long as all of the above.
    const first = (family === 4 ? new Address4(text) : new Address6(text)).startAddress();
    const meant = `${first.correctForm()}/${length}`;
    throw new PrefixError("PREFIX_HOST_BITS", text, `${text} has host bits set; the subnet is ${meant}`);
  }
  return { family, base, length };
}

/** Canonical text of a prefix. */
export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefixBytes(prefix))}/${prefix.length}`;
}

/** The first address of the block in network order, the form of RTA_DST. */
export function prefixBytes(prefix: Prefix): Uint8Array {
  return bigintToBytes(prefix.base, prefix.family);
}

/** The address that is `index` after the first one of the block, as bytes. The caller keeps `index` inside the block. */
export function addressAt(prefix: Prefix, index: bigint): Uint8Array {
  return bigintToBytes(prefix.base + index, prefix.family);
}

/** How many addresses the block has. */
export function prefixSize(prefix: Prefix): bigint {
  return 1n << BigInt(hostLength(prefix.family) - prefix.length);
}

/** Where in the block the address is, or undefined when it is not in it. */
export function indexOf(prefix: Prefix, address: Uint8Array): bigint | undefined {
  if ((address.length === 4 ? 4 : 6) !== prefix.family) return undefined;
  const index = bytesToBigint(address) - prefix.base;
  return index >= 0n && index < prefixSize(prefix) ? index : undefined;
}

/** Whether two blocks share an address. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return a.family === b.family && a.base < b.base + prefixSize(b) && b.base < a.base + prefixSize(a);
}

/** An address as a number. */
export function addressNumber(address: Uint8Array): bigint {
  return bytesToBigint(address);
}

/** Whether all of one block is in another. */
export function isWithin(outer: Prefix, inner: Prefix): boolean {
  return inner.length >= outer.length && overlaps(outer, inner);
}

/** The block of that length that the address is in. */
export function maskedPrefix(address: Uint8Array, length: number): Prefix {
  const family = familyOf(address);
  const behind = BigInt(hostLength(family) - length);
  return { family, base: (bytesToBigint(address) >> behind) << behind, length };
}

/** The prefix of one address. */
export function hostPrefix(address: Uint8Array): Prefix {
  const family = address.length === 4 ? 4 : 6;
  return { family, base: bytesToBigint(address), length: hostLength(family) };
}

function bytesToBigint(bytes: Uint8Array): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length === 4) return BigInt(view.getUint32(0));
  return (view.getBigUint64(0) << 64n) | view.getBigUint64(8);
}

function bigintToBytes(value: bigint, family: Family): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  const view = new DataView(bytes.buffer);
  if (family === 4) view.setUint32(0, Number(value));
  else {
    view.setBigUint64(0, value >> 64n);
    view.setBigUint64(8, value & 0xffff_ffff_ffff_ffffn);
  }
  return bytes;
}
