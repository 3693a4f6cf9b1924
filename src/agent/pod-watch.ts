// SPDX-License-Identifier: Apache-2.0
//
// Hears, in the node's namespace and in all pods', where something may have been taken away, and has it looked at. One
// socket in the node's namespace hears them all; one in a pod's would keep that namespace alive.
import { setTimeout as sleep } from "node:timers/promises";
import { NETLINK_ROUTE, type Netlink } from "../netlink/event-loop.ts";
import { LOSS_GROUPS, lossesIn } from "../netlink/events.ts";
import { decodeLink, dumpLinks, type Link } from "../netlink/link.ts";
import { NetlinkError } from "../netlink/message.ts";
import { type Heard, ListeningSocket, sys } from "../sys/node.ts";
import { SysError } from "../sys/sys.ts";
import type { Log } from "./log.ts";
import { PodEnds } from "./pod-ends.ts";
import { type HeldAllocations, type News, PodKeeper } from "./pod-keeper.ts";

/**
 * How often the socket is read, in milliseconds. Node can't wait for a socket of another's making, and a read that finds
 * nothing costs microseconds; events that come together are one look this way, too.
 */
const TICK_MS = 200;
/** Datagrams that one tick reads; more are left for the next one, and what doesn't fit the buffer is a look at everything. */
const READS_MAX = 512;
/** Between looks at everything because events were lost, in milliseconds. */
const LOST_INTERVAL_MS = 2_000;
/** Between looks at everything that nothing asked for. */
const PASS_INTERVAL_MS = 30_000;
/** In bytes. */
const RECEIVE_BUFFER = 1 << 20;

/** The daemon may not hear what happens in pods' namespaces. */
export class PodWatchError extends Error {
  override readonly name = "PodWatchError";
  readonly code = "POD_WATCH_DENIED";
  constructor(cause: SysError) {
    const problem = `hearing what is taken away in pods takes CAP_NET_BROADCAST (${cause.message})`;
    super(`${problem}; with \`repair: false\` the daemon does without`, { cause });
  }
}

/**
 * Keeps living attachments as their ADDs made them, from now on, beginning with a look at all of them.
 * @param netlink a socket of NETLINK_ROUTE in the node's namespace
 * @returns ends it
 * @throws PodWatchError, SysError when the socket can't be had
 */
export function watchPods(
  allocations: HeldAllocations,
  netlink: Netlink,
  bootId: string,
  log: Log,
): () => Promise<void> {
  const now = () => performance.now();
  const stopping = new AbortController();
  const rest = (ms: number) => sleep(ms, undefined, { signal: stopping.signal });
  const ends = new PodEnds(sys);
  const keeper = new PodKeeper({ allocations, links: () => listLinks(netlink), ends, bootId, log, now, sleep: rest });
  const socket = openSocket();
  const ears = new Ears(socket, now);
  const run = async () => {
    while (!stopping.signal.aborted) {
      const news = ears.listen();
      try {
        if (news !== undefined || keeper.restless) await keeper.pass(news ?? nothing());
      } catch (err) {
        if (stopping.signal.aborted) break;
        ears.lost();
        log.error({ err }, "attachments could not be compared with their records");
      }
      await sleep(TICK_MS, undefined, { ref: false, signal: stopping.signal }).catch(() => {});
    }
  };
  const running = run();
  return async () => {
    stopping.abort();
    await running;
    socket.close();
  };
}

/** Without the right the kernel refuses to tell of other namespaces (net/netlink/af_netlink.c, NETLINK_LISTEN_ALL_NSID). */
function openSocket(): ListeningSocket {
  try {
    return ListeningSocket.open(NETLINK_ROUTE, LOSS_GROUPS, RECEIVE_BUFFER);
  } catch (error) {
    if (error instanceof SysError && error.code === "EPERM") throw new PodWatchError(error);
    throw error;
  }
}

/** All links of the node's namespace. */
export async function listLinks(netlink: Netlink): Promise<Link[]> {
  return (await netlink.dump(dumpLinks())).flatMap((message) => decodeLink(message) ?? []);
}

/** Turns what the socket hears into news. */
class Ears {
  readonly #socket: ListeningSocket;
  readonly #now: () => number;
  #lookAtAllMs = Number.NEGATIVE_INFINITY;
  #lost = false;

  constructor(socket: ListeningSocket, now: () => number) {
    this.#socket = socket;
    this.#now = now;
  }

  /** Something was missed: it isn't known where to look. */
  lost(): void {
    this.#lost = true;
  }

  /** What came since the last time; undefined for nothing. */
  listen(): News | undefined {
    const news = nothing();
    for (let reads = 0; reads < READS_MAX; reads++) {
      try {
        const heard = this.#socket.receive();
        if (heard === undefined) break;
        note(news, heard);
      } catch (error) {
        // ENOBUFS: the kernel had no room for some. A datagram that makes no sense is as good as lost.
        if (!(error instanceof SysError) && !(error instanceof NetlinkError)) throw error;
        this.#lost = true;
      }
    }
    const sinceMs = this.#now() - this.#lookAtAllMs;
    news.all = sinceMs >= (this.#lost ? LOST_INTERVAL_MS : PASS_INTERVAL_MS);
    if (news.all) {
      this.#lookAtAllMs = this.#now();
      this.#lost = false;
    }
    return news.all || news.own.size > 0 || news.others.size > 0 ? news : undefined;
  }
}

function note(news: News, { bytes, nsid }: Heard): void {
  const losses = lossesIn(bytes);
  if (losses.length === 0) return;
  let there = news.own;
  if (nsid !== undefined) {
    there = news.others.get(nsid) ?? new Set();
    news.others.set(nsid, there);
  }
  for (const index of losses) there.add(index);
}

function nothing(): News {
  return { all: false, own: new Set(), others: new Map() };
}
