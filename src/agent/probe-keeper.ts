// SPDX-License-Identifier: Apache-2.0
//
// Asks the other daemons whether packets really arrive: at their nodes' addresses, and at an address of each of their pods'
// subnets. A route that exists and leads nowhere is seen by nothing else.
import { formatAddress } from "../net/address.ts";
import type { Prefix } from "../net/prefix.ts";
import { decodeAddress, dumpAddresses } from "../netlink/address.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import { changesOf } from "../probe/local-addresses.ts";
import { newNonce, ProbeSockets } from "../probe/sockets.ts";
import { subnetAddress, targetsOf } from "../probe/targets.ts";
import { explain, type Finding, Tracker } from "../probe/tracker.ts";
import type { Node } from "../routes/source.ts";
import type { Log } from "./log.ts";

/** How often it is looked who is to be asked and who has not answered, in milliseconds. */
const TICK_MS = 100;
/** How long an answer may take, in milliseconds, if the interval isn't shorter than two of them. */
const TIMEOUT_MS = 1000;

export interface ProbeOptions {
  readonly self: { readonly name: string; readonly podCIDRs: readonly Prefix[] };
  readonly intervalMs: number;
  readonly log: Log;
  /** Round trips in seconds, as they are measured. */
  readonly onRoundTrip: (kind: Finding["kind"], seconds: number) => void;
}

export class ProbeKeeper {
  readonly #options: ProbeOptions;
  readonly #tracker: Tracker;
  #sockets: ProbeSockets | undefined;
  #nodes = new Set<string>();
  #timer: NodeJS.Timeout | undefined;

  private constructor(options: ProbeOptions) {
    this.#options = options;
    this.#tracker = new Tracker(options.intervalMs, Math.min(TIMEOUT_MS, options.intervalMs / 2));
  }

  /**
   * Begins to ask and to answer.
   * @throws NetlinkError, ProbeError
   */
  static async start(netlink: Netlink, nodes: readonly Node[], options: ProbeOptions): Promise<ProbeKeeper> {
    const own = options.self.podCIDRs.map(subnetAddress).filter((address) => address !== undefined);
    await putOnLoopback(netlink, own);
    const keeper = new ProbeKeeper(options);
    keeper.pass(nodes);
    keeper.#sockets = await ProbeSockets.open(own, {
      isNode: (address) => keeper.#nodes.has(address),
      onAnswer: (nonce, from) => keeper.#answered(nonce, from),
      onError: (err) => options.log.error({ err }, "a socket of the probe failed"),
    });
    keeper.#timer = setInterval(() => keeper.#tick(), TICK_MS);
    return keeper;
  }

  /** Takes away what an earlier configuration had. @throws NetlinkError */
  static async remove(netlink: Netlink): Promise<void> {
    await putOnLoopback(netlink, []);
  }

  /** From now on these nodes are asked, and answered. */
  pass(nodes: readonly Node[]): void {
    this.#nodes = new Set(nodes.flatMap(({ addresses }) => addresses.map(formatAddress)));
    this.#tracker.watch(targetsOf(nodes, this.#options.self.name), performance.now());
  }

  findings(): Finding[] {
    return this.#tracker.findings();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#sockets?.close();
  }

  #tick(): void {
    const now = performance.now();
    const lost = this.#tracker.expire(now);
    const findings = lost.length === 0 ? [] : this.#tracker.findings();
    for (const finding of lost) {
      const { peer, kind, address } = finding;
      this.#options.log.error({ peer, kind, address }, explain(finding, findings));
    }
    for (const { target, nonce } of this.#tracker.ask(now, newNonce)) this.#sockets?.ask(target.address, nonce);
  }

  #answered(nonce: string, from: string): void {
    const asked = this.#tracker.answered(nonce, from, performance.now());
    if (asked === undefined) return;
    const { finding, news } = asked;
    this.#options.onRoundTrip(finding.kind, (finding.rttMs ?? 0) / 1000);
    const { peer, kind, address, rttMs } = finding;
    if (news) this.#options.log.info({ peer, kind, address, rttMs }, "a peer answers");
  }
}

async function putOnLoopback(netlink: Netlink, wanted: readonly Uint8Array[]): Promise<void> {
  const there = (await netlink.dump(dumpAddresses())).map(decodeAddress).filter((address) => address !== undefined);
  await netlink.request(changesOf(wanted, there));
}
