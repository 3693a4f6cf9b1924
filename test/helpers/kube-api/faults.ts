// SPDX-License-Identifier: Apache-2.0

/** An answer in place of the real one. */
export interface Failure {
  /** Which requests: by verb ("list", "watch", "get", "patch", …); all where it is absent. */
  readonly verb?: string;
  /** "nodes" */
  readonly resource?: string;
  /** How many of them; every one where it is absent. */
  readonly times?: number;
  readonly status: number;
  readonly reason?: string;
  /** Seconds of the header Retry-After. */
  readonly retryAfter?: number;
}

/** What is wrong with the double now. Each takes effect at once. */
export class Faults {
  /** Requests are accepted and nothing is said, nor in watches that are open: as behind a router that lost its state. */
  stalled = false;
  /** Before each answer, and before each event of a watch, in milliseconds. */
  delayMs = 0;
  /** After so many bytes a list's answer breaks off, once. */
  cutListAfter: number | undefined;
  #failures: { readonly failure: Failure; left: number }[] = [];

  fail(failure: Failure): void {
    this.#failures.push({ failure, left: failure.times ?? Number.POSITIVE_INFINITY });
  }

  /** All failures are over; what is stalled or slow stays so. */
  heal(): void {
    this.#failures = [];
  }

  /** What this request fails with; counted. */
  failureOf(verb: string, resource: string): Failure | undefined {
    const found = this.#failures.find(
      ({ failure, left }) => left > 0 && (failure.verb ?? verb) === verb && (failure.resource ?? resource) === resource,
    );
    if (found !== undefined) found.left--;
    return found?.failure;
  }
}
