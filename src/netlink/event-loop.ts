// SPDX-License-Identifier: Apache-2.0
//
// The daemon's netlink transport: npm `netlink`'s socket on Node's event loop, with our codecs. Its message layer isn't
// used: it reports errors as text only, and knows neither interrupted dumps nor overruns.
import { RawNetlinkSocket } from "netlink/dist/raw.js";
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

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

/**
 * How many requests go in one send. Their answers wait in the receive buffer until the event loop comes by, and those about
 * 64 links fill the usual one.
 */
const BATCH = 32;
/** Bytes of the receive buffer that are asked for; the kernel gives no more than net.core.rmem_max, and counts it double. */
const RECEIVE_BUFFER = 1024 * 1024;
/** The kernel answers in the send itself; this long without an answer is a lost one. */
const TIMEOUT_MS = 10_000;
/** How often a dump is begun again when the kernel says that the table changed under it. */
const DUMP_TRIES = 20;

interface Pending {
  receive(message: Message): void;
  fail(error: NetlinkError): void;
}

/** What became of one request: the messages that answered it, or the kernel's refusal. */
export interface Reply {
  readonly request: Request;
  readonly answers: Message[];
  readonly error: NetlinkError | undefined;
}

export class Netlink {
  private readonly socket: RawNetlinkSocket;
  private readonly pending = new Map<number, Pending>();
  private seq = 1;
  /** The end of the last exchange that was asked for: see `inTurn`. */
  private last: Promise<unknown> = Promise.resolve();

  private constructor(socket: RawNetlinkSocket) {
    this.socket = socket;
    socket.on("message", (datagram, { port }) => {
      // Only the kernel has port 0; nobody else is listened to.
      if (port === 0) this.receive(datagram);
    });
    socket.on("error", (cause) =>
      this.failAll(new NetlinkError("NETLINK_OVERRUN", "the netlink socket failed", 0, cause)),
    );
  }

  /** @param protocol NETLINK_ROUTE or NETLINK_NETFILTER */
  static open(protocol: number): Netlink {
    // 0 leaves what is the default.
    return new Netlink(new RawNetlinkSocket(protocol, { recvBufferSize: RECEIVE_BUFFER, sendBufferSize: 0 }));
  }

  close(): void {
    this.socket.close();
    this.failAll(new NetlinkError("NETLINK_PROTOCOL", "the netlink socket was closed"));
  }

  /** Sends the requests in batches. Each has its own reply: one that is refused does not hold up the others. */
  async submit(requests: readonly Request[]): Promise<Reply[]> {
    const replies: Reply[] = [];
    for (let at = 0; at < requests.length; at += BATCH) {
      const batch = requests.slice(at, at + BATCH);
      replies.push(...(await this.inTurn(() => this.submitBatch(batch))));
    }
    return replies;
  }

  private submitBatch(batch: readonly Request[]): Promise<Reply[]> {
    const first = this.take(batch.length);
    const waits = batch.map((request, i) => this.acknowledged(request, first + i));
    this.send(encodeBatch(batch, first), first, batch.length);
    return Promise.all(waits);
  }

  /**
   * One exchange at a time on a socket, whoever asks. The kernel refuses a second dump with EBUSY; and answers for which
   * there is no room it drops, which marks the socket with an error that `netlink` 0.3 can't tell of: it ends the process.
   */
  private inTurn<T>(exchange: () => Promise<T>): Promise<T> {
    const result = this.last.then(exchange);
    // The next one waits for the end of this one, good or bad; whoever asked for this one hears which.
    this.last = result.catch(() => {});
    return result;
  }

  /** @throws NetlinkError of the first request that was refused. All have been tried by then. */
  async request(requests: readonly Request[]): Promise<Message[]> {
    const replies = await this.submit(requests);
    for (const { error } of replies) if (error !== undefined) throw error;
    return replies.flatMap(({ answers }) => answers);
  }

  /**
   * One transaction of nf_tables: all of it or nothing (nfnetlink's batch; include/uapi/linux/netfilter/nfnetlink.h).
   * `begin` and `end` frame it and are not acknowledged by every kernel, so no answer to them is waited for. One that
   * refuses it as a whole (no permission, no nf_tables) says so of `begin` alone, and that is the answer to all of it.
   * @throws NetlinkError of the first request that was refused; then nothing has changed.
   */
  async transaction(begin: Request, requests: readonly Request[], end: Request): Promise<void> {
    return this.inTurn(() => this.transact(begin, requests, end));
  }

  private async transact(begin: Request, requests: readonly Request[], end: Request): Promise<void> {
    const first = this.take(requests.length + 2);
    const waits = requests.map((request, i) => this.acknowledged(request, first + 1 + i));
    const bytes = Buffer.concat([
      encodeBatch([begin], first, 0),
      encodeBatch(requests, first + 1),
      encodeBatch([end], first + 1 + requests.length, 0),
    ]);
    this.pending.set(first, {
      receive: (message) => {
        if (message.type !== NLMSG_ERROR) return;
        const { errno, text } = decodeAck(message);
        if (errno !== 0) this.failRange(first + 1, requests.length, NetlinkError.refused(begin.what, errno, text));
      },
      fail: () => {},
    });
    try {
      this.send(bytes, first + 1, requests.length);
      for (const { error } of await Promise.all(waits)) if (error !== undefined) throw error;
    } finally {
      this.pending.delete(first);
    }
  }

  /**
   * A whole table, from a moment in which it didn't change. Dumps that are asked for at once come one after the other.
   * @throws NetlinkError NETLINK_INTERRUPTED when it never stood still.
   */
  async dump(request: Request): Promise<Message[]> {
    for (let attempt = 0; attempt < DUMP_TRIES; attempt++) {
      const messages = await this.inTurn(() => this.dumpOnce(request));
      if (messages !== undefined) return messages;
    }
    throw new NetlinkError("NETLINK_INTERRUPTED", `${request.what}: interrupted ${DUMP_TRIES} times by changes`);
  }

  private take(count: number): number {
    const first = this.seq;
    this.seq += count;
    // Far from the 32 bits of the header before it can matter which numbers are in use.
    if (this.seq > 0x7fffffff) this.seq = 1;
    return first;
  }

  /** A send that fails fails the requests from `first` on, so that whoever waits for them hears of it. */
  private send(bytes: Uint8Array, first: number, count: number): void {
    const failed = (cause: unknown) =>
      this.failRange(first, count, new NetlinkError("NETLINK_PROTOCOL", "could not send to the kernel", 0, cause));
    try {
      this.socket.send(bytes, {}, (cause) => {
        if (cause !== undefined && cause !== null) failed(cause);
      });
    } catch (cause) {
      failed(cause);
    }
  }

  private failRange(first: number, count: number, error: NetlinkError): void {
    for (let seq = first; seq < first + count; seq++) this.pending.get(seq)?.fail(error);
  }

  private acknowledged(request: Request, seq: number): Promise<Reply> {
    return this.wait<Reply>(seq, request, (settle) => {
      const answers: Message[] = [];
      return (message) => {
        if (message.type !== NLMSG_ERROR) {
          answers.push(kept(message));
          return;
        }
        const { errno, text } = decodeAck(message);
        settle({ request, answers, error: refusal(request, errno, text) });
      };
    });
  }

  private dumpOnce(request: Request): Promise<Message[] | undefined> {
    const seq = this.take(1);
    const result = this.wait<Message[] | NetlinkError | undefined>(seq, request, (settle) => {
      const messages: Message[] = [];
      let interrupted = false;
      return (message) => {
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const { errno, text } = decodeAck(message);
          if (errno !== 0) settle(NetlinkError.refused(request.what, errno, text));
          else settle(interrupted ? undefined : messages);
          return;
        }
        messages.push(kept(message));
      };
    });
    this.send(encodeBatch([{ ...request, flags: request.flags | NLM_F_DUMP }], seq, 0), seq, 1);
    return result.then((settled) => {
      if (settled instanceof NetlinkError) throw settled;
      return settled;
    });
  }

  /** A promise for what `start`'s receiver settles; it fails with the socket, or when no answer comes. */
  private wait<T>(
    seq: number,
    request: Request,
    start: (settle: (value: T) => void) => (m: Message) => void,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const fail = (error: NetlinkError) => {
        this.pending.delete(seq);
        clearTimeout(timer);
        reject(error);
      };
      const timer = setTimeout(
        () => fail(new NetlinkError("NETLINK_TIMEOUT", `${request.what}: no answer in ${TIMEOUT_MS} ms`)),
        TIMEOUT_MS,
      );
      const receive = start((value) => {
        this.pending.delete(seq);
        clearTimeout(timer);
        resolve(value);
      });
      this.pending.set(seq, { receive, fail });
    });
  }

  private receive(datagram: Uint8Array): void {
    try {
      for (const message of decodeMessages(datagram)) this.pending.get(message.seq)?.receive(message);
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error;
      this.failAll(error);
    }
  }

  private failAll(error: NetlinkError): void {
    for (const pending of [...this.pending.values()]) pending.fail(error);
  }
}

/** A message that outlives the datagram it came in. Not by slice(): a Buffer's is a view. */
function kept(message: Message): Message {
  return { ...message, body: new Uint8Array(message.body) };
}
