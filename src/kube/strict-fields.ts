// SPDX-License-Identifier: Apache-2.0
//
// Objects whose meaning changes with a field that isn't known: policies. Nothing of them is read over. Pure.

/** Something that can't be used. The message is a sentence for people, with field and value. */
export class Unusable extends Error {
  override readonly name = "Unusable";
}

export type Fields = Readonly<Record<string, unknown>>;

/**
 * The object's fields; those that are null are absent, as the API has it.
 * @param known undefined: any
 * @throws Unusable where it is no object, or has a field that isn't known
 */
export function strictFields(raw: unknown, at: string, known?: readonly string[]): Fields {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw))
    throw new Unusable(`${at} is ${show(raw)}, no object`);
  const fields = Object.entries(raw).filter(([, value]) => value !== null && value !== undefined);
  for (const [name] of fields) {
    if (known !== undefined && !known.includes(name))
      throw new Unusable(`${at} has the field ${show(name)}, which isn't known`);
  }
  // Without a prototype, so that no field is there but those that were written.
  return Object.assign(Object.create(null) as object, Object.fromEntries(fields)) as Fields;
}

/** @throws Unusable */
export function strictList(raw: unknown, at: string): readonly unknown[] {
  if (!Array.isArray(raw)) throw new Unusable(`${at} is ${show(raw)}, no list`);
  return raw;
}

/** @throws Unusable */
export function strictText(raw: unknown, at: string): string {
  if (typeof raw !== "string") throw new Unusable(`${at} is ${show(raw)}, no text`);
  return raw;
}

/** @throws Unusable */
export function strictPort(raw: unknown, at: string): number {
  if (typeof raw !== "number" || !Number.isInteger(raw) || raw < 1 || raw > 65_535) {
    throw new Unusable(`${at} is ${show(raw)}; it must be 1 to 65535`);
  }
  return raw;
}

const SHOWN = 100;

/** A value for people, of bounded length. */
export function show(value: unknown): string {
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object";
  const text = JSON.stringify(typeof value === "string" ? value.slice(0, SHOWN + 1) : value) ?? "undefined";
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

/** What was wrong, a sentence each, and how much of an object was read: both are bounded, whatever somebody writes into one. */
export class Reading {
  readonly #problems: string[] = [];
  #more = 0;
  #left: number;

  /** @param items most rules, peers, ports and requirements together */
  constructor(items: number) {
    this.#left = items;
  }

  /** Counts one item. @throws Unusable when there were too many */
  take(at: string): void {
    if (this.#left <= 0) throw new Unusable(`${at} is beyond what is read of one object`);
    this.#left--;
  }

  /** @returns undefined where what is read is unusable, which is noted */
  try<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof Unusable)) throw error;
      this.note(error.message);
      return undefined;
    }
  }

  note(problem: string): void {
    if (this.#problems.length < MOST_PROBLEMS) this.#problems.push(problem);
    else this.#more++;
  }

  get problems(): readonly string[] {
    return this.#more === 0 ? this.#problems : [...this.#problems, `and ${this.#more} more`];
  }
}

const MOST_PROBLEMS = 10;
