// SPDX-License-Identifier: Apache-2.0
import { RpcError } from "../grpc/client.ts";
import { hostLinkName } from "../net/names.ts";
import { removeLink } from "./apply.ts";
import { attachmentOf, type CmdArgs } from "./args.ts";
import type { PluginConf } from "./conf.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { release } from "./ipam-client.ts";
import { writeJournalEntry } from "./journal.ts";
import { assertForeignNetns } from "./netns.ts";
import type { Outcome, World } from "./world.ts";

const INVALID_ARGUMENT = 3;

/**
 * DEL: the link, then the address, so that nobody gets an address that a link still has. What isn't there is success. A
 * daemon that can't be reached is left a note, which it works off before it serves again.
 */
export function del(world: World, args: CmdArgs, conf: PluginConf): Outcome {
  const { sys, sha256 } = world;
  if (args.netns !== "" && !args.netnsOverride) assertForeignNetns(sys, args.netns);
  const attachment = attachmentOf(conf.name, args);
  removeLink(sys, hostLinkName(attachment, sha256));
  try {
    // No wait for a daemon that is down: the note is as good, and kubelet's DELs should not queue up behind it.
    release(sys, conf, attachment, 0);
    return done("");
  } catch (error) {
    if (!(error instanceof RpcError) || error.status === INVALID_ARGUMENT) throw error;
    try {
      writeJournalEntry(sys, conf.journalDir, attachment, world.wallClock(), world.pid, sha256);
    } catch (cause) {
      // Neither told nor noted: the address would be lost, so the runtime has to come again.
      const reason = `${error.message}; and the journal ${conf.journalDir} can't be written: ${(cause as Error).message}`;
      throw new CniError(CNI_CODES.tryAgainLater, "the address could not be released", reason, cause);
    }
    return done(`flatnet: ${error.message}; left a note for it in ${conf.journalDir}\n`);
  }
}

function done(stderr: string): Outcome {
  return { stdout: "", stderr, status: 0 };
}
