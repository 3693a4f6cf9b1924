// SPDX-License-Identifier: Apache-2.0
//
// Ports of protocols as sets of numbers. Pure.
import type { TransportProtocol } from "../kube/objects.ts";
import { hash } from "./hash.ts";
import { type ElementKey, elementKey, type L4, type Match, type PolicySet, rangeText } from "./ruleset.ts";

/** Both ends included. */
export interface PortRange {
  readonly protocol: L4;
  readonly first: number;
  readonly last: number;
}

/** "all": every protocol, those without ports too. Ranges are in order; no two overlap or touch. */
export type Ports = "all" | readonly PortRange[];

export const L4_PROTOCOLS: readonly L4[] = ["sctp", "tcp", "udp"];
const LAST_PORT = 65_535;

export function l4(protocol: TransportProtocol): L4 {
  return protocol === "TCP" ? "tcp" : protocol === "UDP" ? "udp" : "sctp";
}

export function everyPort(protocol: L4): PortRange {
  return { protocol, first: 0, last: LAST_PORT };
}

export function mergePorts(ranges: readonly PortRange[]): PortRange[] {
  const ordered = [...ranges].sort((a, b) =>
    a.protocol === b.protocol ? a.first - b.first : a.protocol < b.protocol ? -1 : 1,
  );
  const merged: PortRange[] = [];
  for (const next of ordered) {
    const previous = merged.at(-1);
    if (previous === undefined || previous.protocol !== next.protocol || next.first > previous.last + 1) {
      merged.push(next);
    } else if (next.last > previous.last) {
      merged[merged.length - 1] = { ...previous, last: next.last };
    }
  }
  return merged;
}

export function unitePorts(a: Ports, b: Ports): Ports {
  return a === "all" || b === "all" ? "all" : mergePorts([...a, ...b]);
}

/** Equal ports have equal text. */
export function portsText(ports: Ports): string {
  return ports === "all" ? "all" : ports.map(portElement).join(",");
}

/** As an element of a set of `inet_proto . inet_service`. */
export function portElement({ protocol, first, last }: PortRange): ElementKey {
  return elementKey(protocol, rangeText(String(first), String(last)));
}

/** What only packets to these ports match, and the set that it needs. */
export function matchPorts(ports: Ports): { matches: readonly Match[]; set?: PolicySet } {
  if (ports === "all") return { matches: [] };
  const [one] = ports;
  if (one !== undefined && ports.length === 1) {
    const protocol: Match = { kind: "l4proto", protocol: one.protocol };
    if (one.first === 0 && one.last === LAST_PORT) return { matches: [protocol] };
    return { matches: [protocol, { kind: "dport", first: one.first, last: one.last }] };
  }
  const set: PolicySet = {
    kind: "set",
    name: `ports_${hash(portsText(ports))}`,
    key: ["inet_proto", "inet_service"],
    interval: ports.some(({ first, last }) => first !== last),
    elements: new Set(ports.map(portElement)),
  };
  return { matches: [{ kind: "lookup", fields: ["l4proto", "dport"], set: set.name }], set };
}
