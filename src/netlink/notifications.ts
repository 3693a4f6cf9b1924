// SPDX-License-Identifier: Apache-2.0
//
// What the kernel tells of by itself: rtnetlink's multicast groups (RTNLGRP_* of include/uapi/linux/rtnetlink.h), on a socket
// of their own, so that a flood of them costs no answer.
import { SysError } from "../sys/sys.ts";
import { decodeMessages, type Message, NetlinkError } from "./message.ts";

export const RTNLGRP_LINK = 1;
export const RTNLGRP_IPV4_IFADDR = 5;
export const RTNLGRP_IPV4_ROUTE = 7;
export const RTNLGRP_IPV4_RULE = 8;
export const RTNLGRP_IPV6_IFADDR = 9;
export const RTNLGRP_IPV6_ROUTE = 11;
export const RTNLGRP_IPV6_RULE = 19;

/**
 * How often the socket is read, in milliseconds. Npm `netlink` would wait for it, but ends the process when messages are lost
 * (0.3.0: POLLERR alone, which libuv turns into an error that the addon can't make); a read that finds nothing costs
 * microseconds, and what comes together is looked at together.
 */
const TICK_MS = 100;
/** So many datagrams are read in one turn of the event loop. */
const READS_MAX = 512;

/** In a flood that doesn't end, losses are told at these intervals, in milliseconds. */
const FLOOD_TOLD_MS = 1000;

/** A socket that never blocks: `receive` throws SysError, ENOBUFS when messages were lost. */
export interface NotificationSocket {
  /** `bytes` are of this call only. */
  receive(): { readonly bytes: Uint8Array } | undefined;
  close(): void;
}

export interface NotificationHandlers {
  /** `message.body` is of this call only. */
  readonly onMessage: (message: Message) => void;
  /** Messages may have been lost: whoever follows has to look for itself. */
  readonly onLost: (why: unknown) => void;
}

/** Reads the socket from now on. @returns ends that, and closes it */
export function listen(socket: NotificationSocket, { onMessage, onLost }: NotificationHandlers): () => void {
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  let loss: { readonly why: unknown; readonly sinceMs: number } | undefined;
  const read = () => {
    let reads = 0;
    for (; reads < READS_MAX; reads++) {
      try {
        const heard = socket.receive();
        if (heard === undefined) break;
        for (const message of decodeMessages(heard.bytes)) onMessage(message);
      } catch (why) {
        // A datagram that makes no sense is as good as lost.
        if (!(why instanceof SysError) && !(why instanceof NetlinkError)) throw why;
        loss ??= { why, sinceMs: performance.now() };
      }
    }
    // The kernel says once that it has no room, and then drops everything until all is read (netlink_overrun): who looks
    // before that would miss what is dropped after the look.
    if (loss !== undefined && (reads < READS_MAX || performance.now() - loss.sinceMs > FLOOD_TOLD_MS)) {
      const { why } = loss;
      loss = undefined;
      onLost(why);
    }
    if (!closed) timer = setTimeout(read, reads === READS_MAX ? 0 : TICK_MS);
  };
  timer = setTimeout(read, 0);
  return () => {
    closed = true;
    clearTimeout(timer);
    socket.close();
  };
}
