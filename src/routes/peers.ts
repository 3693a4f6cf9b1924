// SPDX-License-Identifier: Apache-2.0
//
// Which node has which subnets, as a static file says it (YAML, of which JSON is a part):
//
//   nodes:
//     - name: node1
//       addresses: [172.18.0.2, "fd00:18::2"]
//       podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]
//
// Pure: text in, nodes out. A file with one mistake is refused whole, because half of a cluster's routes is a worse
// answer than those of before.
import * as v from "valibot";
import { parse } from "yaml";
import { AddressError, type Family, parseAddress } from "../net/address.ts";
import { formatPrefix, indexOf, overlaps, type Prefix, PrefixError, parsePrefix } from "../net/prefix.ts";
import { PeersError } from "./errors.ts";

export interface Node {
  readonly name: string;
  /** The node's own addresses, at most one a family: next hops of the routes to its subnets. 4 or 16 bytes. */
  readonly addresses: readonly Uint8Array[];
  readonly podCIDRs: readonly Prefix[];
}

/** This node, as its own daemon was told. */
export interface Self {
  readonly name: string;
  readonly podCIDRs: readonly Prefix[];
}

/** Largest file that is read, in bytes; 5,000 dual-stack nodes have about 600 KiB. */
export const PEERS_MAX_BYTES = 8 * 1024 * 1024;

const FileSchema = v.strictObject({
  nodes: v.array(
    v.strictObject({
      name: v.pipe(
        v.string(),
        v.regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, ({ input }) => `${JSON.stringify(input)} is not a node name`),
      ),
      addresses: v.array(v.string()),
      podCIDRs: v.array(v.string()),
    }),
  ),
});

/**
 * @param self its subnets may not overlap another node's; its own entry, if there is one, has to have the same ones
 * @throws PeersError naming every problem, each with its field and value
 */
export function parsePeers(text: string, self: Self): Node[] {
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    // The library goes on with an excerpt.
    const [problem] = (cause as Error).message.split("\n");
    throw new PeersError("PEERS_SYNTAX", `the peers file is not YAML: ${problem}`, cause);
  }
  const result = v.safeParse(FileSchema, document);
  if (!result.success) {
    throw new PeersError("PEERS_INVALID", result.issues.map(describe).join("; "));
  }
  const problems: string[] = [];
  const nodes = result.output.nodes.map((node, i) => {
    const at = `nodes.${i} (${node.name})`;
    return {
      name: node.name,
      addresses: each(node.addresses, `${at}.addresses`, parseAddress, problems),
      podCIDRs: each(node.podCIDRs, `${at}.podCIDRs`, parsePrefix, problems),
    };
  });
  problems.push(...findClashes(nodes, self));
  if (problems.length > 0) throw new PeersError("PEERS_INVALID", problems.join("; "));
  return nodes;
}

function describe(issue: v.BaseIssue<unknown>): string {
  const at = v.getDotPath(issue) ?? "the file";
  // Valibot says "Invalid type: Expected string but received undefined" of a key that isn't there.
  if (issue.input === undefined) return `${at} is missing`;
  if (issue.expected === "never") return `${at} is no key of a peers file`;
  return `${at}: ${issue.message}`;
}

function each<T>(texts: readonly string[], at: string, parseOne: (text: string) => T, problems: string[]): T[] {
  const parsed: T[] = [];
  for (const [i, text] of texts.entries()) {
    try {
      parsed.push(parseOne(text));
    } catch (error) {
      if (!(error instanceof AddressError || error instanceof PrefixError)) throw error;
      problems.push(`${at}.${i}: ${error.message}`);
    }
  }
  return parsed;
}

/** What can't all be true at once, each with the two that clash. */
function findClashes(nodes: readonly Node[], self: Self): string[] {
  const problems: string[] = [];
  const names = new Set<string>();
  for (const node of nodes) {
    if (names.has(node.name)) problems.push(`node ${node.name} is listed twice`);
    names.add(node.name);
    problems.push(...nodeProblems(node));
  }
  const own = nodes.find((node) => node.name === self.name);
  if (own !== undefined) {
    const [said, told] = [own.podCIDRs, self.podCIDRs].map((list) => list.map(formatPrefix).sort().join(", "));
    if (said !== told) problems.push(`node ${self.name} is this one and has ${told}, but the file says ${said}`);
  }
  const all = nodes.filter((node) => node !== own).concat({ ...self, addresses: own?.addresses ?? [] });
  problems.push(...overlapping(all));
  return problems;
}

function nodeProblems(node: Node): string[] {
  const problems: string[] = [];
  for (const family of [4, 6] as const) {
    const hops = node.addresses.filter((address) => address.length === (family === 4 ? 4 : 16));
    const subnet = node.podCIDRs.find((prefix) => prefix.family === family);
    if (hops.length > 1)
      problems.push(`node ${node.name} has ${hops.length} IPv${family} addresses, one is the next hop`);
    if (hops.length === 0 && subnet !== undefined) {
      problems.push(`node ${node.name} has ${formatPrefix(subnet)} but no IPv${family} address to reach it by`);
    }
  }
  for (const prefix of node.podCIDRs) {
    const foreign = FOREIGN.find((range) => overlaps(range, prefix));
    if (foreign !== undefined) {
      problems.push(
        `node ${node.name}: ${formatPrefix(prefix)} is foreign to a pod network, it touches ${formatPrefix(foreign)}`,
      );
    }
  }
  return problems;
}

/** Ranges no pod can have: this host, loopback, link-local, multicast and reserved (RFC 6890; RFC 4291). */
const FOREIGN: readonly Prefix[] = [
  ...["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"],
  ...["::/127", "fe80::/10", "ff00::/8"],
].map(parsePrefix);

/** Subnets that share addresses, and node addresses inside a subnet. Sorted first, so that 5,000 nodes are no square. */
function overlapping(nodes: readonly Node[]): string[] {
  const problems: string[] = [];
  for (const family of [4, 6] as const) {
    const subnets = nodes
      .flatMap(({ name, podCIDRs }) => podCIDRs.map((prefix) => ({ name, prefix })))
      .filter(({ prefix }) => prefix.family === family)
      .sort((a, b) => compare(a.prefix.base, b.prefix.base) || a.prefix.length - b.prefix.length);
    // Two blocks are either apart or one in the other: those that are in no other are in order, and cover all.
    const outermost: typeof subnets = [];
    for (const subnet of subnets) {
      const widest = outermost.at(-1);
      if (widest !== undefined && overlaps(widest.prefix, subnet.prefix)) {
        problems.push(
          `${formatPrefix(widest.prefix)} of ${widest.name} overlaps ${formatPrefix(subnet.prefix)} of ${subnet.name}`,
        );
        continue;
      }
      outermost.push(subnet);
    }
    for (const { name, addresses } of nodes) {
      for (const address of addresses) {
        const subnet = holder(outermost, address, family);
        if (subnet === undefined) continue;
        problems.push(`${formatPrefix(subnet.prefix)} of ${subnet.name} contains the address of node ${name}`);
      }
    }
  }
  return problems;
}

/** The subnet that contains the address, by binary search over subnets that are apart and in order. */
function holder<T extends { prefix: Prefix }>(
  subnets: readonly T[],
  address: Uint8Array,
  family: Family,
): T | undefined {
  if (address.length !== (family === 4 ? 4 : 16)) return undefined;
  let [low, high] = [0, subnets.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const subnet = subnets[middle] as T;
    if (indexOf(subnet.prefix, address) !== undefined) return subnet;
    if (subnet.prefix.base > toBigint(address)) high = middle;
    else low = middle + 1;
  }
  return undefined;
}

function toBigint(address: Uint8Array): bigint {
  let value = 0n;
  for (const byte of address) value = (value << 8n) | BigInt(byte);
  return value;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
