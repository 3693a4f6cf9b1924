// SPDX-License-Identifier: Apache-2.0
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";
import { type NodeView, type Trouble, TroubleMemory, troublesOf } from "./troubles.ts";

export interface TroubleWatchOptions {
  readonly look: () => Promise<NodeView>;
  readonly tell: (trouble: Trouble) => void;
  readonly log: Log;
}

/** Between looks: nothing here is news to the log, and nobody reads Events by the second. */
const INTERVAL_MS = 15_000;

/** Looks for troubles of this node as a whole, from now on, and tells those that last. */
export function watchTroubles({ look, tell, log }: TroubleWatchOptions): Loop {
  const memory = new TroubleMemory();
  const pass = async () => {
    const view = await look();
    for (const trouble of memory.news(troublesOf(view), Date.now(), view.nodes, Math.random)) tell(trouble);
  };
  const loop = new Loop(pass, {
    name: "troubles",
    settleMs: 0,
    intervalMs: INTERVAL_MS,
    retryMs: INTERVAL_MS,
    onError: (err) => log.error({ err }, "troubles of this node could not be looked for"),
  });
  loop.request();
  return loop;
}
