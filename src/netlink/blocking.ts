// SPDX-License-Identifier: Apache-2.0
//
// The plugin's netlink transport: one send for a batch, blocking reads until each request of it is answered.
import { AF_NETLINK, type Fd, SOCK_RAW, type Sys, SysError } from "../sys/sys.ts";
import {
  decodeAck,
  decodeMessages,
  encodeBatch,
  type Message,
  NetlinkError,
  NLMSG_ERROR,
  type Request,
  refusal,
} from "./message.ts";

const NETLINK_ROUTE = 0;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;

/** The kernel answers in the send itself, unless another process holds the rtnl lock; this long is a stuck kernel. */
const TIMEOUT_MS = 10_000;

export class BlockingNetlink {
  private readonly sys: Sys;
  private readonly fd: Fd;
  private seq = 1;
  /** Large enough for any one datagram: a link with all its attributes has about 2 KiB. */
  private readonly buffer = new Uint8Array(32 * 1024);

  private constructor(sys: Sys, fd: Fd) {
    this.sys = sys;
    this.fd = fd;
  }

  /** A socket in the calling thread's network namespace; it stays there when the thread leaves. */
  static open(sys: Sys): BlockingNetlink {
    const fd = sys.socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    try {
      const on = new Uint8Array([1, 0, 0, 0]);
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, on);
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, on);
      sys.setTimeouts(fd, TIMEOUT_MS);
    } catch (cause) {
      sys.close(fd);
      throw cause;
    }
    return new BlockingNetlink(sys, fd);
  }

  close(): void {
    this.sys.close(this.fd);
  }

  /**
   * Sends the requests in one batch and waits for the answers. The kernel works through all of them even when one fails.
   * @returns the messages that came besides acknowledgements, in order (the answers to get requests).
   * @throws NetlinkError for the first request that was refused.
   */
  request(requests: readonly Request[]): Message[] {
    const first = this.seq;
    this.seq += requests.length;
    const batch = encodeBatch(requests, first);
    try {
      this.sys.write(this.fd, batch);
    } catch (cause) {
      throw new NetlinkError("NETLINK_PROTOCOL", `send a netlink batch of ${requests.length}`, 0, cause);
    }
    const answers: Message[] = [];
    let waiting = requests.length;
    let error: NetlinkError | undefined;
    while (waiting > 0) {
      for (const message of decodeMessages(this.receive(requests, first))) {
        const index = message.seq - first;
        if (index < 0 || index >= requests.length) continue;
        if (message.type !== NLMSG_ERROR) {
          answers.push(message);
          continue;
        }
        waiting--;
        const { errno, text } = decodeAck(message);
        error ??= refusal(requests[index] as Request, errno, text);
      }
    }
    if (error !== undefined) throw error;
    return answers;
  }

  private receive(requests: readonly Request[], first: number): Uint8Array {
    let length: number;
    try {
      length = this.sys.read(this.fd, this.buffer);
    } catch (cause) {
      if (cause instanceof SysError && cause.code === "EAGAIN") {
        const what = `no answer from the kernel in ${TIMEOUT_MS} ms to a batch that begins with: ${requests[0]?.what}`;
        throw new NetlinkError("NETLINK_TIMEOUT", what, 0, cause);
      }
      throw new NetlinkError("NETLINK_PROTOCOL", `read the answer to netlink request ${first}`, 0, cause);
    }
    // Nothing is no answer, and reading on would never end.
    if (length === 0) throw new NetlinkError("NETLINK_PROTOCOL", `empty answer to netlink request ${first}`);
    // A copy: the answers outlive the next read.
    return this.buffer.slice(0, length);
  }
}
