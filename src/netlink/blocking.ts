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
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
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
/** How often a dump is begun again when the kernel says that the table changed under it. */
const DUMP_TRIES = 20;
const NO_ACK = 1;

/**
 * Large enough for any one datagram: a link with all its attributes has about 2 KiB. All sockets share it, since what comes is
 * copied out of it before anything else is read.
 */
const buffer = new Uint8Array(32 * 1024);

export class BlockingNetlink {
  readonly #sys: Sys;
  readonly #fd: Fd;
  #seq = 1;

  private constructor(sys: Sys, fd: Fd) {
    this.#sys = sys;
    this.#fd = fd;
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
    this.#sys.close(this.#fd);
  }

  /**
   * Sends the requests in one batch and waits for the answers.
   * @returns the messages that came besides acknowledgements, in order (the answers to get requests).
   * @throws NetlinkError for the first request that was refused; the kernel has worked through the others all the same.
   */
  request(requests: readonly Request[]): Message[] {
    const { answers, errors } = this.submit(requests);
    for (const error of errors) if (error !== undefined) throw error;
    return answers;
  }

  /** The same, with what became of each request: `errors[i]` is the refusal of `requests[i]`. */
  submit(requests: readonly Request[]): { answers: Message[]; errors: (NetlinkError | undefined)[] } {
    const first = this.#send(requests, 0);
    const answers: Message[] = [];
    const errors = new Array<NetlinkError | undefined>(requests.length);
    let waiting = requests.length;
    while (waiting > 0) {
      for (const message of decodeMessages(this.#receive(requests))) {
        const index = message.seq - first;
        if (index < 0 || index >= requests.length) continue;
        if (message.type !== NLMSG_ERROR) {
          answers.push(message);
          continue;
        }
        waiting--;
        const { errno, text } = decodeAck(message);
        errors[index] = refusal(requests[index] as Request, errno, text);
      }
    }
    return { answers, errors };
  }

  /**
   * A whole table, from a moment in which it didn't change. Not for ADD and DEL.
   * @throws NetlinkError NETLINK_INTERRUPTED when it never stood still.
   */
  dump(request: Request): Message[] {
    for (let attempt = 0; attempt < DUMP_TRIES; attempt++) {
      const messages = this.#dumpOnce(request);
      if (messages !== undefined) return messages;
    }
    throw new NetlinkError("NETLINK_INTERRUPTED", `${request.what}: interrupted ${DUMP_TRIES} times by changes`);
  }

  #dumpOnce(request: Request): Message[] | undefined {
    const first = this.#send([{ ...request, flags: request.flags | NLM_F_DUMP }], NO_ACK);
    const messages: Message[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of decodeMessages(this.#receive([request]))) {
        if (message.seq !== first) continue;
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0;
        if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE) {
          messages.push(message);
          continue;
        }
        const { errno, text } = decodeAck(message);
        if (errno !== 0) throw NetlinkError.refused(request.what, errno, text);
        return interrupted ? undefined : messages;
      }
    }
  }

  /** Sends one batch and returns its first sequence number. */
  #send(requests: readonly Request[], mode: 0 | typeof NO_ACK): number {
    const first = this.#seq;
    this.#seq += requests.length;
    try {
      const batch = mode === NO_ACK ? encodeBatch(requests, first, 0) : encodeBatch(requests, first);
      this.#sys.write(this.#fd, batch);
    } catch (cause) {
      throw new NetlinkError("NETLINK_PROTOCOL", `send a netlink batch of ${requests.length}`, 0, cause);
    }
    return first;
  }

  #receive(requests: readonly Request[]): Uint8Array {
    let length: number;
    try {
      length = this.#sys.read(this.#fd, buffer);
    } catch (cause) {
      if (cause instanceof SysError && cause.code === "EAGAIN") {
        const what = `no answer from the kernel in ${TIMEOUT_MS} ms to a batch that begins with: ${requests[0]?.what}`;
        throw new NetlinkError("NETLINK_TIMEOUT", what, 0, cause);
      }
      throw new NetlinkError("NETLINK_PROTOCOL", `read the answer to: ${requests[0]?.what}`, 0, cause);
    }
    // Nothing is no answer, and reading on would never end.
    if (length === 0) throw new NetlinkError("NETLINK_PROTOCOL", `an empty answer to: ${requests[0]?.what}`);
    // A copy: the answers outlive the next read.
    return buffer.slice(0, length);
  }
}
