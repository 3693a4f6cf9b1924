// SPDX-License-Identifier: Apache-2.0
//
// The blocking netlink transport: one send for a batch, and reads until each request of it is answered. The plugin has no
// other; the daemon keeps node routes with it, because ten thousand answers are read faster than waited for.
import { setReceiveBuffer } from "../sys/socket-options.ts";
import { AF_NETLINK, type Fd, SOCK_RAW, type Sys, SysError } from "../sys/sys.ts";
import {
  decodeAck,
  decodeMessages,
  encodeBatch,
  type Message,
  NetlinkError,
  NLM_F_ACK,
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
const NETLINK_GET_STRICT_CHK = 12;

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

export interface BlockingOptions {
  /** The kernel filters dumps by what the request's header says, instead of leaving that to us (Linux 4.20). */
  readonly strict?: boolean;
  /** Bytes that may wait to be read, beyond what the system allows everybody; the kernel's default where it isn't given. */
  readonly receiveBuffer?: number;
}

/** What the kernel said to a batch. */
export interface Replies {
  /** Messages besides acknowledgements, in order. */
  readonly answers: Message[];
  /** The refusal of each request, by its place. */
  readonly errors: (NetlinkError | undefined)[];
}

export class BlockingNetlink {
  readonly #sys: Sys;
  readonly #fd: Fd;
  #seq = 1;
  #port = 0;

  private constructor(sys: Sys, fd: Fd) {
    this.#sys = sys;
    this.#fd = fd;
  }

  /** A socket in the calling thread's network namespace; it stays there when the thread leaves. */
  static open(sys: Sys, { strict, receiveBuffer }: BlockingOptions = {}): BlockingNetlink {
    const fd = sys.socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    try {
      const on = new Uint8Array([1, 0, 0, 0]);
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, on);
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, on);
      if (strict) sys.setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, on);
      if (receiveBuffer !== undefined) setReceiveBuffer(sys, fd, receiveBuffer);
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
  submit(requests: readonly Request[]): Replies {
    return this.#collect(requests, this.#send(requests, 0));
  }

  /**
   * The same for requests that the kernel takes long for: it works through them in the send, which is left to `write`.
   * Nothing else may be asked on this socket meanwhile.
   * @param write like Sys's, but the event loop goes on
   */
  async submitAside(
    requests: readonly Request[],
    write: (fd: Fd, bytes: Uint8Array) => Promise<unknown>,
  ): Promise<Replies> {
    const first = this.#take(requests.length);
    try {
      await write(this.#fd, encodeBatch(requests, first));
    } catch (cause) {
      throw unsent(requests, cause);
    }
    return this.#collect(requests, first);
  }

  #collect(requests: readonly Request[], first: number): Replies {
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

  /** What the kernel calls this socket, by which its own notifications can be told; 0 until it has answered something. */
  get port(): number {
    return this.#port;
  }

  /**
   * What became of each of many changes; only what went wrong is answered, and the last, so that a success costs no read.
   * Requests that have answers of their own go with `submit` or `ask`.
   * @param requests so few that all of their refusals fit the receive buffer, at about 1 KiB each
   */
  change(requests: readonly Request[]): (NetlinkError | undefined)[] {
    const errors = new Array<NetlinkError | undefined>(requests.length);
    if (requests.length === 0) return errors;
    // The kernel works through a batch in order, so what it hasn't complained of when the last is answered is done.
    const last = requests.length - 1;
    const { type, flags, body, what } = requests[last] as Request;
    const asking = { type, flags: flags | NLM_F_ACK, body, what };
    const first = this.#send([...requests.slice(0, last), asking], NO_ACK);
    for (let over = false; !over; ) {
      for (const message of decodeMessages(this.#receive(requests))) {
        const index = message.seq - first;
        if (index < 0 || index > last || message.type !== NLMSG_ERROR) continue;
        const { errno, text } = decodeAck(message);
        errors[index] = refusal(requests[index] as Request, errno, text);
        over ||= index === last;
      }
    }
    return errors;
  }

  /**
   * The one message, or the refusal, that answers each of many questions.
   * @param requests that have exactly one message as their answer; so few that all answers fit the receive buffer, at
   *   about 5 KiB each
   */
  ask(requests: readonly Request[]): (Message | NetlinkError)[] {
    const replies = new Array<Message | NetlinkError>(requests.length);
    const first = this.#send(requests, NO_ACK);
    for (let waiting = requests.length; waiting > 0; ) {
      for (const message of decodeMessages(this.#receive(requests))) {
        const index = message.seq - first;
        if (index < 0 || index >= requests.length) continue;
        waiting--;
        replies[index] = message;
        if (message.type !== NLMSG_ERROR) continue;
        const { errno, text } = decodeAck(message);
        replies[index] = NetlinkError.refused((requests[index] as Request).what, errno, text);
      }
    }
    return replies;
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
    const first = this.#take(requests.length);
    try {
      const batch = mode === NO_ACK ? encodeBatch(requests, first, 0) : encodeBatch(requests, first);
      this.#sys.write(this.#fd, batch);
    } catch (cause) {
      throw unsent(requests, cause);
    }
    return first;
  }

  #take(count: number): number {
    const first = this.#seq;
    this.#seq += count;
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
      throw new NetlinkError(
        "NETLINK_PROTOCOL",
        `read the answer to: ${requests[0]?.what}: ${(cause as Error).message}`,
        0,
        cause,
      );
    }
    // Nothing is no answer, and reading on would never end.
    if (length === 0) throw new NetlinkError("NETLINK_PROTOCOL", `an empty answer to: ${requests[0]?.what}`);
    // nlmsg_pid of an answer.
    if (this.#port === 0 && length >= 16) this.#port = new DataView(buffer.buffer).getUint32(12, true);
    // A copy: the answers outlive the next read.
    return buffer.slice(0, length);
  }
}

function unsent(requests: readonly Request[], cause: unknown): NetlinkError {
  return new NetlinkError(
    "NETLINK_PROTOCOL",
    `send a netlink batch of ${requests.length}: ${(cause as Error).message}`,
    0,
    cause,
  );
}
