// SPDX-License-Identifier: Apache-2.0
//
// Which attachment has which of the node's ports. A port may be taken on one address, on all of a family (0.0.0.0, ::), or
// on all of both (no address), so two mappings of one port and protocol exclude each other when their addresses meet.
import type { PortMapping } from "./records.ts";

const EVERY_V4 = "0.0.0.0";
const EVERY_V6 = "::";

/** A mapping that is wanted, and the one that is in its way. */
export interface PortConflict {
  readonly wanted: PortMapping;
  readonly held: PortMapping;
  /** Key of the attachment that holds it. */
  readonly holder: string;
}

/** Every operation takes time in the number of mappings given to it and of those that share a port and protocol with one. */
export class PortIndex {
  /** By protocol and port; there are as many entries as addresses on which that port is taken. */
  readonly #taken = new Map<string, { readonly mapping: PortMapping; readonly holder: string }[]>();

  /** The first of the mappings that an attachment other than `key` is in the way of. */
  conflict(key: string, mappings: readonly PortMapping[]): PortConflict | undefined {
    for (const wanted of mappings) {
      for (const { mapping: held, holder } of this.#taken.get(portKey(wanted)) ?? []) {
        if (holder !== key && addressesMeet(wanted.hostIp, held.hostIp)) return { wanted, held, holder };
      }
    }
    return undefined;
  }

  /** Takes the ports; the caller knows that there is no conflict. */
  hold(key: string, mappings: readonly PortMapping[]): void {
    for (const mapping of mappings) {
      const at = portKey(mapping);
      const entries = this.#taken.get(at);
      if (entries === undefined) this.#taken.set(at, [{ mapping, holder: key }]);
      else entries.push({ mapping, holder: key });
    }
  }

  /** Gives back whatever the attachment has on the ports of these mappings. */
  release(key: string, mappings: readonly PortMapping[]): void {
    for (const mapping of mappings) {
      const at = portKey(mapping);
      const others = this.#taken.get(at)?.filter(({ holder }) => holder !== key) ?? [];
      if (others.length === 0) this.#taken.delete(at);
      else this.#taken.set(at, others);
    }
  }
}

/** Whether two mappings claim one port of one address. */
export function portsMeet(a: PortMapping, b: PortMapping): boolean {
  return portKey(a) === portKey(b) && addressesMeet(a.hostIp, b.hostIp);
}

/** "tcp port 80 of 10.0.0.1", for messages. */
export function describePort({ protocol, hostPort, hostIp }: PortMapping): string {
  return `${protocol} port ${hostPort} of ${hostIp === "" ? "every address" : hostIp}`;
}

function portKey({ protocol, hostPort }: PortMapping): string {
  return `${protocol}/${hostPort}`;
}

/** Whether two host addresses in canonical text share one. */
function addressesMeet(a: string, b: string): boolean {
  if (a === b || a === "" || b === "") return true;
  return isV6(a) === isV6(b) && (isEvery(a) || isEvery(b));
}

function isEvery(address: string): boolean {
  return address === EVERY_V4 || address === EVERY_V6;
}

function isV6(address: string): boolean {
  return address.includes(":");
}
