// SPDX-License-Identifier: Apache-2.0
import type { PodRoute } from "../gen/flatnet/ipam/v1/ipam.ts";
import { formatAddress } from "../net/address.ts";
import { hostLinkName, netnsIdentity } from "../net/names.ts";
import { BlockingNetlink } from "../netlink/blocking.ts";
import { planPodNetwork } from "../podnet/plan.ts";
import { applyPodNetwork, refuseWhenUp, removeRulesAt } from "./apply.ts";
import { attachmentOf, type CmdArgs } from "./args.ts";
import { daemonsBandwidth } from "./bandwidth.ts";
import type { PluginConf, RouteConf } from "./conf.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { assertPool, IpamClient, podAddresses } from "./ipam-client.ts";
import { openNetns } from "./netns.ts";
import { appendResult, planResult } from "./plan-result.ts";
import { resultDocument } from "./result.ts";
import { UndoStack } from "./undo.ts";
import { type Outcome, succeed, type World } from "./world.ts";

/**
 * ADD: an address from the daemon, then the veth pair and its routes. Whatever fails, everything this call made is taken
 * back, last first, and the first error is the one that is reported.
 */
export function add(world: World, args: CmdArgs, conf: PluginConf): Outcome {
  const { sys, sha256 } = world;
  const attachment = attachmentOf(conf.name, args);
  const daemon = new IpamClient(world, conf);
  const undo = new UndoStack();
  const hostIfname = hostLinkName(attachment, sha256);
  const fd = openNetns(sys, args.netns, args.netnsOverride);
  let host: BlockingNetlink | undefined;
  try {
    return undo.whileTrying(() => {
      host = BlockingNetlink.open(sys);
      refuseWhenUp(host, hostIfname);
      globalThis.faultPoint?.("plugin.add-begun");
      const { portMappings } = conf;
      const podEnd = { netnsId: netnsIdentity(sys.fstat(fd)), routes: conf.routes.map(toPodRoute) };
      const wanted = { attachment, args, hostIfname, portMappings, withGateway: false, podEnd };
      const allocation = daemon.allocate(conf, wanted);
      // An address the attachment had before belongs to an earlier ADD, which may be up and running: only DEL ends that.
      if (!allocation.existed) undo.push("release the address", () => daemon.release(attachment, 0, "failed-add"));
      globalThis.faultPoint?.("plugin.allocated");
      assertPool(conf, allocation);
      // An ADD that was killed may have made rules of an interface that wasn't the pod's first; this one may be.
      if (allocation.existed) removeRulesAt(sys, hostIfname, args.netns);
      const addresses = podAddresses(allocation.addresses);
      const mtu = chooseMtu(conf, allocation.mtu, addresses);
      const bandwidth = conf.bandwidth ?? daemonsBandwidth(allocation.bandwidth);
      const plan = planPodNetwork(attachment, args.pod, addresses, mtu, { ...conf, bandwidth }, sha256);
      const made = applyPodNetwork(sys, host, plan, { fd, path: args.netns }, undo);
      const own = planResult(made, args.netns, conf.dns, conf.cniVersion);
      const result = conf.prevResult === undefined ? own : appendResult(conf.prevResult, own);
      return succeed(`${resultDocument(result, conf.cniVersion)}\n`);
    });
  } finally {
    host?.close();
    sys.close(fd);
  }
}

function toPodRoute({ destination, length, gateway: _, ...numbers }: RouteConf): PodRoute {
  return { ...numbers, destination: `${formatAddress(destination)}/${length}` };
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
