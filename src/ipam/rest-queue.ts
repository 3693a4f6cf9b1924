// SPDX-License-Identifier: Apache-2.0

/** A position of a pool that was given back: how it got there, and where it waits. Belongs to at most one queue. */
export interface Resting {
  readonly index: bigint;
  /** Milliseconds since 1970, as are the others. */
  readonly releasedAtMs: number;
  /** From then on anybody may have it. */
  readonly readyAtMs: number;
  /** Whom it is kept for until then, if anybody. */
  readonly owner: string | undefined;
  queue: RestQueue | undefined;
  previous: Resting | undefined;
  next: Resting | undefined;
}

/**
 * First in, first out, and out of the middle too, each in constant time. A doubly linked list, because what a JavaScript Map
 * has lost at its front it still walks over when it is asked for its first entry.
 */
export class RestQueue {
  #first: Resting | undefined;
  #last: Resting | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The one that came first, of all but `except`. */
  first(except?: bigint): Resting | undefined {
    return this.#first?.index === except ? this.#first?.next : this.#first;
  }

  /** Appends one that is in no queue. */
  push(resting: Resting): void {
    resting.queue = this;
    resting.previous = this.#last;
    resting.next = undefined;
    if (this.#last === undefined) this.#first = resting;
    else this.#last.next = resting;
    this.#last = resting;
    this.#size++;
  }

  /** Takes one of this queue's out. */
  remove(resting: Resting): void {
    if (resting.previous === undefined) this.#first = resting.next;
    else resting.previous.next = resting.next;
    if (resting.next === undefined) this.#last = resting.previous;
    else resting.next.previous = resting.previous;
    resting.queue = undefined;
    resting.previous = undefined;
    resting.next = undefined;
    this.#size--;
  }
}
