// SPDX-License-Identifier: Apache-2.0
//
// Part of the fault build only: arms the steps named in the environment and puts a wall clock in place that can be set.
//
//   FLATNET_FAULTS       "plugin.link-made,daemon.batch-written:0.01": where to end by SIGKILL, and with which probability
//   FLATNET_FAULTS_LOG   a file that gets a line with the step's name before that
//   FLATNET_CLOCK        a file with the milliseconds by which the wall clock is off; none is 0
import type { FaultPoint } from "../../net/fault.ts";

/** For so long, in milliseconds, the clock's file is not read again: what looks at the clock does so often. */
const CLOCK_CACHED_MS = 20;

/** What the program's runtime does for faults. */
export interface FaultWorld {
  readonly env: Readonly<Record<string, string | undefined>>;
  append(path: string, text: string): void;
  /** A small file's text; throws where there is none. */
  read(path: string): string;
  /** A monotonic clock in milliseconds. */
  now(): number;
  /** SIGKILL to this process. */
  kill(): void;
}

function armFaults(world: FaultWorld, armed: string, log: string | undefined): void {
  const points = new Map(
    armed.split(",").map((entry) => {
      const [name = "", probability = "1"] = entry.split(":");
      return [name, Number(probability)] as const;
    }),
  );
  globalThis.faultPoint = (name: FaultPoint) => {
    if (Math.random() >= (points.get(name) ?? 0)) return;
    if (log !== undefined) world.append(log, `${name}\n`);
    world.kill();
  };
}

function replaceClock(world: FaultWorld, file: string): void {
  const RealDate = Date;
  let offsetMs = 0;
  let readAt = Number.NEGATIVE_INFINITY;
  const now = () => {
    if (world.now() - readAt > CLOCK_CACHED_MS) {
      readAt = world.now();
      try {
        offsetMs = Number(world.read(file));
      } catch {
        offsetMs = 0;
      }
    }
    return RealDate.now() + offsetMs;
  };
  globalThis.Date = class extends RealDate {
    constructor(...args: []) {
      if (args.length === 0) super(now());
      else super(...args);
    }
    static override now() {
      return now();
    }
  } as DateConstructor;
}

/** Does what the environment asks for. */
export function arm(world: FaultWorld): void {
  const { FLATNET_FAULTS, FLATNET_FAULTS_LOG, FLATNET_CLOCK } = world.env;
  if (FLATNET_FAULTS !== undefined) armFaults(world, FLATNET_FAULTS, FLATNET_FAULTS_LOG);
  if (FLATNET_CLOCK !== undefined) replaceClock(world, FLATNET_CLOCK);
}
