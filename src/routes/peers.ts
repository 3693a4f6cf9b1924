// SPDX-License-Identifier: Apache-2.0
//
// Which node has which subnets, as a static file says it (YAML, of which JSON is a part):
//
//   nodes:
//     - name: node1
//       addresses: [172.18.0.2, "fd00:18::2"]
//       podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]
//
// Pure: text in, nodes out. A file with a typing error is refused whole, because nobody knows what else was meant. Subnets that
// can't be where they are said to be are no typing error: admission.ts refuses those, and those only.
import * as v from "valibot";
import { parse } from "yaml";
import { AddressError, parseAddress } from "../net/address.ts";
import { PrefixError, parsePrefix } from "../net/prefix.ts";
import { PeersError } from "./errors.ts";
import type { Node } from "./source.ts";

/** Largest file that is read, in bytes; 5,000 dual-stack nodes have about 600 KiB. */
export const PEERS_MAX_BYTES = 8 * 1024 * 1024;

const NodeSchema = v.strictObject({
  name: v.pipe(
    v.string(),
    v.regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, ({ input }) => `${JSON.stringify(input)} is not a node name`),
  ),
  addresses: v.array(v.string()),
  podCIDRs: v.array(v.string()),
});

/** The nodes are looked at one by one, so that those that haven't changed can be passed over. */
const FileSchema = v.strictObject({ nodes: v.array(v.unknown()) });

/** A node as the file has it. */
type Entry = v.InferOutput<typeof NodeSchema>;

/** Reads one version of the file after the other. What an earlier one said in the same words is not parsed again. */
export class PeersParser {
  #known = new Map<string, { readonly entry: Entry; readonly node: Node }>();

  /** @throws PeersError naming every problem, each with its field and value; then the earlier version stays the known one */
  parse(text: string): Node[] {
    const result = v.safeParse(FileSchema, readDocument(text));
    if (!result.success) throw new PeersError("PEERS_INVALID", result.issues.map((it) => describe(it)).join("; "));
    const problems: string[] = [];
    const known = new Map<string, { entry: Entry; node: Node }>();
    const nodes: Node[] = [];
    for (const [i, raw] of result.output.nodes.entries()) {
      const before = this.#known.get((raw as Entry | null)?.name ?? "");
      const read = before !== undefined && isSame(before.entry, raw) ? before : readEntry(raw, i, problems);
      if (read === undefined) continue;
      const { name } = read.node;
      if (known.has(name)) problems.push(`node ${name} is listed twice`);
      known.set(name, read);
      nodes.push(read.node);
    }
    if (problems.length > 0) throw new PeersError("PEERS_INVALID", problems.join("; "));
    this.#known = known;
    return nodes;
  }
}

/** JSON first: the YAML library takes a hundred times as long for the same text. */
function readDocument(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Then it is YAML, or says better than JSON's reader what is wrong with it.
  }
  try {
    return parse(text);
  } catch (cause) {
    // The library goes on with an excerpt.
    const [problem] = (cause as Error).message.split("\n");
    throw new PeersError("PEERS_SYNTAX", `the peers file is not YAML: ${problem}`, cause);
  }
}

function isSame(entry: Entry, raw: unknown): boolean {
  if (typeof raw !== "object" || raw === null) return false;
  const { name, addresses, podCIDRs } = raw as { [K in keyof Entry]?: unknown };
  if (Object.keys(raw).length !== 3) return false;
  return name === entry.name && isSameList(entry.addresses, addresses) && isSameList(entry.podCIDRs, podCIDRs);
}

function isSameList(list: readonly string[], raw: unknown): boolean {
  return Array.isArray(raw) && raw.length === list.length && list.every((item, i) => item === raw[i]);
}

function readEntry(raw: unknown, i: number, problems: string[]): { entry: Entry; node: Node } | undefined {
  const result = v.safeParse(NodeSchema, raw);
  if (!result.success) {
    problems.push(...result.issues.map((issue) => describe(issue, `nodes.${i}`)));
    return undefined;
  }
  const entry = result.output;
  const at = `nodes.${i} (${entry.name})`;
  const node = {
    name: entry.name,
    addresses: each(entry.addresses, `${at}.addresses`, parseAddress, problems),
    podCIDRs: each(entry.podCIDRs, `${at}.podCIDRs`, parsePrefix, problems),
  };
  return { entry, node };
}

function describe(issue: v.BaseIssue<unknown>, within = ""): string {
  const path = v.getDotPath(issue);
  const at = [within, path].filter((part) => part !== null && part !== "").join(".") || "the file";
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
