// SPDX-License-Identifier: Apache-2.0
import type { Allocation } from "../gen/flatnet/ipam/v1/ipam.ts";
import { formatAddress } from "../net/address.ts";
import { attachmentOf, type CmdArgs } from "./args.ts";
import type { IpamConf, PluginConf, PortMapping } from "./conf.ts";
import { differences } from "./differences.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { IpamClient, podAddresses } from "./ipam-client.ts";
import { openNetns } from "./netns.ts";
import { observe } from "./observe.ts";
import { planPodNetwork } from "./plan.ts";
import type { Result } from "./result.ts";
import { type Outcome, succeed, type World } from "./world.ts";

/**
 * CHECK: everything that ADD made, compared with what is there: the record, the result, both ends of the link and what
 * hangs on them. A runtime may take a failed CHECK for good (CNI spec, section 2), so a daemon that can't be asked is
 * code 11 and no difference.
 * @throws CniError 102 with every difference, 7 without prevResult
 */
export function check(world: World, args: CmdArgs, conf: PluginConf): Outcome {
  const { sys } = world;
  const previous = requirePrevResult(conf);
  const fd = openNetns(sys, args.netns, args.netnsOverride);
  try {
    const allocation = requireRecord(world, args, conf);
    const addresses = podAddresses(allocation.addresses);
    const own = previous.interfaces.find(({ name, sandbox }) => name === args.ifname && sandbox === args.netns);
    const mtu = own?.mtu ?? 0;
    const plan = planPodNetwork(attachmentOf(conf.name, args), args.pod, addresses, mtu, conf, world.sha256);
    const found = [
      ...(own === undefined ? [`prevResult has no interface ${args.ifname} in ${args.netns}`] : []),
      ...addressDifferences(previous, addresses),
      ...portDifferences(conf.portMappings, allocation.portMappings),
      ...differences(plan, observe(sys, plan, { fd, path: args.netns })),
    ];
    report(found);
    return succeed();
  } finally {
    sys.close(fd);
  }
}

/** CHECK of `flatnet-ipam`: the record, and that the result is still what it says. */
export function checkIpam(world: World, args: CmdArgs, conf: IpamConf): Outcome {
  const previous = requirePrevResult(conf);
  const allocation = requireRecord(world, args, conf);
  report(addressDifferences(previous, podAddresses(allocation.addresses)));
  return succeed();
}

function requirePrevResult({ prevResult }: IpamConf): Result {
  if (prevResult !== undefined) return prevResult;
  throw new CniError(
    CNI_CODES.invalidConfig,
    "invalid network configuration",
    "prevResult is missing, and CHECK needs it",
  );
}

function requireRecord(world: World, args: CmdArgs, conf: IpamConf): Allocation {
  const allocation = new IpamClient(world, conf).get(attachmentOf(conf.name, args));
  if (allocation === undefined) report(["the daemon has no record of this attachment"]);
  return allocation as Allocation;
}

function addressDifferences(previous: Result, addresses: readonly Uint8Array[]): string[] {
  const told = new Set(previous.ips.map(({ address }) => address.slice(0, address.indexOf("/"))));
  return addresses
    .map(formatAddress)
    .filter((address) => !told.has(address))
    .map((address) => `the daemon has ${address} for this attachment, and prevResult does not`);
}

function portDifferences(wanted: readonly PortMapping[], recorded: Allocation["portMappings"]): string[] {
  const text = ({ hostIp, hostPort, protocol, containerPort }: Allocation["portMappings"][number]) =>
    `${hostIp === "" ? "*" : hostIp}:${hostPort}/${protocol} to ${containerPort}`;
  const known = new Set(recorded.map(text));
  return wanted
    .map(text)
    .filter((mapping) => !known.has(mapping))
    .map((mapping) => `the daemon has no port mapping ${mapping}`);
}

function report(found: readonly string[]): void {
  if (found.length > 0) throw new CniError(CNI_CODES.differs, "the attachment is not as ADD made it", found.join("; "));
}
