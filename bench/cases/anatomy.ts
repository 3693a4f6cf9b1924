// SPDX-License-Identifier: Apache-2.0
//
// Where the time of one ADD goes: what a start costs, with more and more in it, and what each step takes. The peer of all is a whole ADD
// of the reference plugins, so that every ratio is a share of the same thing.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { bundleModule } from "../../scripts/pack/plugin.ts";
import { linkModule } from "../../scripts/pack/quickjs.ts";
import { hostArch } from "../../scripts/pack/runtimes.ts";
import { mustRun } from "../../scripts/repo.ts";
import type { Pod } from "../../test/helpers/plugin.ts";
import { type Bench, type Case, SETTLE_MS } from "../bench.ts";
import type { Measured, Operation, Step } from "../operation.ts";
import type { Row } from "../samples.ts";

const PEER = "ADD of ptp + host-local";

/** The steps of an ADD, by the marks that they end with, and what happens in each. */
const STEPS = [
  ["plugin.add-begun", "ADD: configuration read and checked"],
  ["plugin.allocated", "ADD: the daemon's answer, with its fsync"],
  ["plugin.link-made", "ADD: both ends made, one request"],
  ["plugin.pod-end-made", "ADD: the pod's end, one request"],
  ["plugin.host-end-made", "ADD: the host's end, one request"],
  ["plugin.result-printed", "ADD: result made and printed"],
] as const;

/** Programs that a start is taken apart with, each with more in it than the one before. */
interface Programs {
  readonly nothing: string;
  readonly engine: string;
  readonly marked: string;
}

async function build(directory: string): Promise<Programs> {
  const program = (name: string) => join(directory, name);
  await mustRun("cc", ["-O2", "-static", "bench/anatomy/nothing.c", "-o", program("nothing")]);
  for (const [name, entry] of [
    ["engine", "bench/anatomy/nothing.ts"],
    ["marked", "bench/anatomy/plugin.ts"],
  ] as const) {
    const module = program(`${name}.js`);
    await bundleModule(entry, "faults", module);
    await linkModule(module, hostArch(), [], directory, program(name));
  }
  return { nothing: program("nothing"), engine: program("engine"), marked: program("marked") };
}

/** The operation with another program in the plugin's place. */
function withProgram(operation: Operation, program: string, env: Step["env"] = {}): Operation {
  return {
    ...operation,
    steps: operation.steps.map((step) => ({ ...step, argv: [program], env: { ...step.env, ...env } })),
  };
}

export const anatomyCases: readonly Case[] = [
  {
    id: "anatomy",
    title: "Where the time of one ADD goes",
    async run(bench: Bench): Promise<Row[]> {
      const { node, worker, ours, peer } = await bench.node([4]);
      const [pod, other] = (await bench.pods(2)) as [Pod, Pod];
      const { nothing, engine, marked } = await build(node.directory);
      const marksFile = join(node.directory, "marks.json");
      const figures = new Map<string, number[]>();
      const note = (what: string, value: number) => figures.set(what, [...(figures.get(what) ?? []), value]);
      const reference: Measured[] = [];

      const own = async (counts: boolean) => {
        const version = ours.operation("VERSION", pod);
        const starts = [
          ["start: a static program that does nothing", await worker.one(withProgram(version, nothing))],
          ["start: with the engine", await worker.one(withProgram(version, engine))],
          ["start: with the plugin's module, VERSION", await worker.one(version)],
        ] as const;
        const add = withProgram(ours.operation("ADD", pod), marked, { FLATNET_MARKS: marksFile });
        const added = await worker.one(add);
        await worker.one(ours.operation("DEL", pod, {}, JSON.parse(added.output)));
        if (!counts) return;
        for (const [what, { wallMs, cpuMs }] of starts) {
          note(`${what}: wall`, wallMs);
          note(`${what}: CPU`, cpuMs);
        }
        const marks = new Map<string, number>(JSON.parse(readFileSync(marksFile, "utf8")));
        let before = 0;
        for (const [mark, what] of STEPS) {
          const at = marks.get(mark) as number;
          note(what, at - before);
          before = at;
        }
        note("ADD: before its first line and after its last", added.wallMs - before);
      };
      const theirs = async (counts: boolean) => {
        const added = await worker.one(peer.operation("ADD", other));
        await worker.one(peer.operation("DEL", other, {}, JSON.parse(added.output)));
        if (counts) reference.push(added);
      };
      for (let run = -3; run < bench.runs; run++) {
        await setTimeout(SETTLE_MS);
        await own(run >= 0);
        await setTimeout(SETTLE_MS);
        await theirs(run >= 0);
      }
      return [...figures].map(([what, values]) => ({
        what,
        unit: "ms",
        ours: values,
        peer: reference.map(what.endsWith("CPU") ? ({ cpuMs }) => cpuMs : ({ wallMs }) => wallMs),
        peerName: PEER,
      }));
    },
  },
];
