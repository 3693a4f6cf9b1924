// SPDX-License-Identifier: Apache-2.0
//
// What the runtime knows: which attachments it asked for and what it was told of them. It is compared with store and kernel.

import { createHash } from "node:crypto";
import { hostLinkName } from "../../src/net/names.ts";
import type { CniResult } from "../helpers/plugin.ts";

/** More containers than come to a place while a GC runs. */
const COMING = 10;

/** What the runtime knows of an attachment. */
export type Standing =
  /** Never asked for, or DEL has succeeded since. */
  | "none"
  /** ADD has succeeded, and no DEL was tried since. */
  | "held"
  /** A verb was killed or failed: nobody knows. DEL has to end it. */
  | "open";

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: "tcp" | "udp";
}

export interface Attachment {
  readonly containerId: string;
  readonly ifname: string;
  /** CNI_NETNS. */
  readonly netns: string;
  readonly portMappings: readonly PortMapping[];
  standing: Standing;
  /** Of one that is held. */
  addresses: readonly string[];
  /** Of one that is held. */
  result: CniResult | undefined;
  /** Somebody was at its routes or addresses, which the daemon is to repair. */
  tampered: boolean;
}

/** A pod's place on the node. Pods come and go in it, one after the other. */
export interface Place {
  readonly index: number;
  /** Some pods have a second interface. */
  readonly ifnames: readonly string[];
  /** How many containers it has had. */
  generation: number;
  netns: string;
  /** Of the container that is in it, by interface name, and of an intruder. */
  attachments: Attachment[];
  /** A verb runs for it: a runtime does one thing at a time with a container. */
  busy: boolean;
}

export function keyOf({ containerId, ifname }: Pick<Attachment, "containerId" | "ifname">): string {
  return `${containerId}/${ifname}`;
}

/** Name of its host end. */
export function hostLinkOf({ containerId, ifname }: Attachment): string {
  const sha256 = (text: string) => createHash("sha256").update(text).digest();
  return hostLinkName({ network: "tests", containerId, ifname }, sha256);
}

export class Ledger {
  readonly places: readonly Place[];
  /** What lost its namespace and had no DEL, or one that failed. */
  vanished: Attachment[] = [];
  readonly #holders = new Map<string, Attachment>();

  constructor(places: readonly Place[]) {
    this.places = places;
  }

  /** The attachments of all pods that are there. */
  attachments(): Attachment[] {
    return this.places.flatMap(({ attachments }) => attachments);
  }

  held(): Attachment[] {
    return this.attachments().filter(({ standing }) => standing === "held");
  }

  /** Gives the place to a new container, once nothing is known to be left of the one before. */
  nextContainer(place: Place): void {
    place.generation++;
    const containerId = containerIdOf(place.index, place.generation);
    const { netns } = place;
    place.attachments = place.ifnames.map((ifname) => ({
      ...{ containerId, ifname, netns, addresses: [], result: undefined, tampered: false },
      standing: "none",
      portMappings: ifname === "eth0" ? portsOf(place.index) : [],
    }));
  }

  /** An ADD has succeeded. @returns what is wrong with that */
  acknowledge(attachment: Attachment, addresses: readonly string[], result: CniResult): string[] {
    const problems = addresses.flatMap((address) => {
      const holder = this.#holders.get(address);
      if (holder === undefined || holder === attachment) return [];
      return [`${address} is given to ${keyOf(attachment)} and is held by ${keyOf(holder)}`];
    });
    attachment.standing = "held";
    attachment.addresses = addresses;
    attachment.result = result;
    attachment.tampered = false;
    for (const address of addresses) this.#holders.set(address, attachment);
    return problems;
  }

  /** A DEL begins, or the namespace has gone: from now on the addresses may be somebody else's. */
  doubt(attachment: Attachment): void {
    if (attachment.standing === "held") {
      for (const address of attachment.addresses) this.#holders.delete(address);
      attachment.addresses = [];
      attachment.result = undefined;
    }
    attachment.standing = "open";
  }

  /** What GC is told: everything that may be alive, and the containers that may come while it runs. */
  valid(): { containerID: string; ifname: string }[] {
    return this.places.flatMap(({ index, generation, ifnames, attachments }) => {
      const coming = Array.from({ length: COMING }, (_, i) => containerIdOf(index, generation + 1 + i));
      return [
        ...attachments.map(({ containerId, ifname }) => ({ containerID: containerId, ifname })),
        ...coming.flatMap((containerID) => ifnames.map((ifname) => ({ containerID, ifname }))),
      ];
    });
  }
}

function containerIdOf(index: number, generation: number): string {
  return `pod${index}-${generation}`;
}

/** Every third pod has ports of the node, always the same: a pod's successor wants those of its predecessor. */
function portsOf(index: number): PortMapping[] {
  if (index % 3 !== 0) return [];
  return (["tcp", "udp"] as const).map((protocol) => ({ hostPort: 20_000 + index, containerPort: 80, protocol }));
}
