// SPDX-License-Identifier: Apache-2.0
import { readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "./log.ts";

/** A plugin writes its note in milliseconds; what is older than this, in milliseconds, nobody writes any more. */
const ABANDONED_MS = 60_000;

/**
 * Removes what plugins that were killed had begun to write into the journal: names that begin with ".". Their DELs did not
 * succeed, so the runtime comes again, and the attachment's own entry is another file. What can't be removed is logged.
 * @param now milliseconds since 1970-01-01T00:00Z
 */
export async function sweepJournal(dir: string, now: number, log: Log): Promise<void> {
  const begun = (await readdir(dir)).filter((name) => name.startsWith("."));
  for (const name of begun) {
    const path = join(dir, name);
    try {
      if (now - (await stat(path)).mtimeMs < ABANDONED_MS) continue;
      await unlink(path);
      log.info({ path }, "a journal entry that a plugin began and never finished is removed");
    } catch (err) {
      // Finished and renamed in between.
      if ((err as NodeJS.ErrnoException).code === "ENOENT") continue;
      log.warn({ err, path }, "an unfinished journal entry can't be removed");
    }
  }
}
