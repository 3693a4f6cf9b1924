// SPDX-License-Identifier: Apache-2.0
//
// Gathers the evidence: has every end answer probes, has every end probe the others, and hands what came of it to the
// judgement.
import { type Cell, planCells } from "./cells.ts";
import { inParallel } from "./concurrency.ts";
import { LabError } from "./errors.ts";
import type { LabHost } from "./host-client.ts";
import type { Target } from "./probe.ts";
import { addressOf, familiesOf, type Topology } from "./topology.ts";
import { type Failure, judgeCell, type Outcome } from "./verdict.ts";

/** The same port at every end, so that a redirected probe is answered by whoever got it, and named. */
const PROBE_PORT = 10070;
const PROBE_TIMEOUT_MS = 1000;
/** Ends that probe at once. */
const HOSTS_AT_ONCE = 8;

export interface Proof {
  readonly cells: readonly Cell[];
  /** In the order of the cells. */
  readonly failures: readonly Failure[];
  /** Cells that were answered only when they were probed a second time. */
  readonly late: number;
}

/**
 * Probes every cell of the topology. One that got no answer is probed a second time when all others are done, so that a
 * busy machine is not taken for a broken network.
 * @param hosts a lab host for each node and pod, by name.
 */
export async function prove(
  topology: Topology,
  hosts: ReadonlyMap<string, LabHost>,
  onProgress: (done: number, all: number) => void,
): Promise<Proof> {
  const families = familiesOf(topology.family);
  await inParallel([...hosts.values()], HOSTS_AT_ONCE, (host) => host.listen(PROBE_PORT, families));
  const cells = planCells(topology);
  const outcomes = new Array<Outcome>(cells.length);
  let done = 0;
  await probeCells(
    cells.map((_, index) => index),
    cells,
    outcomes,
    hosts,
    () => onProgress(++done, cells.length),
  );
  const unanswered = outcomes.flatMap((outcome, index) => (outcome.kind === "failed" ? [index] : []));
  await probeCells(unanswered, cells, outcomes, hosts, () => {});
  const failures = cells.flatMap((cell, index) => judgeCell(cell, outcomes[index] as Outcome) ?? []);
  const late = unanswered.filter((index) => outcomes[index]?.kind === "answered").length;
  return { cells, failures, late };
}

/** Fills in the outcomes of the cells with these indexes. */
async function probeCells(
  indexes: readonly number[],
  cells: readonly Cell[],
  outcomes: Outcome[],
  hosts: ReadonlyMap<string, LabHost>,
  onProbed: () => void,
): Promise<void> {
  const bySender = new Map<string, { index: number; target: Target }[]>();
  for (const index of indexes) {
    const { from, to, family, protocol } = cells[index] as Cell;
    const address = addressOf(to, family);
    if (address === undefined) {
      outcomes[index] = { kind: "failed", error: `${to.name} has no IPv${family} address` };
      onProbed();
      continue;
    }
    const list = bySender.get(from.name) ?? [];
    bySender.set(from.name, list);
    list.push({ index, target: { address, port: PROBE_PORT, family, protocol } });
  }
  await inParallel([...bySender], HOSTS_AT_ONCE, async ([sender, list]) => {
    const host = hosts.get(sender);
    if (host === undefined) throw new LabError("LAB_HOST_FAILED", `there is no process in ${sender}`);
    const answered: { index: number; result: Extract<Outcome, { kind: "answered" }> }[] = [];
    const own = await host.probe(
      list.map(({ target }) => target),
      PROBE_TIMEOUT_MS,
      (at, result) => {
        const { index } = list[at] as { index: number };
        if (result.kind === "failed") outcomes[index] = result;
        else answered.push({ index, result: { ...result, own: [] } });
        onProbed();
      },
    );
    for (const { index, result } of answered) outcomes[index] = { ...result, own };
  });
}
