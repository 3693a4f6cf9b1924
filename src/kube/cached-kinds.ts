// SPDX-License-Identifier: Apache-2.0
//
// How objects stand in the cache: as JSON of the parsed values. Records are additive: a reader fills in what an older program
// did not write, and passes over what a newer one did.
import { crc32 } from "node:zlib";
import type { ClusterNetworkPolicy } from "./cluster-network-policy.ts";
import type { NetworkPolicy } from "./network-policy.ts";
import type { KubeNamespace, KubeNode, KubePod } from "./objects.ts";

/** Objects of one kind, or some of them that are selected for a purpose: it has its own name then. */
export interface CachedKind<T> {
  /** Part of the keys on disk: letters and hyphens. */
  readonly name: string;
  /** Raised only when an older reader would misunderstand a record: what has another version is learned again. */
  readonly version: number;
  /** What the fields are that a record hasn't; a field that is not here is in every record. */
  readonly defaults: Partial<T>;
}

export const NODES: CachedKind<KubeNode> = {
  name: "nodes",
  version: 1,
  defaults: {
    uid: "",
    podCIDRs: [],
    addresses: [],
    annotations: {},
    taints: [],
    networkUnavailable: undefined,
    problem: undefined,
  },
};

/** This node as it last was, even when the API server has it no more: its pods live on. */
export const OWN_NODE: CachedKind<KubeNode> = { ...NODES, name: "own-node" };

/** The pods of all nodes. */
export const PODS: CachedKind<KubePod> = {
  name: "pods",
  version: 1,
  defaults: { nodeName: "", hostNetwork: false, addresses: [], labels: {}, annotations: {}, ports: [], ended: false },
};

/** The pods of this node. */
export const OWN_PODS: CachedKind<KubePod> = { ...PODS, name: "own-pods" };

export const NAMESPACES: CachedKind<KubeNamespace> = { name: "namespaces", version: 1, defaults: { labels: {} } };

/**
 * What would allow more to a program that doesn't know a field of it needs another version. JSON has no undefined: a field that isn't
 * there is one that was, and here it means something.
 */
export const NETWORK_POLICIES: CachedKind<NetworkPolicy> = {
  name: "network-policies",
  version: 1,
  defaults: { uid: "", podSelector: undefined, ingress: undefined, egress: undefined, problems: [] },
};

export const CLUSTER_NETWORK_POLICIES: CachedKind<ClusterNetworkPolicy> = {
  name: "cluster-network-policies",
  version: 1,
  defaults: { uid: "", subject: undefined, problems: [] },
};

/** A record that is not as it was written. */
export class CachedRecordError extends Error {
  override readonly name = "CachedRecordError";
  readonly code = "CACHED_RECORD_DAMAGED";
}

const CHECKSUM_DIGITS = 8;

/**
 * A value as text, behind its checksum: LevelDB doesn't look at its own. JSON has neither bytes nor big numbers; they are
 * objects with a key that no label or annotation can have.
 */
export function encodeCached(value: unknown): string {
  const json = JSON.stringify(value, (_, inner: unknown) => {
    if (typeof inner === "bigint") return { $number: inner.toString() };
    if (inner instanceof Uint8Array) return { $bytes: Array.from(inner) };
    return inner;
  });
  return checksum(json) + json;
}

/** @throws CachedRecordError */
export function decodeCached(text: string): object {
  const json = text.slice(CHECKSUM_DIGITS);
  if (text.slice(0, CHECKSUM_DIGITS) !== checksum(json)) throw new CachedRecordError("a record has a wrong checksum");
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new CachedRecordError(`a record is not as it was written: ${(cause as Error).message}`, { cause });
  }
  return Object(revive(value));
}

/** Changes the value itself. JSON.parse can do the same, and takes several times as long for it. */
function revive(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) value[i] = revive(value[i]);
    return value;
  }
  const fields = value as Record<string, unknown>;
  if (fields["$number"] !== undefined) return BigInt(String(fields["$number"]));
  if (fields["$bytes"] !== undefined) return Uint8Array.from(fields["$bytes"] as number[]);
  for (const key in fields) {
    const inner = fields[key];
    if (typeof inner === "object") fields[key] = revive(inner);
  }
  return fields;
}

function checksum(json: string): string {
  return crc32(json).toString(16).padStart(CHECKSUM_DIGITS, "0");
}
