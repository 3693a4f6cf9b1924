// SPDX-License-Identifier: Apache-2.0
//
// The first bytes of an IP packet, as far as they say between whom it is.
import type { Family } from "../net/address.ts";

/** Who sends what to whom. */
export interface PacketHead {
  readonly family: Family;
  /** 4 or 16 bytes. Views. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** IPPROTO_* number; behind IPv6's extension headers. */
  readonly protocol: number;
  /** Of TCP, UDP and SCTP; undefined where there are none, as in fragments but the first. */
  readonly ports: { readonly source: number; readonly destination: number } | undefined;
}

const WITH_PORTS = new Set([6, 17, 132]);
/** Hop-by-hop options, routing, destination options: a next header, and a length in units of 8 bytes but the first. */
const EXTENSIONS = new Set([0, 43, 60]);
const FRAGMENT = 44;

/** undefined for what is cut off before its addresses, or no IP packet. */
export function parsePacketHead(bytes: Uint8Array): PacketHead | undefined {
  const version = (bytes[0] ?? 0) >> 4;
  if (version === 4) return parseV4(bytes);
  return version === 6 ? parseV6(bytes) : undefined;
}

function parseV4(bytes: Uint8Array): PacketHead | undefined {
  if (bytes.length < 20) return undefined;
  const protocol = bytes[9] as number;
  const isFirst = (u16(bytes, 6) & 0x1fff) === 0;
  const at = ((bytes[0] as number) & 0x0f) * 4;
  return {
    family: 4,
    source: bytes.subarray(12, 16),
    destination: bytes.subarray(16, 20),
    protocol,
    ports: isFirst ? portsAt(bytes, at, protocol) : undefined,
  };
}

function parseV6(bytes: Uint8Array): PacketHead | undefined {
  if (bytes.length < 40) return undefined;
  let protocol = bytes[6] as number;
  let at = 40;
  let isFirst = true;
  while (at + 8 <= bytes.length) {
    if (EXTENSIONS.has(protocol)) {
      const length = 8 + 8 * (bytes[at + 1] as number);
      protocol = bytes[at] as number;
      at += length;
    } else if (protocol === FRAGMENT) {
      isFirst &&= (u16(bytes, at + 2) & 0xfff8) === 0;
      protocol = bytes[at] as number;
      at += 8;
    } else break;
  }
  return {
    family: 6,
    source: bytes.subarray(8, 24),
    destination: bytes.subarray(24, 40),
    protocol,
    ports: isFirst ? portsAt(bytes, at, protocol) : undefined,
  };
}

function portsAt(bytes: Uint8Array, at: number, protocol: number): PacketHead["ports"] {
  if (!WITH_PORTS.has(protocol) || at + 4 > bytes.length) return undefined;
  return { source: u16(bytes, at), destination: u16(bytes, at + 2) };
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}
