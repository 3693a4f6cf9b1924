// SPDX-License-Identifier: Apache-2.0
//
// policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy, parsed.
import type { PolicyPeer, PolicyPort } from "./network-policy.ts";
import type { LabelSelector } from "./selector.ts";

export interface ClusterNetworkPolicy {
  readonly name: string;
  readonly uid: string;
  /** Admin before NetworkPolicy, which is before Baseline. */
  readonly tier: "Admin" | "Baseline";
  /** 0 to 1000; the least goes first. */
  readonly priority: number;
  /** The pods that it is about; undefined where that can't be read, and then all, with nothing left in it but what denies. */
  readonly subject: ClusterPolicySubject | undefined;
  /** In order: the first that matches decides. None: the policy says nothing about the direction. */
  readonly ingress: readonly ClusterPolicyRule[];
  readonly egress: readonly ClusterPolicyRule[];
  /** What in it can't be used, a sentence each. As the API has it, such a rule accepts nothing, and denies all where it isn't for accepting. */
  readonly problems: readonly string[];
}

export interface ClusterPolicySubject {
  readonly namespaces: LabelSelector;
  readonly pods: LabelSelector;
}

export interface ClusterPolicyRule {
  /** Pass goes on with the next tier. */
  readonly action: "Accept" | "Deny" | "Pass";
  /** undefined: anybody, which only a rule has that can't be used and so denies all. Pods are by namespace always. */
  readonly peers: readonly PolicyPeer[] | undefined;
  /** undefined: every port of every protocol. */
  readonly ports: readonly PolicyPort[] | undefined;
}
