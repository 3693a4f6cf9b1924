// SPDX-License-Identifier: Apache-2.0

/** The checksum of SCTP packets (RFC 9260, appendix A); its own place has to hold zeros. It is sent with its low byte first. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return ~crc >>> 0;
}
