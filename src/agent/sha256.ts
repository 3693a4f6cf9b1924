// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";

/** The hash that names follow from, as the plugin makes it with Bun's. */
export function sha256(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
