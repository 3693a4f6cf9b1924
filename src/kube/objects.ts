// SPDX-License-Identifier: Apache-2.0
//
// What flatnet reads of Kubernetes' objects, as values that need no second look: parsed once, where they come from the API
// server or from disk. Everything else that an object has is dropped there, so that thousands of them fit a small daemon.
import type { Prefix } from "../net/prefix.ts";

/** What flatnet's own annotations begin with. */
export const ANNOTATION_PREFIX = "flatnet.dev/";

/** Labels or annotations, by key. */
export type Words = Readonly<Record<string, string>>;

/** An object's key in its collection: its name, or "namespace/name". */
export type ObjectKey = string;

export function keyOf({ namespace, name }: { readonly namespace?: string; readonly name: string }): ObjectKey {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** core/v1 Node. */
export interface KubeNode {
  readonly name: string;
  /** Tells a node from a later one with the same name. */
  readonly uid: string;
  /** spec.podCIDRs (or spec.podCIDR): its subnets, none of them twice. */
  readonly podCIDRs: readonly Prefix[];
  /** At most one a family, 4 or 16 bytes: the first InternalIP of each, unless an annotation names others. */
  readonly addresses: readonly Uint8Array[];
  /** Those with flatnet's prefix. */
  readonly annotations: Words;
  /** Keys of spec.taints. */
  readonly taints: readonly string[];
  /** Status of its condition NetworkUnavailable: "True", "False", "Unknown"; absent where it hasn't the condition. */
  readonly networkUnavailable?: string | undefined;
  /** What in it couldn't be used, for people, with field and value; undefined when nothing. */
  readonly problem: string | undefined;
}

/** core/v1 Pod. */
export interface KubePod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** spec.nodeName; empty before it is scheduled. */
  readonly nodeName: string;
  /** spec.hostNetwork: it has its node's addresses, and no policy selects it. */
  readonly hostNetwork: boolean;
  /** status.podIPs, 4 or 16 bytes each; none before there are any. */
  readonly addresses: readonly Uint8Array[];
  readonly labels: Words;
  /** Those with flatnet's prefix, and the bandwidth ones of kubernetes.io. */
  readonly annotations: Words;
  /** The named ports of all its containers and of its restartable init containers (sidecars). */
  readonly ports: readonly NamedPort[];
  /** Phase Succeeded or Failed: its addresses aren't its own any more. */
  readonly ended: boolean;
}

export type TransportProtocol = "TCP" | "UDP" | "SCTP";

/** A container port with a name. */
export interface NamedPort {
  readonly name: string;
  readonly protocol: TransportProtocol;
  /** 1 to 65535. */
  readonly port: number;
}

/** core/v1 Namespace. */
export interface KubeNamespace {
  readonly name: string;
  readonly labels: Words;
}
