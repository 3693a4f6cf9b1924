// SPDX-License-Identifier: Apache-2.0
//
// The system calls of scripts that neither Node nor the product has, through koffi on libc. They block as libc's do, and
// are for processes that have nothing else to do.
import koffi from "koffi";
import { checkWith } from "../../src/sys/libc.ts";

const library = koffi.load("libc.so.6");

type Argument = number | bigint | string | ArrayBufferView | readonly (string | null)[];

/**
 * A function of libc.
 * @param returns an integer, by koffi's names of C's types
 */
export function native(name: string, returns: string, ...args: readonly string[]): (...args: Argument[]) => number {
  return library.func(name, returns, [...args]);
}

/** A call's result, or what failed as a SysError. The errno is read before anything else is called. */
export const check = checkWith(() => koffi.errno());

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_DGRAM = 2;

/** As in section 2 of the man pages; -1 is a failure. */
export const libc = {
  bind: native("bind", "int", "int", "const void *", "uint32_t"),
  connect: native("connect", "int", "int", "const void *", "uint32_t"),
  poll: native("poll", "int", "void *", "size_t", "int"),
  recvfrom: native("recvfrom", "int64_t", "int", "void *", "size_t", "int", "void *", "void *"),
  sendto: native("sendto", "int64_t", "int", "const void *", "size_t", "int", "const void *", "uint32_t"),
} as const;

/**
 * struct sockaddr_in or sockaddr_in6 (include/uapi/linux/in.h, in6.h).
 * @param port none on a raw socket
 */
export function socketAddress(address: Uint8Array, port = 0): Uint8Array {
  const v4 = address.length === 4;
  const bytes = new Uint8Array(v4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, v4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(address, v4 ? 4 : 8);
  return bytes;
}
