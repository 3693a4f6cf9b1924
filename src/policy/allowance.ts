// SPDX-License-Identifier: Apache-2.0
//
// Rules of policies, taken apart: one peer and its ports each. Pure.

import type { PolicyPeer, PolicyPort, PolicyRule } from "../kube/network-policy.ts";
import type { NamedPort, TransportProtocol } from "../kube/objects.ts";
import type { Family } from "../net/address.ts";
import { type Block, isEverything } from "./blocks.ts";
import { type PodTerm, podTerm } from "./pod-term.ts";
import { everyPort, l4, mergePorts, type PortRange, type Ports } from "./ports.ts";
import type { Direction, Origin } from "./ruleset.ts";

export type Peer =
  | { readonly kind: "anybody" }
  | { readonly kind: "pods"; readonly term: PodTerm }
  | { readonly kind: "block"; readonly block: Block };

/** A port that each pod may have under another number. */
export interface PortName {
  readonly protocol: TransportProtocol;
  readonly name: string;
}

/** One peer of one rule with the ports it is about. */
export interface Allowance {
  readonly peer: Peer;
  readonly ports: Ports;
  /** Of egress: what the pods that are connected to call so. */
  readonly names: readonly PortName[];
  readonly origin: Origin;
}

/** What a pod calls so: usually one number, none where it has no such port. */
export function numbersOf(ports: readonly NamedPort[], { protocol, name }: PortName): number[] {
  return ports.filter((port) => port.name === name && port.protocol === protocol).map(({ port }) => port);
}

/** What a rule says, whoever's it is. */
export type PeersAndPorts = Pick<PolicyRule, "peers" | "ports">;

/**
 * One rule, as it is for peers of one family.
 * @param namespace of the policy, for peers that name none
 * @param own of the pod that it is for: names of ports are its own where it is connected to
 */
export function allowancesOf(
  rule: PeersAndPorts,
  origin: Origin,
  namespace: string,
  family: Family,
  own: readonly NamedPort[],
): Allowance[] {
  const { ports, names } = portsOf(rule, origin.direction, own);
  if (ports !== "all" && ports.length === 0 && names.length === 0) return [];
  return peersOf(rule, namespace, family).map((peer) => ({ peer, ports, names, origin }));
}

function portsOf(
  { ports }: PeersAndPorts,
  direction: Direction,
  own: readonly NamedPort[],
): Pick<Allowance, "ports" | "names"> {
  if (ports === undefined) return { ports: "all", names: [] };
  const ranges: PortRange[] = [];
  const names: PortName[] = [];
  for (const port of ports) {
    if (port.kind === "all") ranges.push(everyPort(l4(port.protocol)));
    else if (port.kind === "range") ranges.push({ protocol: l4(port.protocol), first: port.first, last: port.last });
    else if (direction === "egress") names.push(port);
    else ranges.push(...numbersOf(own, port).map((n) => ({ protocol: l4(port.protocol), first: n, last: n })));
  }
  return { ports: mergePorts(ranges), names };
}

function peersOf({ peers }: PeersAndPorts, namespace: string, family: Family): Peer[] {
  if (peers === undefined) return [{ kind: "anybody" }];
  return peers.flatMap((peer): Peer[] => {
    if (peer.kind === "pods") return [{ kind: "pods", term: termOf(peer, namespace) }];
    if (peer.cidr.family !== family) return [];
    return [isEverything(peer) ? { kind: "anybody" } : { kind: "block", block: peer }];
  });
}

function termOf({ namespaces, pods }: Extract<PolicyPeer, { kind: "pods" }>, namespace: string): PodTerm {
  return podTerm(
    namespaces === undefined ? { kind: "namespace", name: namespace } : { kind: "namespaces", selector: namespaces },
    pods,
  );
}

/** The names of ports that rules use. */
export function namesIn(rules: readonly PeersAndPorts[]): PortName[] {
  return rules.flatMap(({ ports }) =>
    (ports ?? []).filter((port): port is Extract<PolicyPort, { kind: "named" }> => port.kind === "named"),
  );
}
