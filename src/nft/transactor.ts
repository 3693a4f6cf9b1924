// SPDX-License-Identifier: Apache-2.0
//
// Transactions of any length. nf_tables takes one in one send, and the daemon's usual socket can send no more than
// net.core.wmem_default bytes; this one may send what it likes (SO_SNDBUFFORCE), on a thread beside the event loop, because the
// kernel works through all of it in the send and may first wait for somebody else's transaction.
import {
  decodeAck,
  decodeMessages,
  encodeBatch,
  NetlinkError,
  NLM_F_ACK,
  NLMSG_ERROR,
  type Request,
} from "../netlink/message.ts";
import { number32, setSendBuffer } from "../sys/socket-options.ts";
import { AF_NETLINK, type Fd, SOCK_RAW, type Sys, SysError } from "../sys/sys.ts";
import { BATCH_BEGIN, BATCH_END } from "./message.ts";

const NETLINK_NETFILTER = 12;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
/** In bytes, which the kernel doubles: it is a limit, nothing is allocated. */
const SEND_BUFFER = 256 * 1024 * 1024;
/** The answer is there when the send is over. */
const TIMEOUT_MS = 10_000;

/** Like Sys's write, but the event loop goes on meanwhile. */
export type WriteAside = (fd: Fd, bytes: Uint8Array) => Promise<unknown>;

export class Transactor {
  readonly #sys: Sys;
  readonly #write: WriteAside;
  readonly #fd: Fd;
  readonly #buffer = new Uint8Array(32 * 1024);
  #seq = 1;
  /** The end of the last transaction that was asked for. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(sys: Sys, write: WriteAside, fd: Fd) {
    this.#sys = sys;
    this.#write = write;
    this.#fd = fd;
  }

  /**
   * A socket in the calling thread's network namespace.
   * @throws SysError
   */
  static open(sys: Sys, write: WriteAside): Transactor {
    const fd = sys.socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
    try {
      const on = number32(1);
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, on);
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, on);
      setSendBuffer(sys, fd, SEND_BUFFER);
      sys.setTimeouts(fd, TIMEOUT_MS);
    } catch (error) {
      sys.close(fd);
      throw error;
    }
    return new Transactor(sys, write, fd);
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    await this.#last;
    this.#sys.close(this.#fd);
  }

  /**
   * All of the requests or none of them, one such transaction after the other. No requests are no transaction.
   * @throws NetlinkError of the first request that was refused; then nothing has changed
   */
  transaction(requests: readonly Request[]): Promise<void> {
    if (requests.length === 0) return Promise.resolve();
    const result = this.#last.then(() => this.#transact(requests));
    this.#last = result.catch(() => {});
    return result;
  }

  async #transact(requests: readonly Request[]): Promise<void> {
    const first = this.#seq;
    this.#seq += requests.length + 2;
    // Far from the 32 bits of the header.
    if (this.#seq > 0x7fffffff) this.#seq = 1;
    const all = [BATCH_BEGIN, ...requests, BATCH_END];
    // Errors are always answered, and of successes the last is enough: thousands wouldn't fit the receive buffer.
    const last = requests.length;
    const asking = all[last] as Request;
    all[last] = { ...asking, flags: asking.flags | NLM_F_ACK };
    try {
      await this.#write(this.#fd, encodeBatch(all, first, 0));
    } catch (cause) {
      const why = cause instanceof SysError ? cause.code : String(cause);
      throw new NetlinkError("NETLINK_PROTOCOL", `send an nftables transaction: ${why}`, 0, cause);
    }
    this.#collect(all, first, last);
  }

  /** Answers come in the order of the requests, but what is said of `begin`, which is of the whole, is first. */
  #collect(all: readonly Request[], first: number, last: number): void {
    let error: NetlinkError | undefined;
    for (;;) {
      for (const message of decodeMessages(this.#receive())) {
        const index = message.seq - first;
        // An answer to a transaction before, which wasn't waited for.
        if (index < 0 || index > last + 1 || message.type !== NLMSG_ERROR) continue;
        const { errno, text } = decodeAck(message);
        if (errno !== 0) error ??= NetlinkError.refused((all[index] as Request).what, errno, text);
        if (index === last) {
          if (error !== undefined) throw error;
          return;
        }
        // Without the right, or in a kernel without nf_tables, there is no other answer; what follows is passed over later.
        if (index === 0 && error !== undefined) throw error;
      }
    }
  }

  #receive(): Uint8Array {
    try {
      return this.#buffer.slice(0, this.#sys.read(this.#fd, this.#buffer));
    } catch (cause) {
      const why = cause instanceof SysError ? cause.code : String(cause);
      const code = why === "EAGAIN" ? "NETLINK_TIMEOUT" : why === "ENOBUFS" ? "NETLINK_OVERRUN" : "NETLINK_PROTOCOL";
      throw new NetlinkError(code, `read the answer to an nftables transaction: ${why}`, 0, cause);
    }
  }
}
