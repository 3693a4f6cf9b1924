// SPDX-License-Identifier: Apache-2.0
//
// What two daemons say to each other over UDP: a question of 32 bytes, and the same bytes back as the answer. Pure.
//
//   0  "flatnet?" or "flatnet!"
//   8  version, 1; then zeros up to 16
//  16  a number that only the asker knows (8 bytes), then zeros up to 32
//
// An answer is never longer than its question, so nobody can be flooded by way of a daemon.

/** UDP port of every daemon, at the node's addresses and at the first address of each of its subnets. */
export const PROBE_PORT = 26220;

export const DATAGRAM_BYTES = 32;

const QUESTION = new TextEncoder().encode("flatnet?");
const ANSWER = new TextEncoder().encode("flatnet!");
const VERSION = 1;

/** @param nonce 8 bytes that nobody can guess */
export function questionOf(nonce: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(DATAGRAM_BYTES);
  bytes.set(QUESTION);
  bytes[8] = VERSION;
  bytes.set(nonce, 16);
  return bytes;
}

/** The answer to a datagram; undefined when it is no question of a version that is known. */
export function answerTo(datagram: Uint8Array): Uint8Array | undefined {
  if (!isOf(datagram, QUESTION)) return undefined;
  const bytes = datagram.slice();
  bytes.set(ANSWER);
  return bytes;
}

/** The number in an answer, in hex; undefined when it is none. */
export function nonceIn(datagram: Uint8Array): string | undefined {
  return isOf(datagram, ANSWER) ? hexOf(datagram.subarray(16, 24)) : undefined;
}

export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function isOf(datagram: Uint8Array, magic: Uint8Array): boolean {
  return (
    datagram.length === DATAGRAM_BYTES && datagram[8] === VERSION && magic.every((byte, i) => datagram[i] === byte)
  );
}
