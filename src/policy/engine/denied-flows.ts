// SPDX-License-Identifier: Apache-2.0
//
// Connections that began when policies still allowed them. Their packets aren't looked at, because replies must come through; so
// when policies change, those that wouldn't begin any more are forgotten by the kernel, and their next packet is judged as a first.
import { networkInterfaces } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { formatAddress, parseAddress } from "../../net/address.ts";
import {
  decodeFlow,
  deleteFlow,
  type Flow,
  type FlowFilter,
  LIST_ALL_FLOWS,
  listFlows,
} from "../../netlink/conntrack.ts";
import type { Netlink } from "../../netlink/event-loop.ts";
import type { RulesetChange } from "../ruleset.ts";

/** A connection's first packet where policies see it, addresses in canonical text. */
export interface FirstPacket {
  readonly source: string;
  /** Behind services: the one that is really connected to. */
  readonly destination: string;
  /** IPPROTO_* number. */
  readonly protocol: number;
  /** 0 where the protocol has none. */
  readonly port: number;
}

/** Addresses whose connections may be denied now; "all": nobody knows which. */
export type Suspects = ReadonlySet<string> | "all";

/** With more addresses than this one list of all connections costs less than one for each. */
const FEW_ADDRESSES = 4;
/** Between two passes, in milliseconds: a list is a walk of the kernel's over all connections. */
const PAUSE_MS = 50;
const ENOENT = 2;

export interface DeniedFlowsOptions {
  /** Called for each pass: whether a connection may begin now. */
  readonly judge: () => (packet: FirstPacket, hook: "forward" | "output") => boolean;
  readonly onError: (error: unknown) => void;
  /** Told how many connections were ended. */
  readonly onEnded?: (count: number) => void;
  /** The node's own addresses, canonical text. */
  readonly nodeAddresses?: () => ReadonlySet<string>;
}

/** Whose connections a change may have closed: pods that other rules are for now, and peers that were allowed. */
export function suspectsOf(change: RulesetChange): ReadonlySet<string> {
  const suspects = new Set<string>();
  const maps = new Set(
    change.elements.flatMap(({ set, add }) => (add.some(({ chain }) => chain !== undefined) ? [set] : [])),
  );
  for (const { set, remove, add } of change.elements) {
    for (const key of remove) suspects.add(addressIn(key));
    // What comes to a set of peers is allowed more than before; what comes to a map is closed.
    if (maps.has(set)) for (const { key } of add) suspects.add(addressIn(key));
  }
  return suspects;
}

function addressIn(key: string): string {
  return key.split(" . ", 1)[0] as string;
}

export class DeniedFlows {
  readonly #netlink: Pick<Netlink, "dump" | "submit">;
  readonly #options: DeniedFlowsOptions;
  #suspects: Set<string> | "all" = new Set();
  #running: Promise<void> | undefined;

  constructor(netlink: Pick<Netlink, "dump" | "submit">, options: DeniedFlowsOptions) {
    this.#netlink = netlink;
    this.#options = options;
  }

  /** Ends, soon, the connections of these that couldn't begin any more. In the background. */
  end(suspects: Suspects): void {
    if (suspects === "all" || this.#suspects === "all") this.#suspects = "all";
    else for (const address of suspects) this.#suspects.add(address);
    if (this.#pending) this.#running ??= this.#run();
  }

  /** Resolves when nothing is to be looked at any more. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  get #pending(): boolean {
    return this.#suspects === "all" || this.#suspects.size > 0;
  }

  async #run(): Promise<void> {
    while (this.#pending) {
      const suspects = this.#suspects;
      this.#suspects = new Set();
      try {
        await this.#pass(suspects);
      } catch (error) {
        this.#options.onError(error);
      }
      if (this.#pending) await sleep(PAUSE_MS);
    }
    this.#running = undefined;
  }

  async #pass(suspects: Suspects): Promise<void> {
    const { nodeAddresses = localAddresses, judge, onEnded } = this.#options;
    const own = nodeAddresses();
    const allows = judge();
    const isDenied = (flow: Flow) => {
      const packet = firstPacketOf(flow);
      const concerns = suspects === "all" || suspects.has(packet.source) || suspects.has(packet.destination);
      // What goes to the node itself no policy sees.
      if (!concerns || own.has(packet.destination)) return false;
      return !allows(packet, own.has(packet.source) ? "output" : "forward");
    };
    let ended = 0;
    for (const request of requestsFor(suspects)) {
      const denied = (await this.#netlink.dump(request)).flatMap((message) => {
        const flow = decodeFlow(message);
        return flow !== undefined && isDenied(flow) ? [deleteFlow(flow)] : [];
      });
      for (const { error } of await this.#netlink.submit(denied)) {
        // Others delete connections as well, and time does.
        if (error === undefined) ended++;
        else if (error.errno !== ENOENT) throw error;
      }
    }
    if (ended > 0) onEnded?.(ended);
  }
}

function requestsFor(suspects: Suspects) {
  if (suspects === "all" || suspects.size > FEW_ADDRESSES) return [LIST_ALL_FLOWS];
  return [...suspects].flatMap((text) => {
    const source = parseAddress(text);
    const family = source.length === 4 ? 4 : 6;
    const filters: FlowFilter[] = [
      { family, original: { source } },
      { family, reply: { source } },
    ];
    return filters.map(listFlows);
  });
}

/** As the forward hook sees it: to whom it goes is translated already, and from whom isn't yet. */
function firstPacketOf({ original, reply }: Flow): FirstPacket {
  return {
    source: formatAddress(original.source),
    destination: formatAddress(reply.source),
    protocol: original.protocol,
    port: reply.sourcePort,
  };
}

function localAddresses(): ReadonlySet<string> {
  return new Set(
    Object.values(networkInterfaces()).flatMap((addresses) =>
      (addresses ?? []).map(({ address }) => formatAddress(parseAddress(address))),
    ),
  );
}
