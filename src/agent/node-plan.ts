// SPDX-License-Identifier: Apache-2.0
//
// What of this node's Node object is to be changed once pods can have their network, and how often at most. Pure; time is an
// argument.
import type { KubeNode } from "../kube/objects.ts";

export type NodeStep =
  /** Sets the condition NetworkUnavailable to False. */
  | { readonly kind: "condition" }
  /** Takes away the taint that kept pods off until now. */
  | { readonly kind: "taint"; readonly key: string };

/**
 * What a node that is ready lacks. Nothing is ever said of one that isn't: before the first time kubelet itself calls it
 * NotReady for want of a conflist, and afterwards its pods have their network while the daemon restarts; NetworkUnavailable=True
 * would only keep new pods off it (the node lifecycle controller makes a taint of it).
 *
 * A cloud's controllers set the condition to True when they start a node; one that is False is left as whoever set it has it.
 */
export function planNode(
  { taints, networkUnavailable }: Pick<KubeNode, "taints" | "networkUnavailable">,
  startupTaint: string | undefined,
): NodeStep[] {
  const steps: NodeStep[] = [];
  // First, because the taint is what makes the scheduler wait.
  if (networkUnavailable !== "False") steps.push({ kind: "condition" });
  if (startupTaint !== undefined && taints.includes(startupTaint)) steps.push({ kind: "taint", key: startupTaint });
  return steps;
}

/** After a write the next one waits, in milliseconds: doubled each time that it was necessary again, up to the longest. */
const FIRST_WAIT_MS = 10_000;
const LONGEST_WAIT_MS = 600_000;
/** Once nothing had to be written for so long, the next wait is the first again. */
const QUIET_MS = 1_800_000;

/** Keeps a daemon that somebody contradicts from a fight: two who write the same thing in turn. Times are of a clock that is never set. */
export class WritePace {
  #writtenMs = Number.NEGATIVE_INFINITY;
  #waitMs = 0;

  mayWrite(nowMs: number): boolean {
    return nowMs - this.#writtenMs >= this.#waitMs;
  }

  /** It was written, or it was tried. */
  wrote(nowMs: number): void {
    const quiet = nowMs - this.#writtenMs >= QUIET_MS + this.#waitMs;
    this.#waitMs = quiet ? FIRST_WAIT_MS : Math.min(LONGEST_WAIT_MS, 2 * this.#waitMs);
    this.#writtenMs = nowMs;
  }
}
