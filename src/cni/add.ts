// SPDX-License-Identifier: Apache-2.0
import { hostLinkName } from "../net/names.ts";
import { applyPodNetwork } from "./apply.ts";
import { attachmentOf, type CmdArgs } from "./args.ts";
import type { PluginConf } from "./conf.ts";
import { CNI_CODES, CniError, toCniError } from "./errors.ts";
import { allocate, release } from "./ipam-client.ts";
import { openNetns } from "./netns.ts";
import { planPodNetwork } from "./plan.ts";
import { resultDocument } from "./result.ts";
import { UndoStack } from "./undo.ts";
import type { Outcome, World } from "./world.ts";

/**
 * ADD: an address from the daemon, then the veth pair and its routes. Whatever fails, everything this call made is taken
 * back, last first, and the first error is the one that is reported.
 */
export function add(world: World, args: CmdArgs, conf: PluginConf): Outcome {
  const { sys, sha256 } = world;
  if (conf.hasPrevResult) {
    const details = "prevResult is set, but flatnet has to be the first plugin of a list";
    throw new CniError(CNI_CODES.unsupportedField, "unsupported field", details);
  }
  const attachment = attachmentOf(conf.name, args);
  const undo = new UndoStack();
  const fd = openNetns(sys, args.netns, args.netnsOverride);
  try {
    const allocation = allocate(sys, conf, attachment, args.pod, args.netns, hostLinkName(attachment, sha256));
    // An address the attachment had before belongs to an earlier ADD, which may be up and running: only DEL ends that.
    if (!allocation.existed) undo.push("release the address", () => release(sys, conf, attachment, 0));
    const mtu = conf.mtu === 0 ? allocation.mtu : conf.mtu;
    const plan = planPodNetwork(attachment, args.pod, allocation.addresses, mtu, sha256);
    applyPodNetwork(sys, plan, { fd, path: args.netns }, undo);
    return { stdout: resultDocument(plan, args.netns, conf.cniVersion), stderr: "", status: 0 };
  } catch (thrown) {
    const failures = undo.run();
    const error = toCniError(thrown);
    if (failures.length === 0) throw error;
    // The runtime still sends a DEL after a failed ADD (CNI spec, section 3), which finds the rest by its name.
    error.details = `${error.details}; and could not undo: ${failures.join("; ")}`;
    throw error;
  } finally {
    sys.close(fd);
  }
}
