// SPDX-License-Identifier: Apache-2.0
//
// What flatnet is held to: each budget beside the row that says whether it is kept. Pure.
import type { Budget, Row } from "./samples.ts";

export interface Held {
  /** The case, and the name of its row. */
  readonly id: string;
  readonly what: string;
  readonly budget: Budget;
}

export const BUDGETS: readonly Held[] = [
  { id: "add", what: "ADD: wall", budget: { atMost: 0.7 } },
  { id: "add", what: "ADD: CPU", budget: { atMost: 0.7 } },
  { id: "add-full", what: "ADD, hostPort + limit: wall", budget: { atMost: 0.35 } },
  { id: "add", what: "DEL: wall", budget: { atMost: 1 } },
  { id: "burst-32", what: "DEL, 32 in flight: rate", budget: { atLeast: 5 } },
  { id: "status", what: "STATUS: CPU", budget: { oursAtMost: 8 } },
  { id: "status", what: "VERSION: CPU", budget: { oursAtMost: 8 } },
  { id: "burst-8", what: "ADD, 8 in flight: rate", budget: { atLeast: 1.3 } },
  { id: "burst-8", what: "DEL, 8 in flight: rate", budget: { atLeast: 1.3 } },
  { id: "ipam", what: "allocate, one client: rate", budget: { oursAtLeast: 2000 } },
  { id: "ipam", what: "allocate, 32 in flight: rate", budget: { oursAtLeast: 10_000 } },
  { id: "routes", what: "first sync of 10,000 routes, and ip -batch", budget: { oursAtMost: 1000 } },
  {
    id: "routes",
    what: "one node of 5,000 changes, by a source that knows which, and ip -batch",
    budget: { oursAtMost: 5 },
  },
  { id: "daemon", what: "daemon: resident memory after the start", budget: { oursAtMost: 70 } },
  {
    id: "routes-memory",
    what: "daemon: resident memory with 5,000 nodes, half a minute later",
    budget: { oursAtMost: 120 },
  },
  {
    id: "kubernetes",
    what: "kubernetes: resident memory with 250 pods while nodes report",
    budget: { oursAtMost: 120 },
  },
  { id: "daemon", what: "daemon: start to serving", budget: { oursAtMost: 300 } },
  { id: "traffic", what: "one TCP stream", budget: { atLeast: 1 } },
  { id: "traffic", what: "TCP round trip", budget: { atMost: 1 } },
];

/**
 * The rows of a case with their budgets.
 * @throws Error when a budget is of a row that the case doesn't have
 */
export function withBudgets(id: string, rows: readonly Row[], budgets: readonly Held[] = BUDGETS): Row[] {
  const held = new Map(budgets.filter((one) => one.id === id).map(({ what, budget }) => [what, budget]));
  const budgeted = rows.map((row) => {
    const budget = held.get(row.what);
    held.delete(row.what);
    return budget === undefined ? row : { ...row, budget };
  });
  for (const what of held.keys()) throw new Error(`the case ${id} has no row "${what}" that a budget is for`);
  return budgeted;
}
