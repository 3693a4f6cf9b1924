// SPDX-License-Identifier: Apache-2.0

/** Bytes as people write them: "02 20 00 00", spaces and line ends where they help. */
export function fromHex(text: string): Uint8Array {
  const digits = text.replaceAll(/\s/g, "");
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new TypeError(`not hex: ${text}`);
  return new Uint8Array(Buffer.from(digits, "hex"));
}

/** Bytes in words of four, each on its own line, so that a difference shows where it is. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString("hex")
    .replaceAll(/(.{8})(?=.)/g, "$1\n");
}
