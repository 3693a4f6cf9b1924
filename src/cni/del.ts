// SPDX-License-Identifier: Apache-2.0
import { RpcError } from "../grpc/client.ts";
import { Status } from "../grpc/status.ts";
import { type Attachment, hostLinkName } from "../net/names.ts";
import { O_RDONLY, type Sys, SysError } from "../sys/sys.ts";
import { removeLink, removeRulesAt } from "./apply.ts";
import { attachmentOf, type CmdArgs } from "./args.ts";
import type { DaemonConf } from "./conf.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { IpamClient } from "./ipam-client.ts";
import { writeJournalEntry } from "./journal.ts";
import { assertForeignNetns } from "./netns.ts";
import { type Outcome, succeed, type World } from "./world.ts";

/**
 * DEL: the link, then the address, so that nobody gets an address that a link still has. The daemon does both, because it
 * needn't wait for the kernel to end what is left of a link that is gone, and all DELs in flight can share that; without it, the
 * link goes all the same.
 */
export function del(world: World, args: CmdArgs, conf: DaemonConf): Outcome {
  const { sys, sha256 } = world;
  if (args.netns !== "" && !args.netnsOverride) assertForeignNetns(sys, args.netns);
  const attachment = attachmentOf(conf.name, args);
  const name = hostLinkName(attachment, sha256);
  // The pod may live on, because only one of its interfaces goes.
  removeRulesAt(sys, name, args.netns);
  globalThis.faultPoint?.("plugin.rules-removed");
  let failure: RpcError | undefined;
  try {
    if (new IpamClient(world, conf).detach(attachment)) {
      globalThis.faultPoint?.("plugin.detached");
      return succeed();
    }
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    failure = error;
  }
  removeLink(sys, name);
  globalThis.faultPoint?.("plugin.link-removed");
  return failure === undefined ? giveBack(world, conf, attachment) : leaveNote(world, conf, attachment, failure);
}

/** Tells the daemon, or leaves a note for one that can't be told, which it works off before it serves again. */
export function giveBack(world: World, conf: DaemonConf, attachment: Attachment): Outcome {
  try {
    // No wait for a daemon that is down: the note is as good, and kubelet's DELs should not queue up behind it.
    new IpamClient(world, conf).release(attachment, 0);
    return succeed();
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    return leaveNote(world, conf, attachment, error);
  }
}

function leaveNote(world: World, conf: DaemonConf, attachment: Attachment, failure: RpcError): Outcome {
  // What the daemon can't read it couldn't read in a note either.
  if (failure.status === Status.INVALID_ARGUMENT) throw failure;
  try {
    writeJournalEntry(world.sys, conf.journalDir, attachment, world.wallClock(), world.pid, world.sha256);
  } catch (cause) {
    if (failure.code === "RPC_NO_DAEMON" && hasLeft(world.sys, conf.journalDir, cause)) {
      return succeed("", `${failure.message}, nor a state directory: flatnet has left this node\n`);
    }
    // Neither told nor noted: the address would be lost, so the runtime has to come again.
    const reason = `${failure.message}; and the journal ${conf.journalDir} can't be written: ${(cause as Error).message}`;
    throw new CniError(CNI_CODES.tryAgainLater, "the address could not be released", reason, cause);
  }
  return succeed("", `${failure.message}; left a note for it in ${conf.journalDir}\n`);
}

/**
 * Whether flatnet is not on this node any more: there is no daemon, and neither is the journal's directory nor the one that it
 * would be in, where the database would be. Nobody holds an address then.
 */
function hasLeft(sys: Sys, journalDir: string, cause: unknown): boolean {
  const stateDir = journalDir.slice(0, Math.max(1, journalDir.lastIndexOf("/")));
  return isMissing(cause) && isMissing(failureOf(() => sys.close(sys.open(stateDir, O_RDONLY))));
}

function isMissing(error: unknown): boolean {
  return error instanceof SysError && error.code === "ENOENT";
}

function failureOf(work: () => void): unknown {
  try {
    work();
    return undefined;
  } catch (error) {
    return error;
  }
}
