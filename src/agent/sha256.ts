// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";

/** The hash that names follow from, as the plugin makes it (src/net/sha256.ts), by what Node has of its own. */
export function sha256(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
