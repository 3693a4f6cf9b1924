// SPDX-License-Identifier: Apache-2.0
//
// The system calls of the daemon that Node has not got, through koffi on libc. Blocking, and on the main thread: setns()
// and what has to happen in the other namespace are one turn of the event loop, so nothing else ever runs there.
import koffi from "koffi";
import { errnoName } from "./errno.ts";
import { checkWith, createSys, EINTR, LIBC, type Libc, type Native } from "./libc.ts";
import { number32, setReceiveBuffer } from "./socket-options.ts";
import { AF_NETLINK, type Fd, SOCK_RAW, type Sys, SysError } from "./sys.ts";

/** The types of LIBC in koffi's words. */
const TYPES = {
  i32: "int",
  u32: "uint32_t",
  ptr: "void *",
  size: "size_t",
  ssize: "int64_t",
} as const;

const library = koffi.load("libc.so.6");

function native(name: string, args: readonly (keyof typeof TYPES)[], returns: keyof typeof TYPES): Native {
  return library.func(
    name,
    TYPES[returns],
    args.map((type) => TYPES[type]),
  ) as Native;
}

const libc = Object.fromEntries(
  Object.entries(LIBC).map(([name, { args, returns }]) => [name, native(name, args, returns)]),
) as Libc;
const bind = native("bind", ["i32", "ptr", "u32"], "i32");
const slowWrite = library.func("write", TYPES.ssize, [TYPES.i32, TYPES.ptr, TYPES.size]);
const recvmsg = native("recvmsg", ["i32", "ptr", "i32"], "ssize");

const check = checkWith(() => koffi.errno());

export const sys: Sys = {
  ...createSys(libc, check),
  now: () => performance.now(),
  sleep: (ms) => {
    // The only blocking wait in Node that needs no event loop.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  },
};

/**
 * write(2) on a thread of libuv's pool, for what the kernel takes long for: the event loop goes on.
 * @throws SysError
 */
export async function writeAside(fd: Fd, bytes: Uint8Array): Promise<number> {
  for (;;) {
    const { result, errno } = await new Promise<{ result: number; errno: number }>((resolve, reject) => {
      // koffi keeps the errno of an asynchronous call for its callback.
      slowWrite.async(fd, bytes, bytes.length, (error: unknown, result: number) => {
        if (error !== null && error !== undefined) reject(error);
        else resolve({ result, errno: result < 0 ? koffi.errno() : 0 });
      });
    });
    if (result >= 0) return result;
    if (errno !== EINTR) throw new SysError("write", errno, errnoName(errno), "");
  }
}

const madvise = library.func("madvise", TYPES.i32, ["uintptr_t", TYPES.size, TYPES.i32]);
const MADV_DONTNEED = 4;

/**
 * madvise(2): the pages may go. Those of a file, unchanged, come back from it when they are used; anything else would be lost.
 * @param start a page's address
 * @param length in bytes
 * @throws SysError
 */
export function dropPages(start: bigint, length: number): void {
  check("madvise", "", () => madvise(start, length, MADV_DONTNEED));
}

const SOCK_NONBLOCK = 0o4000;
const SOL_NETLINK = 270;
const NETLINK_LISTEN_ALL_NSID = 8;

/** What came on a socket that listens to several namespaces. */
export interface Heard {
  /** A view that the next call overwrites. */
  readonly bytes: Uint8Array;
  /** The socket's namespace's number for the one it came from (`ip netns list-id`); undefined for its own. */
  readonly nsid: number | undefined;
}

/** The largest datagram that is read whole: the kernel allocates no larger one for a notification. */
const DATAGRAM_MAX = 32 * 1024;
const CONTROL_MAX = 256;
const IOVEC_BYTES = 16;
const MSGHDR_BYTES = 56;

/**
 * A netlink socket that hears what happens, in every network namespace that its own has a number for if it is asked to, and a
 * veth's other end gives one (netlink(7), NETLINK_LISTEN_ALL_NSID; do_one_broadcast of net/netlink/af_netlink.c). It never blocks.
 */
export class ListeningSocket {
  readonly #fd: Fd;
  readonly #allocation: unknown;
  readonly #memory: Uint8Array;
  readonly #header = new Uint8Array(MSGHDR_BYTES);
  readonly #address: bigint;

  private constructor(fd: Fd) {
    this.#fd = fd;
    // Of C's memory, because what a struct msghdr points to must not move: datagram, struct iovec, control messages.
    const size = DATAGRAM_MAX + IOVEC_BYTES + CONTROL_MAX;
    this.#allocation = koffi.alloc("uint8_t", size);
    this.#memory = new Uint8Array(koffi.view(this.#allocation, size));
    this.#address = koffi.address(this.#allocation);
  }

  /**
   * @param protocol such as NETLINK_ROUTE
   * @param groups multicast groups by number, 1 to 32
   * @param receiveBuffer in bytes, which the kernel doubles
   * @param where whether it hears what happens in other namespaces too
   * @throws SysError
   */
  static open(
    protocol: number,
    groups: readonly number[],
    receiveBuffer: number,
    where: "everywhere" | "here" = "everywhere",
  ): ListeningSocket {
    const fd = sys.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, protocol);
    try {
      if (where === "everywhere") sys.setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, number32(1));
      setReceiveBuffer(sys, fd, receiveBuffer);
      // struct sockaddr_nl (include/uapi/linux/netlink.h): u16 family, u16 pad, u32 port, u32 groups.
      const address = new Uint8Array(12);
      const view = new DataView(address.buffer);
      view.setUint16(0, AF_NETLINK, true);
      view.setUint32(8, groups.reduce((mask, group) => mask | (1 << (group - 1)), 0) >>> 0, true);
      check("bind", "", () => bind(fd, address, address.length));
      return new ListeningSocket(fd);
    } catch (error) {
      sys.close(fd);
      throw error;
    }
  }

  /**
   * To the kernel; its answer comes with what is received.
   * @throws SysError
   */
  send(bytes: Uint8Array): void {
    sys.write(this.#fd, bytes);
  }

  /**
   * The next datagram; undefined when none is waiting.
   * @throws SysError ENOBUFS when datagrams were lost for want of room
   */
  receive(): Heard | undefined {
    const iovec = DATAGRAM_MAX;
    const control = iovec + IOVEC_BYTES;
    const inside = new DataView(this.#memory.buffer);
    inside.setBigUint64(iovec, this.#address, true);
    inside.setBigUint64(iovec + 8, BigInt(DATAGRAM_MAX), true);
    // struct msghdr of 64-bit machines: name, its length, iovec, their number, control, its length, flags.
    const header = new DataView(this.#header.buffer);
    header.setBigUint64(16, this.#address + BigInt(iovec), true);
    header.setBigUint64(24, 1n, true);
    header.setBigUint64(32, this.#address + BigInt(control), true);
    header.setBigUint64(40, BigInt(CONTROL_MAX), true);
    let length: number;
    try {
      length = check("recvmsg", "", () => recvmsg(this.#fd, this.#header, 0));
    } catch (error) {
      if (error instanceof SysError && error.code === "EAGAIN") return undefined;
      throw error;
    }
    const bytes = this.#memory.subarray(0, length);
    const controlLength = Number(header.getBigUint64(40, true));
    return { bytes, nsid: nsidIn(this.#memory.subarray(control, control + controlLength)) };
  }

  close(): void {
    sys.close(this.#fd);
    koffi.free(this.#allocation);
  }
}

/** The number in struct cmsghdr (u64 length, i32 level, i32 type) of NETLINK_LISTEN_ALL_NSID. */
function nsidIn(control: Uint8Array): number | undefined {
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  for (let at = 0; at + 16 <= control.length; ) {
    const length = Number(view.getBigUint64(at, true));
    if (length < 16) return undefined;
    const ours =
      view.getInt32(at + 8, true) === SOL_NETLINK && view.getInt32(at + 12, true) === NETLINK_LISTEN_ALL_NSID;
    if (ours && length >= 20) {
      const nsid = view.getInt32(at + 16, true);
      return nsid < 0 ? undefined : nsid;
    }
    at += (length + 7) & ~7;
  }
  return undefined;
}
