// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 (FIPS 180-4) of short texts: names follow from it, and the plugin's runtime has none of its own.

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes (section 4.2.2). */
const K: readonly number[] = [
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
  0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
  0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
  0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
  0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
  0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
  0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
  0xc67178f2,
];

const BLOCK = 64;

/** The 32 bytes of the hash of a text's UTF-8. */
export function sha256(text: string): Uint8Array {
  const message = padded(new TextEncoder().encode(text));
  // The first 32 bits of the fractional parts of the square roots of the first eight primes (section 5.3.3).
  const hash = Int32Array.of(
    0x6a09e667,
    0xbb67ae85,
    0x3c6ef372,
    0xa54ff53a,
    0x510e527f,
    0x9b05688c,
    0x1f83d9ab,
    0x5be0cd19,
  );
  const view = new DataView(message.buffer);
  const schedule = new Int32Array(64);
  for (let at = 0; at < message.length; at += BLOCK) {
    for (let t = 0; t < 16; t++) schedule[t] = view.getInt32(at + 4 * t);
    compress(hash, schedule);
  }
  const bytes = new Uint8Array(32);
  const out = new DataView(bytes.buffer);
  for (const [at, word] of hash.entries()) out.setInt32(4 * at, word);
  return bytes;
}

/** The message, a one bit, zeros, and the message's length in bits as 64 bits: whole blocks (section 5.1.1). */
function padded(bytes: Uint8Array): Uint8Array {
  const message = new Uint8Array(Math.ceil((bytes.length + 9) / BLOCK) * BLOCK);
  message.set(bytes);
  message[bytes.length] = 0x80;
  const view = new DataView(message.buffer);
  view.setUint32(message.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(message.length - 4, bytes.length << 3);
  return message;
}

/** One block into the hash. The first 16 words of the schedule are the block (section 6.2.2). */
function compress(hash: Int32Array, w: Int32Array): void {
  for (let t = 16; t < 64; t++) {
    const [near, far] = [w[t - 2] as number, w[t - 15] as number];
    const s1 = rotated(near, 17) ^ rotated(near, 19) ^ (near >>> 10);
    const s0 = rotated(far, 7) ^ rotated(far, 18) ^ (far >>> 3);
    w[t] = s1 + (w[t - 7] as number) + s0 + (w[t - 16] as number);
  }
  let [a, b, c, d, e, f, g, h] = hash as unknown as [number, number, number, number, number, number, number, number];
  for (let t = 0; t < 64; t++) {
    const s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
    const one = (h + s1 + ((e & f) ^ (~e & g)) + (K[t] as number) + (w[t] as number)) | 0;
    const s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
    const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + one) | 0;
    d = c;
    c = b;
    b = a;
    a = (one + two) | 0;
  }
  for (const [at, word] of [a, b, c, d, e, f, g, h].entries()) hash[at] = (hash[at] as number) + word;
}

const rotated = (word: number, by: number): number => (word >>> by) | (word << (32 - by));
