// SPDX-License-Identifier: Apache-2.0
//
// What is wrong on this node as a whole, in words for the cluster's operators, and when it is worth telling: once it lasts,
// when it is something else, and again while it stands, because the cluster forgets. Pure; time is an argument.
import type { SessionState } from "../bgp/state.ts";
import { formatPrefix } from "../net/prefix.ts";
import { explain, type Finding } from "../probe/tracker.ts";
import type { SubnetWay } from "../routes/reconciler.ts";

/** What a look at the daemon's own knowledge finds. */
export interface NodeView {
  /** How many nodes there are. */
  readonly nodes: number;
  /** Addresses that are held in no subnet of this node. */
  readonly strays: ReadonlySet<string>;
  /** The way to each subnet of each node. */
  readonly ways: readonly Pick<SubnetWay, "node" | "prefix" | "state" | "why">[];
  /** Whether peers answer; undefined when they aren't asked. */
  readonly findings: readonly Finding[] | undefined;
  /** The BGP sessions; undefined when routes aren't learned by BGP. */
  readonly sessions: readonly SessionState[] | undefined;
}

export interface Trouble {
  /** One word of the kind that programs look for. */
  readonly reason: string;
  readonly message: string;
}

/** How many of several are named. */
const NAMED = 3;

/** The reason of an Event for each state of a way that is no good one. */
const WAY_REASONS: Readonly<Partial<Record<string, string>>> = {
  conflict: "RouteConflict",
  diverted: "RouteConflict",
  refused: "RouteRefused",
  failed: "RouteFailed",
  "behind-router": "RouteFailed",
};

/** At most one of each reason, the same text for the same state. */
export function troublesOf({ strays, ways, findings = [], sessions = [] }: NodeView): Trouble[] {
  const troubles: Trouble[] = [];
  if (strays.size > 0) {
    const which = several([...strays].sort(), ", ");
    const message = `addresses are held that are in no subnet of this node any more, and other nodes have no route to them: ${which}`;
    troubles.push({ reason: "StrayAddresses", message });
  }
  const silent = findings.filter(({ state }) => state === "unreachable").map((finding) => explain(finding, findings));
  if (silent.length > 0) troubles.push({ reason: "PeerUnreachable", message: several(silent.sort(), "; ") });
  const down = sessions.filter(({ established }) => !established).map(({ id, info }) => `${id}: ${info}`);
  if (down.length > 0) troubles.push({ reason: "BgpSessionDown", message: several(down.sort(), "; ") });
  const bad = new Map<string, string[]>();
  for (const { node, prefix, state, why = state } of ways) {
    const reason = WAY_REASONS[state];
    if (reason === undefined) continue;
    const of = node === "" ? "" : ` of ${node}`;
    bad.set(reason, [...(bad.get(reason) ?? []), `${formatPrefix(prefix)}${of}: ${why}`]);
  }
  for (const [reason, texts] of bad) troubles.push({ reason, message: several(texts.sort(), "; ") });
  return troubles;
}

function several(texts: readonly string[], separator: string): string {
  const more = texts.length - NAMED;
  return [...texts.slice(0, NAMED), ...(more > 0 ? [`and ${more} more`] : [])].join(separator);
}

/** An API server keeps an Event for an hour by default. */
const AGAIN_MS = 3_000_000;
/** One node's end is seen by all others: so much time for each of them, in milliseconds, that they don't tell it all at once. */
export const SPREAD_MS = 200;

interface Known {
  readonly message: string;
  /** What was told last, and when; undefined before anything was. */
  readonly told: { readonly message: string; readonly atMs: number } | undefined;
  /** When what is not told yet is to be told. */
  readonly dueMs: number;
}

/** Remembers what was told. */
export class TroubleMemory {
  #known = new Map<string, Known>();

  /**
   * @param nodes how many of them there are in the cluster
   * @param random 0 to 1
   * @returns what is to be told now, of what a look found
   */
  news(found: readonly Trouble[], nowMs: number, nodes: number, random: () => number): Trouble[] {
    const before = this.#known;
    this.#known = new Map();
    const due = () => nowMs + random() * nodes * SPREAD_MS;
    return found.filter(({ reason, message }) => {
      const known = before.get(reason);
      if (known === undefined) {
        // What only one look has found may be over before anybody could do something about it.
        this.#known.set(reason, { message, told: undefined, dueMs: due() });
        return false;
      }
      const { told } = known;
      const changed = told !== undefined && message !== told.message;
      const wasChanged = told !== undefined && known.message !== told.message;
      const old = told !== undefined && (nowMs - told.atMs >= AGAIN_MS || nowMs < told.atMs);
      const dueMs = changed && !wasChanged ? due() : known.dueMs;
      const tell = old || ((told === undefined || changed) && nowMs >= dueMs);
      this.#known.set(reason, { message, told: tell ? { message, atMs: nowMs } : told, dueMs });
      return tell;
    });
  }
}
