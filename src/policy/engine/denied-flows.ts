// SPDX-License-Identifier: Apache-2.0
//
// Connections that began when policies still allowed them. Their packets aren't looked at, because replies must come through; so
// when policies change, those that wouldn't begin any more are forgotten by the kernel, and their next packet is judged as a first.
import { networkInterfaces } from "node:os";
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
import type { Request } from "../../netlink/message.ts";
import { trackedFlows } from "../../netlink/tracked-flows.ts";
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

/** Up to so many connections all are listed in one walk; above, a walk for each address costs less than reading them all. */
const FEW_FLOWS = 10_000;
/** With more addresses than this one walk for all costs less, however many connections there are. */
const FEW_ADDRESSES = 2;
/** So long a pass waits for more to look at, in milliseconds. */
const SETTLE_MS = 100;
/**
 * A list is a walk of the kernel's over all connections, ten milliseconds and more on a node of usual size, in which the daemon does
 * nothing else. So a pass rests this many times as long as it took, and at least so many milliseconds.
 */
const REST = { factor: 50, leastMs: 1000 };
const ENOENT = 2;

export interface DeniedFlowsOptions {
  /** Called for each pass: whether a connection may begin now. */
  readonly judge: () => (packet: FirstPacket, hook: "forward" | "output") => boolean;
  readonly onError: (error: unknown) => void;
  /** Told how many connections were ended. */
  readonly onEnded?: (count: number) => void;
  /** The node's own addresses, canonical text. */
  readonly nodeAddresses?: () => ReadonlySet<string>;
  /** How many connections there are. */
  readonly tracked?: () => Promise<number>;
  /** So long a pass waits for more, in milliseconds. */
  readonly settleMs?: number;
}

/**
 * Whose connections a change may have closed: pods that other rules are for now, and peers that were allowed.
 * @param exempt addresses that somebody has just been given, or has just given back: their connections are dealt with there
 */
export function suspectsOf(change: RulesetChange, exempt: ReadonlySet<string> = new Set()): ReadonlySet<string> {
  const suspects = new Set<string>();
  const maps = new Set(
    change.elements.flatMap(({ set, add }) => (add.some(({ chain }) => chain !== undefined) ? [set] : [])),
  );
  for (const { set, remove, add } of change.elements) {
    for (const key of remove) suspects.add(addressIn(key));
    // What comes to a set of peers is allowed more than before; what comes to a map is closed.
    if (maps.has(set)) for (const { key } of add) suspects.add(addressIn(key));
  }
  for (const address of exempt) suspects.delete(address);
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
  /** Resolved when nobody wants to wait for a rest. */
  #hurry = Promise.withResolvers<void>();

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

  /** Looks at what there is to look at without a rest, and resolves then. */
  async idle(): Promise<void> {
    this.#hurry.resolve();
    while (this.#running !== undefined) await this.#running;
    this.#hurry = Promise.withResolvers();
  }

  get #pending(): boolean {
    return this.#suspects === "all" || this.#suspects.size > 0;
  }

  async #run(): Promise<void> {
    await this.#rest(this.#options.settleMs ?? SETTLE_MS);
    while (this.#pending) {
      const suspects = this.#suspects;
      this.#suspects = new Set();
      const begun = performance.now();
      try {
        await this.#pass(suspects);
      } catch (error) {
        this.#options.onError(error);
      }
      await this.#rest(Math.max(REST.leastMs, REST.factor * (performance.now() - begun)));
    }
    // In the same turn as the last look, so that nothing is left to a run that is over.
    this.#running = undefined;
  }

  async #rest(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([over, this.#hurry.promise]);
    clearTimeout(timer);
  }

  async #pass(suspects: Suspects): Promise<void> {
    const { nodeAddresses = localAddresses, tracked = trackedFlows, judge, onEnded } = this.#options;
    const count = await tracked();
    if (count === 0) return;
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
    for (const request of requestsFor(suspects, count)) {
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

function requestsFor(suspects: Suspects, tracked: number): Request[] {
  if (suspects === "all" || suspects.size > FEW_ADDRESSES || tracked <= FEW_FLOWS) return [LIST_ALL_FLOWS];
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
