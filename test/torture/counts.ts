// SPDX-License-Identifier: Apache-2.0
//
// What a run has done, and its report.

import { DAEMON_FAULTS, PLUGIN_FAULTS } from "../../src/net/fault.ts";

/** How a verb ended, for the table. */
export type Ending = "succeeded" | "refused" | "killed";

export class Counts {
  rounds = 0;
  readonly #verbs = new Map<string, Record<Ending, number>>();
  readonly #events = new Map<string, number>();
  #faults: ReadonlyMap<string, number> = new Map();

  verb(name: string, ending: Ending): void {
    const row = this.#verbs.get(name) ?? { succeeded: 0, refused: 0, killed: 0 };
    row[ending]++;
    this.#verbs.set(name, row);
  }

  event(name: string, times = 1): void {
    this.#events.set(name, (this.#events.get(name) ?? 0) + times);
  }

  /** @param log the file in which the programs leave the name of each fault point they end at */
  readFaults(log: string): void {
    const faults = new Map<string, number>();
    for (const name of log.split("\n")) if (name !== "") faults.set(name, (faults.get(name) ?? 0) + 1);
    this.#faults = faults;
  }

  hits(point: string): number {
    return this.#faults.get(point) ?? 0;
  }

  get operations(): number {
    return [...this.#verbs.values()].reduce((sum, row) => sum + row.succeeded + row.refused + row.killed, 0);
  }

  /** Processes that were ended by SIGKILL, at random and at fault points. */
  get kills(): number {
    const plugins = [...this.#verbs.values()].reduce((sum, { killed }) => sum + killed, 0);
    const daemonFaults = DAEMON_FAULTS.reduce((sum, name) => sum + this.hits(name), 0);
    return plugins + daemonFaults + this.times("daemon killed at random");
  }

  /** Ends at fault points. */
  get faults(): number {
    return [...this.#faults.values()].reduce((sum, times) => sum + times, 0);
  }

  times(event: string): number {
    return this.#events.get(event) ?? 0;
  }

  neverHit(): string[] {
    return [...PLUGIN_FAULTS, ...DAEMON_FAULTS].filter((name) => this.hits(name) === 0);
  }

  /** The report, a line an item. */
  lines(violations: number): string[] {
    const cell = (value: number) => `${value}`.padStart(10);
    const verbs = [...this.#verbs].sort(([a], [b]) => (a < b ? -1 : 1));
    const never = this.neverHit();
    return [
      `${"".padEnd(34)} succeeded   refused    killed`,
      ...verbs.map(([name, row]) => name.padEnd(34) + cell(row.succeeded) + cell(row.refused) + cell(row.killed)),
      "",
      ...[...this.#events].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, times]) => name.padEnd(44) + cell(times)),
      "",
      ...[...PLUGIN_FAULTS, ...DAEMON_FAULTS].map((name) => `SIGKILL at ${name}`.padEnd(44) + cell(this.hits(name))),
      "",
      never.length === 0 ? "every fault point was hit" : `never hit: ${never.join(", ")}`,
      `${this.rounds} rounds, ${this.operations} operations, ${this.kills} kills, ${this.faults} of them at fault points, ` +
        `${violations} violations`,
    ];
  }
}
