// SPDX-License-Identifier: Apache-2.0
import { readFile } from "node:fs/promises";

/** Names this boot of the kernel (random(4)): attachments from another boot are gone, whatever a database says. */
export async function readBootId(path = "/proc/sys/kernel/random/boot_id"): Promise<string> {
  return (await readFile(path, "utf8")).trim();
}
