// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";

/**
 * Of names that stand for what they name. 80 bits: whoever may write policies could make two things with the same shorter one,
 * and one of somebody else's never.
 */
export function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 20);
}
