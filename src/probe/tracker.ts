// SPDX-License-Identifier: Apache-2.0
//
// Which of a peer's addresses answer. Decides when to ask and what follows from answers and from silence; asks nobody
// itself, and time is an argument, in milliseconds on a clock that is never set. Pure but for its state.

/** What of a peer an address stands for: the node itself, or the subnets of its pods. */
export type Kind = "node" | "pods";

/** One address of a peer that is asked. */
export interface Target {
  /** The peer's name. */
  readonly peer: string;
  readonly kind: Kind;
  /** Canonical text. */
  readonly address: string;
}

export type State = "unknown" | "reachable" | "unreachable";

/** What is known of a target. */
export interface Finding extends Target {
  readonly state: State;
  /** Round trip of the latest answer, in milliseconds. */
  readonly rttMs: number | undefined;
  /** How many questions in a row had no answer. */
  readonly misses: number;
}

/** So many questions in a row without an answer make a target unreachable: one may be lost. */
const MISSES = 3;

interface Watched {
  readonly target: Target;
  state: State;
  rttMs: number | undefined;
  misses: number;
  dueMs: number;
  asked: { readonly nonce: string; readonly atMs: number } | undefined;
}

export class Tracker {
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  readonly #watched = new Map<string, Watched>();
  /** Of the questions that wait for an answer. */
  readonly #nonces = new Map<string, Watched>();

  /** @param timeoutMs how long an answer may take; less than the interval */
  constructor(intervalMs: number, timeoutMs: number) {
    this.#intervalMs = intervalMs;
    this.#timeoutMs = timeoutMs;
  }

  /** From now on these are asked. Who was known before keeps what is known; new ones are spread over the interval. */
  watch(targets: readonly Target[], nowMs: number): void {
    const wanted = new Map(targets.map((target) => [keyOf(target), target]));
    for (const [key, watched] of this.#watched) {
      if (wanted.has(key)) continue;
      this.#watched.delete(key);
      if (watched.asked !== undefined) this.#nonces.delete(watched.asked.nonce);
    }
    const fresh = [...wanted].filter(([key]) => !this.#watched.has(key));
    for (const [i, [key, target]] of fresh.entries()) {
      const dueMs = nowMs + (this.#intervalMs * i) / fresh.length;
      this.#watched.set(key, { target, state: "unknown", rttMs: undefined, misses: 0, dueMs, asked: undefined });
    }
  }

  /**
   * Who is to be asked now. Each is taken to have been asked.
   * @param newNonce a number that nobody can guess, in hex
   */
  ask(nowMs: number, newNonce: () => string): { readonly target: Target; readonly nonce: string }[] {
    const questions: { target: Target; nonce: string }[] = [];
    for (const watched of this.#watched.values()) {
      if (watched.dueMs > nowMs || watched.asked !== undefined) continue;
      const nonce = newNonce();
      watched.asked = { nonce, atMs: nowMs };
      watched.dueMs = nowMs + this.#intervalMs;
      this.#nonces.set(nonce, watched);
      questions.push({ target: watched.target, nonce });
    }
    return questions;
  }

  /**
   * An answer has come.
   * @param from canonical text: only the address that was asked may answer
   * @returns undefined when nobody asked for it; `news`: the target wasn't known to be reachable
   */
  answered(nonce: string, from: string, nowMs: number): { finding: Finding; news: boolean } | undefined {
    const watched = this.#nonces.get(nonce);
    if (watched?.asked === undefined || watched.target.address !== from) return undefined;
    this.#nonces.delete(nonce);
    watched.rttMs = nowMs - watched.asked.atMs;
    watched.asked = undefined;
    watched.misses = 0;
    const news = watched.state !== "reachable";
    watched.state = "reachable";
    return { finding: findingOf(watched), news };
  }

  /** Gives up on questions that were asked too long ago. @returns who is unreachable by that and was not before */
  expire(nowMs: number): Finding[] {
    const lost: Finding[] = [];
    for (const watched of this.#nonces.values()) {
      const { asked } = watched;
      if (asked === undefined || nowMs - asked.atMs < this.#timeoutMs) continue;
      this.#nonces.delete(asked.nonce);
      watched.asked = undefined;
      watched.misses++;
      if (watched.misses < MISSES || watched.state === "unreachable") continue;
      watched.state = "unreachable";
      lost.push(findingOf(watched));
    }
    return lost;
  }

  findings(): Finding[] {
    return [...this.#watched.values()].map(findingOf);
  }
}

function keyOf({ peer, kind, address }: Target): string {
  return `${peer} ${kind} ${address}`;
}

function findingOf({ target, state, rttMs, misses }: Watched): Finding {
  return { ...target, state, rttMs, misses };
}

/** What people should know of a target that doesn't answer, given the other findings of its peer. */
export function explain({ peer, kind, address }: Target, others: readonly Finding[]): string {
  const same = others.filter((other) => other.peer === peer && other.address.includes(":") === address.includes(":"));
  if (kind === "node") return `${peer} does not answer at its address ${address}`;
  // A node that has just fallen silent is still called reachable, but has missed a question as well.
  const nodeAnswers = same.some((other) => other.kind === "node" && other.state === "reachable" && other.misses === 0);
  if (!nodeAnswers) return `${peer} does not answer at ${address}, in its pods' subnet, nor at its own address`;
  return (
    `${peer} answers at its own address, but not at ${address}, in its pods' subnet: something on the way drops what isn't ` +
    "from or to a node (rp_filter, a firewall, a cloud's source and destination check)"
  );
}
