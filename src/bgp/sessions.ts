// SPDX-License-Identifier: Apache-2.0
//
// Who talks BGP with whom. One session for each neighbour and family: IPv4's routes over IPv4, IPv6's over IPv6. Every
// session is with somebody on one of the node's links.
import { type Family, familyOf, formatAddress } from "../net/address.ts";
import type { Prefix } from "../net/prefix.ts";
import type { BgpSettings } from "./settings.ts";

/** A node of the cluster, as the source of nodes says it. */
export interface BgpNode {
  readonly name: string;
  /** At most one a family; 4 or 16 bytes. */
  readonly addresses: readonly Uint8Array[];
  readonly podCIDRs: readonly Prefix[];
}

/** This node, as its own daemon was told. */
export interface BgpSelf {
  readonly name: string;
  readonly podCIDRs: readonly Prefix[];
}

export interface Session {
  /** Its name in BIRD, which follows from the address alone: a session that stays is never made anew. */
  readonly id: string;
  /** Who it is with, for people: a node's name, or a router's address. */
  readonly with: string;
  readonly address: Uint8Array;
  readonly family: Family;
  /** This node's own address of the family; BIRD takes that of the link where it isn't known. */
  readonly local: Uint8Array | undefined;
  /** The neighbour's AS. */
  readonly asn: number;
  /** The neighbour is told what others announced: this node is its route reflector (RFC 4456). */
  readonly client: boolean;
  readonly bfd: boolean;
  readonly passwordFile: string | undefined;
  /** The subnets it may announce, or any: a router outside of the cluster may, but never the node's own or a default route. */
  readonly accept: readonly Prefix[] | "any";
}

export interface SessionPlan {
  readonly sessions: readonly Session[];
  /** A sentence about each thing that is wrong; the sessions are what can be had nonetheless. */
  readonly problems: readonly string[];
}

/**
 * The sessions of a node. With routers (`peers`) it talks to them alone, with `reflectors` to the nodes named there, which
 * talk to everybody, and without either all nodes talk to all. Pure.
 */
export function planSessions(settings: BgpSettings, self: BgpSelf, nodes: readonly BgpNode[]): SessionPlan {
  const own = nodes.find(({ name }) => name === self.name);
  const others = nodes.filter((node) => node !== own);
  const outside = settings.peers.map(({ address, asn, passwordFile, bfd }): Session => {
    const family = familyOf(address);
    return {
      id: sessionId(address),
      with: formatAddress(address),
      address,
      family,
      local: addressOf(own, family),
      asn,
      client: false,
      bfd: bfd ?? settings.bfd,
      passwordFile,
      accept: "any",
    };
  });
  const taken = new Set(outside.map(({ id }) => id));
  const isReflector = (name: string) => settings.reflectors.includes(name);
  const inside = others.flatMap((node) => {
    const neighbour =
      settings.reflectors.length > 0 ? isReflector(self.name) || isReflector(node.name) : settings.peers.length === 0;
    if (!neighbour) return [];
    return node.addresses.flatMap((address): Session[] => {
      const family = familyOf(address);
      const id = sessionId(address);
      const anything = [self, node].some(({ podCIDRs }) => podCIDRs.some((prefix) => prefix.family === family));
      if (!anything || taken.has(id) || (own !== undefined && addressOf(own, family) === undefined)) return [];
      // A reflector passes on what all the others have.
      const announcers = isReflector(node.name) ? others : [node];
      return [
        {
          id,
          with: node.name,
          address,
          family,
          local: addressOf(own, family),
          asn: settings.asn,
          client: isReflector(self.name) && !isReflector(node.name),
          bfd: settings.bfd,
          passwordFile: settings.passwordFile,
          accept: announcers.flatMap(({ podCIDRs }) => podCIDRs.filter((prefix) => prefix.family === family)),
        },
      ];
    });
  });
  const known = new Set([self.name, ...nodes.map(({ name }) => name)]);
  const problems = settings.reflectors
    .filter((name) => !known.has(name))
    .map((name) => `routes.bgp.reflectors names ${name}, and there is no such node`);
  return { sessions: [...outside, ...inside], problems };
}

/**
 * The node's number in BGP, in the form of an IPv4 address: the one that is configured, or its IPv4 address, or on a node
 * that has only IPv6 one that its name makes. Pure but for the hash.
 */
export function routerId(
  settings: BgpSettings,
  self: BgpSelf,
  nodes: readonly BgpNode[],
  sha256: (text: string) => Uint8Array,
): string {
  if (settings.routerId !== undefined) return settings.routerId;
  const v4 = addressOf(
    nodes.find(({ name }) => name === self.name),
    4,
  );
  if (v4 !== undefined) return formatAddress(v4);
  const [a, b, c, d] = sha256(self.name);
  // 0.0.0.0 is none (RFC 6286).
  return [a, b, c, (d as number) | 1].join(".");
}

/** "172.18.0.12 (node2)", or the address alone of somebody without a name. */
export function describeSession({ with: who, address }: Pick<Session, "with" | "address">): string {
  const text = formatAddress(address);
  return who === text ? text : `${text} (${who})`;
}

function sessionId(address: Uint8Array): string {
  return `peer_${formatAddress(address).replaceAll(/[.:]/g, "_")}`;
}

function addressOf(node: BgpNode | undefined, family: Family): Uint8Array | undefined {
  return node?.addresses.find((address) => familyOf(address) === family);
}
