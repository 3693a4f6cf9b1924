// SPDX-License-Identifier: Apache-2.0
import type { ObjectKey } from "./objects.ts";

/** What became of one object. Never both undefined; an object that only was written again is no change. */
export interface Change<T> {
  readonly key: ObjectKey;
  readonly before: T | undefined;
  readonly after: T | undefined;
}

/**
 * The objects of one kind, as far as they are known. "unknown": nothing is known yet, so nothing may be concluded from what is
 * missing. "restored": as they were when the API server was last heard of, from this node's disk. "synced": a full list has
 * been read since the daemon started. It never goes back: without an API server what was last known stands.
 */
export interface Collection<T> {
  readonly state: "unknown" | "restored" | "synced";
  readonly objects: ReadonlyMap<ObjectKey, T>;
  /** When the API server last confirmed what is known (a list, an event, a bookmark), ms since 1970; undefined: never. */
  readonly confirmedAtMs: number | undefined;
  /** Why it may be old, for people; undefined when it isn't. */
  readonly problem: string | undefined;
  /** Calls `onChange` after each change of objects, state or problem, with what changed of the objects. */
  subscribe(onChange: (changes: readonly Change<T>[]) => void): { close(): void };
}
