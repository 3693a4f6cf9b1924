// SPDX-License-Identifier: Apache-2.0
//
// The system calls of the plugin, through bun:ffi on libc: blocking, so that the plugin needs no event loop. Only the
// plugin's entry point imports this file.
import { dlopen, read as peek } from "bun:ffi";
import { checkWith, createSys, LIBC } from "./libc.ts";
import type { Sys } from "./sys.ts";

const C_TYPES: Record<string, string> = { size: "u64_fast", ssize: "i64_fast" };
const inBun = (type: string): string => C_TYPES[type] ?? type;
const symbols = Object.fromEntries(
  Object.entries(LIBC).map(([name, { args, returns }]) => [name, { args: args.map(inBun), returns: inBun(returns) }]),
) as unknown as typeof LIBC;
const { symbols: libc } = dlopen("libc.so.6", { ...symbols, __errno_location: { args: [], returns: "ptr" } });

export const sys: Sys = {
  ...createSys(
    libc,
    checkWith(() => peek.i32(libc.__errno_location(), 0)),
  ),
  now: () => performance.now(),
  sleep: (ms) => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  },
};
