// SPDX-License-Identifier: Apache-2.0
//
// How long to wait before the API server is asked again after a failure: as client-go's reflectors do (tools/cache,
// reflector.go), so that five thousand nodes together are no more load to a server that comes back than kubelets are. Pure.

/** The first wait and the longest, in milliseconds; each is drawn from once to twice that. */
const FIRST_MS = 800;
const LONGEST_MS = 30_000;
/** Once nothing had to wait for so long, the next wait is a first one again. */
const QUIET_MS = 120_000;

export class Backoff {
  #nextMs = FIRST_MS;
  #askedAtMs = Number.NEGATIVE_INFINITY;

  /**
   * @param nowMs by a clock that is never set
   * @param random at least 0, less than 1
   * @param atLeastMs what the server asked for
   * @returns the wait in milliseconds
   */
  next(nowMs: number, random: number, atLeastMs = 0): number {
    if (nowMs - this.#askedAtMs >= QUIET_MS) this.#nextMs = FIRST_MS;
    const waitMs = Math.max(this.#nextMs * (1 + random), atLeastMs);
    this.#nextMs = Math.min(2 * this.#nextMs, LONGEST_MS);
    // From the end of the wait on, because a long one is no quiet.
    this.#askedAtMs = nowMs + waitMs;
    return waitMs;
  }
}
