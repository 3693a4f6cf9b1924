// SPDX-License-Identifier: Apache-2.0
//
// The system calls of the plugin, through bun:ffi on libc: blocking, so that the plugin needs no event loop. Only the
// plugin's entry point imports this file.
import { dlopen, read as peek } from "bun:ffi";
import { checkWith, createSys, LIBC } from "./libc.ts";
import type { Sys } from "./sys.ts";

const { symbols: libc } = dlopen("libc.so.6", { ...LIBC, __errno_location: { args: [], returns: "ptr" } });

export const sys: Sys = createSys(
  libc,
  checkWith(() => peek.i32(libc.__errno_location(), 0)),
);
