// SPDX-License-Identifier: Apache-2.0
import type { Bird } from "../bgp/bird.ts";
import type { BgpKeeper } from "./bgp-keeper.ts";
import type { Closer } from "./closer.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";

/** Between looks at BIRD and its sessions. */
const INTERVAL_MS = 2000;
/** After an end of BIRD that failed. */
const RETIRE_RETRY_MS = 30_000;
/** A request waits so long for others. */
const SETTLE_MS = 50;

/** Looks after BIRD, from now on. It is not ended with the daemon: its routes are those of pods that live on. */
export async function followBgp(bgp: BgpKeeper, log: Log, closers: Closer[]): Promise<void> {
  await bgp.pass();
  const loop = new Loop(() => bgp.pass(), {
    name: "BGP",
    settleMs: SETTLE_MS,
    intervalMs: INTERVAL_MS,
    retryMs: INTERVAL_MS,
    onError: (err) => log.error({ err }, "BIRD could not be looked after"),
  });
  loop.request();
  closers.push(() => loop.stop());
}

/** Ends a BIRD of the time in BGP mode, once the routes that take the place of its are there. */
export function retireBird(bird: Bird, isReplaced: () => boolean, log: Log, closers: Closer[]): void {
  let done = false;
  const pass = async () => {
    if (done || !isReplaced()) return;
    await bird.retire();
    done = true;
    log.info("BIRD is ended, and its routes are taken away");
  };
  const loop = new Loop(pass, {
    name: "end of BIRD",
    settleMs: SETTLE_MS,
    intervalMs: INTERVAL_MS,
    retryMs: RETIRE_RETRY_MS,
    onError: (err) => log.error({ err }, "BIRD could not be ended, and its routes are still there"),
  });
  loop.request();
  closers.push(() => loop.stop());
}
