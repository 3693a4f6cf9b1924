// SPDX-License-Identifier: Apache-2.0
//
// networking.k8s.io/v1 NetworkPolicy, parsed: its defaults applied, so that what reads it needs not know them.
import type { Prefix } from "../net/prefix.ts";
import type { TransportProtocol } from "./objects.ts";
import type { LabelSelector } from "./selector.ts";

export interface NetworkPolicy {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** Pods of its namespace that it applies to; undefined where that can't be read, and then it applies to all of them. */
  readonly podSelector: LabelSelector | undefined;
  /** What may come to the pods; undefined: the policy says nothing about it. None: nothing may. */
  readonly ingress: readonly PolicyRule[] | undefined;
  /** What may leave them; likewise. */
  readonly egress: readonly PolicyRule[] | undefined;
  /**
   * What in it can't be used, a sentence each with field and value. A rule, peer or port that can't be is left out, so that it
   * allows nothing: what is wrong closes the pods concerned and no others.
   */
  readonly problems: readonly string[];
}

/** Allowed is what one of the peers and one of the ports allow. */
export interface PolicyRule {
  /** undefined: anybody, anywhere. None: nobody, since a rule whose peers were all unusable allows nobody. */
  readonly peers: readonly PolicyPeer[] | undefined;
  /** undefined: every port of every protocol. None: no port, likewise. */
  readonly ports: readonly PolicyPort[] | undefined;
}

export type PolicyPeer =
  /** Pods, but not those of the host's network. Without `namespaces` those of the policy's own namespace. */
  | { readonly kind: "pods"; readonly namespaces: LabelSelector | undefined; readonly pods: LabelSelector }
  /** Addresses, whoever has them. The exceptions are within the block. */
  | { readonly kind: "block"; readonly cidr: Prefix; readonly except: readonly Prefix[] };

export type PolicyPort =
  /** Every port of a protocol. */
  | { readonly kind: "all"; readonly protocol: TransportProtocol }
  /** A range of numbers, both ends included. */
  | { readonly kind: "range"; readonly protocol: TransportProtocol; readonly first: number; readonly last: number }
  /** What the pod that is connected to calls so: each pod may have another number. */
  | { readonly kind: "named"; readonly protocol: TransportProtocol; readonly name: string };
