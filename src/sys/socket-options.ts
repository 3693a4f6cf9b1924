// SPDX-License-Identifier: Apache-2.0
//
// Options of sockets (socket(7)) that more than one kind of socket has.
import { type Fd, type Sys, SysError } from "./sys.ts";

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;

/** An int or a u32, as setsockopt(2) takes it. */
export function number32(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

/** @param bytes which the kernel doubles @throws SysError */
export function setReceiveBuffer(sys: Sys, fd: Fd, bytes: number): void {
  setBuffer(sys, fd, SO_RCVBUFFORCE, SO_RCVBUF, bytes);
}

/** @param bytes which the kernel doubles @throws SysError */
export function setSendBuffer(sys: Sys, fd: Fd, bytes: number): void {
  setBuffer(sys, fd, SO_SNDBUFFORCE, SO_SNDBUF, bytes);
}

function setBuffer(sys: Sys, fd: Fd, force: number, within: number, bytes: number): void {
  try {
    sys.setsockopt(fd, SOL_SOCKET, force, number32(bytes));
  } catch (error) {
    // In a user namespace nobody may go beyond net.core.rmem_max and wmem_max.
    if (!(error instanceof SysError) || error.code !== "EPERM") throw error;
    sys.setsockopt(fd, SOL_SOCKET, within, number32(bytes));
  }
}
