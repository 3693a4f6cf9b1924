// SPDX-License-Identifier: Apache-2.0
import type { Allocation } from "../gen/flatnet/ipam/v1/ipam.ts";
import { formatAddress, parseAddress } from "../net/address.ts";
import { differences } from "../podnet/differences.ts";
import { observe } from "../podnet/observe.ts";
import { planPodNetwork } from "../podnet/plan.ts";
import { attachmentOf, type CmdArgs } from "./args.ts";
import { daemonsBandwidth } from "./bandwidth.ts";
import type { IpamConf, PluginConf, PortMapping } from "./conf.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { IpamClient, podAddresses } from "./ipam-client.ts";
import { openNetns } from "./netns.ts";
import type { IpConfig, Result } from "./result.ts";
import { type Outcome, succeed, type World } from "./world.ts";

/**
 * CHECK: everything that ADD made, compared with what is there: the record, the result, both ends of the link and what
 * hangs on them, and by the daemon the hostPorts. A runtime may take a failed CHECK for good (CNI spec, section 2), so a daemon that can't be asked is
 * code 11 and no difference.
 * @throws CniError 102 with every difference, 7 without prevResult
 */
export function check(world: World, args: CmdArgs, conf: PluginConf): Outcome {
  const { sys } = world;
  const previous = requirePrevResult(conf);
  const fd = openNetns(sys, args.netns, args.netnsOverride);
  try {
    const { allocation: record, problems } = new IpamClient(world, conf).get(attachmentOf(conf.name, args));
    const own = previous.interfaces.findIndex(({ name, sandbox }) => name === args.ifname && sandbox === args.netns);
    const found = own < 0 ? [`prevResult has no interface ${args.ifname} in ${args.netns}`] : [];
    found.push(...recordDifferences(record, previous));
    if (record !== undefined) found.push(...portDifferences(conf.portMappings, record.portMappings));
    found.push(...problems);
    // Without a record the result is all that tells what the kernel should have.
    const addresses = record === undefined ? addressesOf(previous, own) : podAddresses(record.addresses);
    if (addresses.length > 0) {
      const mtu = conf.mtu === 0 ? (previous.interfaces[own]?.mtu ?? 0) : conf.mtu;
      const wishes = { ...conf, bandwidth: conf.bandwidth ?? daemonsBandwidth(record?.bandwidth) };
      const plan = planPodNetwork(attachmentOf(conf.name, args), args.pod, addresses, mtu, wishes, world.sha256);
      found.push(...differences(plan, observe(sys, plan, { fd, path: args.netns })));
    }
    report(found);
    return succeed();
  } finally {
    sys.close(fd);
  }
}

/** CHECK of `flatnet-ipam`: the record, and that the result is still what it says. */
export function checkIpam(world: World, args: CmdArgs, conf: IpamConf): Outcome {
  const previous = requirePrevResult(conf);
  const { allocation, problems } = new IpamClient(world, conf).get(attachmentOf(conf.name, args));
  report([...recordDifferences(allocation, previous), ...problems]);
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

/** The addresses that a result gives to one of its interfaces, the first of each family. */
function addressesOf(previous: Result, index: number): Uint8Array[] {
  const own = previous.ips
    .filter((ip) => index >= 0 && ip.interface === index)
    .map(hostPart)
    .map(parseAddress);
  return own.filter((address, i) => own.findIndex(({ length }) => length === address.length) === i);
}

function hostPart({ address }: IpConfig): string {
  return address.slice(0, address.indexOf("/"));
}

function recordDifferences(record: Allocation | undefined, previous: Result): string[] {
  if (record === undefined) return ["the daemon has no record of this attachment"];
  const told = new Set(previous.ips.map(hostPart));
  return podAddresses(record.addresses)
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
