// SPDX-License-Identifier: Apache-2.0
//
// Connections that the kernel tracks and that would go on to where they must no longer go: what is translated is decided
// by a connection's first packet, and a UDP client that keeps its port never sends a first packet again.
//
// Listing connections costs the kernel a walk over the whole table, ten milliseconds and more on a node of usual size, in
// which the daemon does nothing else. So what is to be deleted is collected while a pass is under way, passes don't follow
// each other closely, and nobody waits for them. Only an address that somebody had before is not given again until its
// connections are gone, and that is one deletion by a filter, without a list, where the kernel can do it.
import { networkInterfaces } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { type Family, familyOf, parseAddress } from "../net/address.ts";
import {
  decodeFlow,
  deleteFlow,
  deleteFlows,
  type Flow,
  type FlowFilter,
  LIST_ALL_FLOWS,
  listFlows,
} from "../netlink/conntrack.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import type { Message } from "../netlink/message.ts";
import { trackedFlows } from "../netlink/tracked-flows.ts";
import type { TranslatedPort } from "./entries.ts";

/** Between two passes. */
const PAUSE_MS = 50;
/** Up to so many connections all are listed in one walk; above, a walk for each filter costs less than reading them all. */
const FEW_FLOWS = 10_000;
/** With more filters than this one walk for all costs less, however many connections there are. */
const FEW_FILTERS = 4;

/**
 * Each deletion by a filter is a walk of the kernel's, in which the daemon does nothing else; with more than so many one
 * list of all connections, which comes in pieces, costs less.
 */
const MANY_FILTERS = 16;

const IPPROTO_TCP = 6;
const ENOENT = 2;

/** What is needed of a socket to NETLINK_NETFILTER. */
export type FlowTable = Pick<Netlink, "dump" | "submit">;

export class StaleFlows {
  readonly #netlink: FlowTable;
  readonly #onError: (error: unknown) => void;
  readonly #tracked: () => Promise<number>;
  #pods = new Set<string>();
  #ports: TranslatedPort[] = [];
  #running: Promise<void> | undefined;
  /** The end of the pass that is under way. */
  #passing: Promise<unknown> = Promise.resolve();
  /**
   * Addresses whose connections were deleted after their release, in this process's life. They are unreachable on this
   * node since, so what was sent to them was dropped before it became a connection.
   */
  readonly #clean = new Set<string>();

  /** @param tracked how many connections there are */
  constructor(netlink: FlowTable, onError: (error: unknown) => void, tracked = trackedFlows) {
    this.#netlink = netlink;
    this.#onError = onError;
    this.#tracked = tracked;
  }

  /** Deletes, soon, every connection from or to addresses of pods that are gone, also through a hostPort or a Service. */
  ofPods(addresses: readonly string[]): void {
    for (const address of addresses) this.#pods.add(address);
    this.#start();
  }

  /**
   * The same at once: resolves when none is left, for addresses that are about to be somebody's. Those of which none can be
   * left cost nothing; the others are one send, after which the kernel looks for the connections by itself (before Linux
   * 6.8 they are listed). What goes wrong is told, and not thrown.
   * @param reachable packets to addresses that nobody has go somewhere, so that connections may have come since
   */
  async ofPodsNow(addresses: readonly string[], reachable: boolean): Promise<void> {
    const dirty = addresses.filter((address) => !this.#clean.delete(address) || reachable);
    // Later than now it would be the new pod's connections.
    for (const address of addresses) this.#pods.delete(address);
    try {
      await this.#alone(() => this.#pass(dirty.map(parseAddress), []));
    } catch (error) {
      this.#onError(error);
    }
  }

  /**
   * Deletes, soon, the connections to hostPorts that don't lead where these say: to nobody, or to a pod of before. TCP is
   * left out, because a TCP client begins anew and the kernel with it.
   */
  ofPorts(ports: readonly TranslatedPort[]): void {
    this.#ports.push(...ports.filter(({ protocol }) => protocol !== IPPROTO_TCP));
    this.#start();
  }

  /** Resolves when nothing is to be deleted any more. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  get #pending(): boolean {
    return this.#pods.size > 0 || this.#ports.length > 0;
  }

  #start(): void {
    if (this.#pending) this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    while (this.#pending) {
      const [pods, ports] = [[...this.#pods], this.#ports];
      this.#pods = new Set();
      this.#ports = [];
      try {
        await this.#alone(async () => {
          await this.#pass(pods.map(parseAddress), ports);
          for (const address of pods) this.#clean.add(address);
        });
      } catch (error) {
        this.#onError(error);
      }
      if (this.#pending) await sleep(PAUSE_MS);
    }
    // In the same turn as the last look, so that nothing is left to a run that is over.
    this.#running = undefined;
  }

  /** No pass beside another: one of an address's former life must not end in its next. */
  #alone(pass: () => Promise<void>): Promise<void> {
    const done = this.#passing.then(pass);
    this.#passing = done.catch(() => {});
    return done;
  }

  async #pass(pods: readonly Uint8Array[], ports: readonly TranslatedPort[]): Promise<void> {
    if (pods.length === 0 && ports.length === 0) return;
    const tracked = await this.#tracked();
    if (tracked === 0) return;
    const byPods = pods.flatMap((pod): FlowFilter[] => [
      { family: familyOf(pod), original: { source: pod } },
      { family: familyOf(pod), reply: { source: pod } },
    ]);
    const restOfPods = await this.#deleteByFilters(byPods);
    const filters = [
      ...restOfPods,
      ...ports.map(({ family, protocol, hostPort }) => ({
        family,
        original: { protocol, destinationPort: hostPort },
      })),
    ];
    const own = ports.length === 0 ? [] : localAddresses();
    const byPort = Map.groupBy(ports, ({ family, protocol, hostPort }) => portKey(family, protocol, hostPort));
    const keys = new Set(restOfPods.length === 0 ? [] : pods.map(textOf));
    await this.#deleteListed(
      filters,
      tracked,
      (flow) =>
        keys.has(textOf(flow.original.source)) ||
        keys.has(textOf(flow.reply.source)) ||
        (byPort.get(portKey(flow.family, flow.original.protocol, flow.original.destinationPort)) ?? []).some(
          (port) => isOf(port, flow, own) && !leadsTo(port, flow),
        ),
    );
  }

  /** @returns the filters that this kernel can't delete by */
  async #deleteByFilters(filters: readonly FlowFilter[]): Promise<FlowFilter[]> {
    if (filters.length > MANY_FILTERS) return [...filters];
    const replies = await this.#netlink.submit(filters.map(deleteFlows));
    return filters.filter((_, i) => replies[i]?.error !== undefined);
  }

  async #deleteListed(filters: readonly FlowFilter[], tracked: number, stale: (flow: Flow) => boolean): Promise<void> {
    if (filters.length === 0) return;
    const whole = tracked <= FEW_FLOWS || filters.length > FEW_FILTERS;
    for (const request of whole ? [LIST_ALL_FLOWS] : filters.map(listFlows)) {
      const requests = (await this.#netlink.dump(request)).flatMap((message: Message) => {
        const flow = decodeFlow(message);
        return flow !== undefined && stale(flow) ? [deleteFlow(flow)] : [];
      });
      for (const { error } of await this.#netlink.submit(requests)) {
        // Others delete connections as well, and time does.
        if (error !== undefined && error.errno !== ENOENT) throw error;
      }
    }
  }
}

/** Whether a packet like the connection's first, to this port, would be translated by this port's entry. */
function isOf(port: TranslatedPort, { family, original }: Flow, own: readonly Uint8Array[]): boolean {
  const { destination } = original;
  if (port.hostIp !== undefined) return equal(destination, port.hostIp);
  return (family === 4 && destination[0] === 127) || own.some((address) => equal(destination, address));
}

function leadsTo(port: TranslatedPort, { reply }: Flow): boolean {
  return equal(reply.source, port.podIp) && reply.sourcePort === port.podPort;
}

/** The node's own addresses but those of loopback's network. */
function localAddresses(): Uint8Array[] {
  return Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).map(({ address }) => parseAddress(address)),
  );
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  // By value: one may be a Buffer and the other not.
  return Buffer.compare(a, b) === 0;
}

function portKey(family: Family, protocol: number, port: number): string {
  return `${family}/${protocol}/${port}`;
}

function textOf(address: Uint8Array): string {
  return address.join(".");
}
