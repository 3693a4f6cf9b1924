// SPDX-License-Identifier: Apache-2.0
//
// core/v1 Node. Pure; never throws.
import { AddressError, familyOf, parseAddress } from "../net/address.ts";
import { formatPrefix, type Prefix, PrefixError, parsePrefix } from "../net/prefix.ts";
import { quote } from "./errors.ts";
import { ANNOTATION_PREFIX, type KubeNode } from "./objects.ts";
import { fieldsOf, listOf, type Raw, textOf, wordsOf } from "./raw.ts";

/** Says which addresses lead to the node's pods, in place of its InternalIPs: a comma-separated list, one a family at most. */
export const NODE_ADDRESSES_ANNOTATION = `${ANNOTATION_PREFIX}node-addresses`;

/** @returns undefined for what has no name and so is no node; what else is wrong is left out, and said in `problem` */
export function parseNode(raw: unknown): KubeNode | undefined {
  const { metadata, spec, status } = fieldsOf(raw);
  const { name, uid, annotations } = fieldsOf(metadata);
  if (textOf(name) === "") return undefined;
  const problems: string[] = [];
  const words = wordsOf(annotations, (key) => key.startsWith(ANNOTATION_PREFIX));
  const named = Object.hasOwn(words, NODE_ADDRESSES_ANNOTATION) ? words[NODE_ADDRESSES_ANNOTATION] : undefined;
  const { taints } = fieldsOf(spec);
  return {
    name: textOf(name),
    uid: textOf(uid),
    podCIDRs: podCIDRsOf(fieldsOf(spec), problems),
    addresses: named !== undefined ? namedAddresses(named, problems) : internalIPs(fieldsOf(status), problems),
    annotations: words,
    taints: listOf(taints).flatMap((taint) => textOf(fieldsOf(taint)["key"]) || []),
    networkUnavailable: networkUnavailableOf(fieldsOf(status)),
    problem: problems.length === 0 ? undefined : problems.join("; "),
  };
}

function networkUnavailableOf({ conditions }: Raw): string | undefined {
  const condition = listOf(conditions)
    .map(fieldsOf)
    .find(({ type }) => type === "NetworkUnavailable");
  return condition === undefined ? undefined : textOf(condition["status"]);
}

function podCIDRsOf({ podCIDR, podCIDRs }: Raw, problems: string[]): Prefix[] {
  const several = listOf(podCIDRs);
  const texts = several.length > 0 ? several : podCIDR === undefined || podCIDR === "" ? [] : [podCIDR];
  const found = new Map<string, Prefix>();
  for (const text of texts) {
    try {
      const prefix = parsePrefix(textOf(text));
      found.set(formatPrefix(prefix), prefix);
    } catch (error) {
      if (!(error instanceof PrefixError)) throw error;
      problems.push(`spec.podCIDRs has ${quote(text)}: ${error.message}`);
    }
  }
  return [...found.values()];
}

/** The first of each family. An address that can't be read stands for none. */
function internalIPs({ addresses }: Raw, problems: string[]): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (const entry of listOf(addresses)) {
    const { type, address } = fieldsOf(entry);
    if (type !== "InternalIP") continue;
    const bytes = addressOf(textOf(address));
    if (bytes === undefined)
      problems.push(`status.addresses has the InternalIP ${quote(address)}, which is no address`);
    else if (!found.some((other) => familyOf(other) === familyOf(bytes))) found.push(bytes);
  }
  return found;
}

/** All of the list or nothing: who wrote one wrong meant something that nobody can know, and InternalIPs are not it. */
function namedAddresses(text: string, problems: string[]): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (const part of text.split(",")) {
    const bytes = addressOf(part.trim());
    if (bytes === undefined || found.some((other) => familyOf(other) === familyOf(bytes))) {
      const rule = 'must be an address, or one of each family: "172.18.0.2,fd00:18::2"';
      problems.push(`annotation ${NODE_ADDRESSES_ANNOTATION} is ${quote(text)}; it ${rule}`);
      return [];
    }
    found.push(bytes);
  }
  return found;
}

function addressOf(text: string): Uint8Array | undefined {
  try {
    return parseAddress(text);
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}
