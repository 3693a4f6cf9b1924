// SPDX-License-Identifier: Apache-2.0
//
// The system calls of the plugin, as the executable that runs it hands them in (quickjs/host.c): blocking, so that the plugin
// needs no event loop. Only the plugin's entry points import this file.
import "./quickjs/host.ts";
import { checkWith, createSys } from "./libc.ts";
import type { Sys } from "./sys.ts";

export const sys: Sys = {
  ...createSys(
    host,
    checkWith(() => host.errno()),
  ),
  now: () => host.now(),
  sleep: (ms) => host.sleep(ms),
};
