// SPDX-License-Identifier: Apache-2.0
//
// `flatnet-ipam`: the daemon's addresses for other plugins' links (CNI spec, section 4, "Plugin Delegation"). It makes no
// link; its result has addresses with the length of their subnet, and the network's gateway in that subnet, which bridge
// and ptp put on their own side.
import type { AllocateResponse, PodEnd } from "../gen/flatnet/ipam/v1/ipam.ts";
import { formatAddress } from "../net/address.ts";
import { netnsIdentity } from "../net/names.ts";
import { type Sys, SysError } from "../sys/sys.ts";
import { attachmentOf, type CmdArgs } from "./args.ts";
import type { IpamConf } from "./conf.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { asCidr } from "./fields.ts";
import { assertPool, IpamClient, podAddresses } from "./ipam-client.ts";
import { openNetns } from "./netns.ts";
import { type IpConfig, type Result, resultDocument, toResultRoute } from "./result.ts";
import { UndoStack } from "./undo.ts";
import { type Outcome, succeed, type World } from "./world.ts";

/** ADD. The plugin that delegates to us gives the address back by DEL when it fails itself. */
export function addIpam(world: World, args: CmdArgs, conf: IpamConf): Outcome {
  const attachment = attachmentOf(conf.name, args);
  const daemon = new IpamClient(world, conf);
  const undo = new UndoStack();
  return undo.whileTrying(() => {
    const podEnd = lookAtNetns(world.sys, args.netns);
    const wanted = { attachment, args, hostIfname: "", portMappings: [], withGateway: true, podEnd };
    const allocation = daemon.allocate(conf, wanted);
    if (!allocation.existed) undo.push("release the address", () => daemon.release(attachment, 0, "failed-add"));
    assertPool(conf, allocation);
    return succeed(`${resultDocument(toResult(allocation, conf), conf.cniVersion)}\n`);
  });
}

/** The namespace's identity; nothing of one that can't be opened, which is the business of the plugin that makes the link. */
function lookAtNetns(sys: Sys, path: string): PodEnd | undefined {
  try {
    const fd = openNetns(sys, path, true);
    try {
      return { netnsId: netnsIdentity(sys.fstat(fd)), routes: [] };
    } finally {
      sys.close(fd);
    }
  } catch (error) {
    if (error instanceof CniError || error instanceof SysError) return undefined;
    throw error;
  }
}

/** Pure. */
function toResult(allocation: AllocateResponse, conf: IpamConf): Result {
  const { subnets, gateways } = allocation;
  const ips = podAddresses(allocation.addresses).map((address, i): IpConfig => {
    const subnet = subnets[i];
    const gateway = gateways[i];
    if (subnet === undefined || gateway === undefined) {
      const text = `${formatAddress(address)} came without its subnet and gateway: the daemon is older than this plugin`;
      throw new CniError(CNI_CODES.internal, "the daemon's answer makes no sense", text);
    }
    return { address: `${formatAddress(address)}/${asCidr("subnet", subnet).length}`, gateway };
  });
  return { interfaces: [], ips, routes: conf.routes.map(toResultRoute), dns: conf.dns };
}
