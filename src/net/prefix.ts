// SPDX-License-Identifier: Apache-2.0
//
// Subnets: what a node owns and what a route leads to. For the daemon and the operator's commands; the plugin never
// loads this file.
import { Address4, Address6 } from "ip-address";
import { type Family, formatAddress, hostLength, parseAddress } from "./address.ts";

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
  if (slash < 0 || text.includes("%") || !/^\/(0|[1-9]\d{0,2})$/.test(text.slice(slash))) throw invalid();
  let address: Address4 | Address6;
  try {
    parseAddress(text.slice(0, slash));
    address = text.includes(":") ? new Address6(text) : new Address4(text);
  } catch (cause) {
    throw invalid(cause);
  }
  const first = address.startAddress();
  if (first.bigInt() !== address.bigInt()) {
    const meant = `${first.correctForm()}/${address.subnetMask}`;
    throw new PrefixError("PREFIX_HOST_BITS", text, `${text} has host bits set; the subnet is ${meant}`);
  }
  return { family: address instanceof Address4 ? 4 : 6, base: first.bigInt(), length: address.subnetMask };
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

/** The prefix of one address. */
export function hostPrefix(address: Uint8Array): Prefix {
  const family = address.length === 4 ? 4 : 6;
  return { family, base: bytesToBigint(address), length: hostLength(family) };
}

function bytesToBigint(bytes: Uint8Array): bigint {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value;
}

function bigintToBytes(value: bigint, family: Family): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  for (let i = bytes.length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}
