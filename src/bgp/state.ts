// SPDX-License-Identifier: Apache-2.0
//
// What BIRD says of its sessions, and what of that is news. Pure.
import type { Reply } from "./control.ts";
import { describeSession, type Session } from "./sessions.ts";

/** A session as BIRD has it now. */
export interface SessionState {
  readonly id: string;
  readonly established: boolean;
  /** In BIRD's words: "Established", "Active Socket: Connection refused". */
  readonly info: string;
}

/** The sessions in the reply to `show protocols`: name, protocol, table, state, since, and info. */
export function parseProtocols({ lines }: Reply): SessionState[] {
  return lines.flatMap(({ code, text }) => {
    const [id = "", protocol, , , , ...info] = text.trim().split(/\s+/);
    if (code !== 1002 || protocol !== "BGP") return [];
    return [{ id, established: info[0] === "Established", info: info.join(" ") }];
  });
}

/** How many looks a session may take to come up before it is news that it hasn't. */
const PATIENCE = 5;

export interface News {
  readonly level: "info" | "warn";
  readonly text: string;
}

interface Seen {
  readonly established: boolean;
  /** How many looks in a row it has been so. */
  readonly looks: number;
}

/**
 * Tells the changes of sessions from one look to the next: up, down with the reason, not up after a while.
 */
export class SessionWatch {
  #seen = new Map<string, Seen>();

  /** @returns a sentence for each session that has changed since the last look */
  look(sessions: readonly Session[], states: readonly SessionState[]): News[] {
    const byId = new Map(states.map((state) => [state.id, state]));
    const seen = new Map<string, Seen>();
    const news = sessions.flatMap((session): News[] => {
      const { established = false, info = "not in BIRD" } = byId.get(session.id) ?? {};
      const before = this.#seen.get(session.id);
      const looks = before !== undefined && before.established === established ? before.looks + 1 : 1;
      seen.set(session.id, { established, looks });
      const who = describeSession(session);
      if (established) return looks === 1 ? [{ level: "info", text: `BGP with ${who} is up` }] : [];
      if (before?.established === true) return [{ level: "warn", text: `BGP with ${who} went down: ${explain(info)}` }];
      return looks === PATIENCE ? [{ level: "warn", text: `BGP with ${who} is not up: ${explain(info)}` }] : [];
    });
    this.#seen = seen;
    return news;
  }
}

/** BIRD says nothing more than that it doesn't even try. */
function explain(info: string): string {
  return info === "Idle"
    ? "its address is on none of this node's links; a router between the two has to be a peer"
    : info;
}

/** The numbers of `show route count`: what BIRD knows in all, for telling one state of its tables from another. */
export function parseRouteCount({ lines }: Reply): string {
  return lines.map(({ text }) => text).join("; ");
}
