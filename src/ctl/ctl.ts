// SPDX-License-Identifier: Apache-2.0
//
// The operator's commands: `flatnetctl COMMAND …`. Each command is a module of its own, loaded when it is asked for.
import type { Readable, Writable } from "node:stream";
import type { LabWorld } from "../lab/lab.ts";

const USAGE = `usage: flatnetctl COMMAND [options]

  lab     a cluster of network namespaces on this machine, and the proof that its network is flat
`;

/** What the commands see of the outside. */
export interface CtlWorld extends LabWorld {
  readonly stdin: Readable;
  readonly stdout: LabWorld["stdout"] & Writable;
}

/** @returns the exit status; 2 for a command there is none of */
export async function runCtl(args: readonly string[], world: CtlWorld): Promise<number> {
  const [command, ...rest] = args;
  switch (command) {
    case "lab":
      return (await import("../lab/lab.ts")).runLab(rest, world);
    case "lab-host":
      return (await import("../lab/host.ts")).runLabHost(rest[0] ?? "", world.stdin, world.stdout);
    case undefined:
    case "help":
    case "--help":
    case "-h":
      world.stdout.write(USAGE);
      return command === undefined ? 2 : 0;
    default:
      world.stderr.write(`flatnetctl: there is no command ${JSON.stringify(command)}\n${USAGE}`);
      return 2;
  }
}
