// SPDX-License-Identifier: Apache-2.0
import { hostLinkName } from "../net/names.ts";
import { applyPodNetwork } from "./apply.ts";
import { attachmentOf, type CmdArgs } from "./args.ts";
import type { PluginConf } from "./conf.ts";
import { CNI_CODES, CniError, toCniError } from "./errors.ts";
import { allocate, podAddresses, release } from "./ipam-client.ts";
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
    const addresses = podAddresses(allocation.addresses);
    const mtu = chooseMtu(conf, allocation.mtu, addresses);
    const plan = planPodNetwork(attachment, args.pod, addresses, mtu, sha256);
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

/** Least MTU in bytes of each family (RFC 791; RFC 8200, section 5). Below it the kernel takes IPv6 off the link. */
const LEAST_MTU = { 4: 68, 6: 1280 } as const;
const MOST_MTU = 65_535;

/** @throws CniError 7 for the configuration's, 999 for the daemon's, when a family of the pod can't have it. */
function chooseMtu(conf: PluginConf, daemons: number, addresses: readonly Uint8Array[]): number {
  const mtu = conf.mtu === 0 ? daemons : conf.mtu;
  const family = addresses.some((address) => address.length === 16) ? 6 : 4;
  if (mtu >= LEAST_MTU[family] && mtu <= MOST_MTU) return mtu;
  const problem = `mtu is ${mtu}, and IPv${family} needs ${LEAST_MTU[family]} to ${MOST_MTU}`;
  if (conf.mtu === 0) throw new CniError(CNI_CODES.internal, "the daemon's answer makes no sense", problem);
  throw new CniError(CNI_CODES.invalidConfig, "invalid network configuration", problem);
}
